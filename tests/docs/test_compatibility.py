"""What docs/compatibility.md says of each name of the vocabulary is so."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core_engine.client import get_client
from core_engine.flows import flow
from core_engine.settings import Settings
from core_engine.vocabulary import VocabularyModule, vocabulary

ROOT = Path(__file__).parents[2]
MODULES = list(vocabulary().values())
PRESENT = pytest.mark.parametrize(
    "module", [module for module in MODULES if module.instead is None], ids=lambda module: module.place
)
ABSENT = pytest.mark.parametrize(
    "module", [module for module in MODULES if module.instead is not None], ids=lambda module: module.place
)


def is_class(place: str) -> bool:
    return place.rpartition(".")[2][0].isupper()


def owner(place: str) -> Any:
    """A module, or for a class an object of it whose attributes can be asked for."""
    if not is_class(place):
        return importlib.import_module(place)
    if place == "core_engine.flows.Flow":
        return flow(lambda: None)
    if place == "core_engine.client.EmbeddedClient":
        return get_client()
    module, _, name = place.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_the_page_is_made_of_the_table():
    done = subprocess.run(
        [sys.executable, "scripts/compatibility.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.behaviour("D34")
@PRESENT
def test_the_names_that_are_said_to_be_here_are(module: VocabularyModule):
    found = owner(module.place)
    for name in module.here:
        assert hasattr(found, name), name
        if not is_class(module.place):
            exec(f"from {module.place} import {name}", {})


@pytest.mark.behaviour("D34")
@PRESENT
def test_each_other_name_says_what_to_use_instead(module: VocabularyModule):
    found = owner(module.place)
    for name, text in {**module.absent, **module.renamed}.items():
        said = f"Here it is {text}." if name in module.renamed else f"Instead: {text}."
        assert not hasattr(found, name), name
        with pytest.raises(AttributeError) as asked:
            getattr(found, name)
        assert said in str(asked.value)
        if not is_class(module.place):
            with pytest.raises(ImportError) as imported:
                exec(f"from {module.place} import {name}", {})
            assert said in str(imported.value)
    for other in module.renamed.values():
        place, _, attribute = other.rpartition(".")
        assert hasattr(importlib.import_module(place), attribute), other


@pytest.mark.behaviour("D34")
@ABSENT
def test_a_module_that_is_not_here_says_what_to_use_instead(module: VocabularyModule):
    package, _, name = module.place.rpartition(".")
    imports = [f"import {module.place}", f"from {module.place} import anything", f"from {package} import {name}"]
    for statement in imports:
        with pytest.raises(ImportError) as caught:
            exec(statement, {})
        assert f"Instead: {module.instead}." in str(caught.value), statement


@pytest.mark.behaviour("D34")
def test_a_name_that_nobody_knows_gets_the_nearest_one_or_the_list():
    with pytest.raises(ImportError, match="cannot import name 'Compelted' from 'core_engine.states'.*'Completed'"):
        exec("from core_engine.states import Compelted", {})
    with pytest.raises(ImportError, match="docs/compatibility.md"):
        exec("from core_engine.states import something_else_entirely", {})
    with pytest.raises(AttributeError, match="'core_engine.tasks' has no attribute 'tusk'"):
        importlib.import_module("core_engine.tasks").tusk
    with pytest.raises(ModuleNotFoundError, match="No module named 'core_engine.nothing'"):
        importlib.import_module("core_engine.nothing")


@pytest.mark.behaviour("D34")
@pytest.mark.parametrize("name", ["logging_level", "home"])
def test_a_setting_is_said_to_be_a_field(name: str):
    assert name in Settings.model_fields
    with pytest.raises(ImportError, match=rf"get_current_settings\(\)\.{name}"):
        exec(f"from core_engine.settings import PREFECT_{name.upper()}", {})
    with pytest.raises(ImportError, match="There is no setting API_TLS_INSECURE_SKIP_VERIFY"):
        exec("from core_engine.settings import PREFECT_API_TLS_INSECURE_SKIP_VERIFY", {})


def test_modules_of_others_are_looked_for_as_ever():
    with pytest.raises(ModuleNotFoundError, match="No module named 'prefect_blocks_of_nobody'"):
        importlib.import_module("prefect_blocks_of_nobody")
