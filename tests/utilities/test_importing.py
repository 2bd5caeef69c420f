import collections
import inspect
import json
import pickle
import sys

import cloudpickle
import pytest

from core_engine.exceptions import ScriptError
from core_engine.utilities.importing import (
    import_object,
    is_script_module,
    load_script_as_module,
    to_qualified_name,
)


@pytest.fixture(autouse=True)
def no_script_is_left_loaded():
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if is_script_module(name):
            del sys.modules[name]


def script(folder, text, name="my_script.py"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("json", json),
        ("json.loads", json.loads),
        ("json:loads", json.loads),
        ("json.decoder", json.decoder),
        ("json.decoder.JSONDecoder.decode", json.JSONDecoder.decode),
        ("json.decoder:JSONDecoder.decode", json.JSONDecoder.decode),
        ("collections.OrderedDict", collections.OrderedDict),
    ],
)
def test_objects_are_imported_by_their_names(name, expected):
    assert import_object(name) is expected


@pytest.mark.parametrize("obj", [json, json.loads, json.JSONDecoder, json.JSONDecoder.decode])
def test_the_qualified_name_leads_back_to_the_object(obj):
    assert import_object(to_qualified_name(obj)) is obj


@pytest.mark.parametrize("name", ["json.missing", "json:missing", "json.decoder.JSONDecoder.missing"])
def test_a_missing_attribute_is_named(name):
    with pytest.raises(AttributeError, match=f"{name}.*missing"):
        import_object(name)


@pytest.mark.parametrize("name", ["no_such_module", "no_such_module.x", "no_such_module:x", "json.no.x:y"])
def test_a_missing_module_is_named(name):
    with pytest.raises(ModuleNotFoundError, match=r"no_such_module|json\.no"):
        import_object(name)


def test_a_module_that_lacks_one_of_its_own_imports_is_not_taken_for_an_attribute(tmp_path, monkeypatch):
    script(tmp_path, "import no_such_dependency\n", "needy_module.py")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        import_object("needy_module.x")


@pytest.mark.behaviour("FLOW-LOAD-1")
def test_objects_are_imported_from_scripts(tmp_path):
    path = script(tmp_path, "class C:\n    value = 5\n")
    assert import_object(f"{path}:C.value") == 5


def test_a_script_runs_as_a_module_of_its_own_with_its_main_guard_closed(tmp_path):
    path = script(tmp_path, "x = 1\nif __name__ == '__main__':\n    x = 2\n")
    module = load_script_as_module(path)
    assert module.x == 1
    assert module.__file__ == str(path)
    assert sys.modules[module.__name__] is module
    assert is_script_module(module.__name__)
    assert not is_script_module("json")


def test_loading_again_executes_again(tmp_path):
    path = script(tmp_path, "x = object()\n")
    first, second = load_script_as_module(path), load_script_as_module(str(path))
    assert first.__name__ != second.__name__
    assert first.x is not second.x
    path.write_text("x = 'changed, and of another length'\n")
    assert load_script_as_module(path).x.startswith("changed")


def test_a_script_can_import_from_its_folder_and_leaves_the_path_as_it_was(tmp_path, monkeypatch):
    script(tmp_path, "value = 7\n", "sibling_of_script.py")
    path = script(tmp_path, "from sibling_of_script import value\n")
    before = list(sys.path)
    assert load_script_as_module(path).value == 7
    assert sys.path == before
    del sys.modules["sibling_of_script"]


def test_dataclasses_sources_and_pickling_work_in_scripts(tmp_path):
    path = script(
        tmp_path,
        "from __future__ import annotations\n"
        "import dataclasses\n"
        "@dataclasses.dataclass\n"
        "class C:\n"
        "    x: int\n"
        "def f():\n"
        "    return 'found'\n",
    )
    module = load_script_as_module(path)
    assert "return 'found'" in inspect.getsource(module.f)
    assert pickle.loads(pickle.dumps(module.C(1))) == module.C(1)


@pytest.mark.behaviour("D21")
def test_functions_of_scripts_can_travel_by_value(tmp_path):
    module = load_script_as_module(script(tmp_path, "def f():\n    return 'travelled'\n"))
    cloudpickle.register_pickle_by_value(module)
    data = cloudpickle.dumps(module.f)
    cloudpickle.unregister_pickle_by_value(module)
    del sys.modules[module.__name__]
    assert cloudpickle.loads(data)() == "travelled"


@pytest.mark.behaviour("FLOW-LOAD-7")
@pytest.mark.parametrize("text", ["raise KeyError('bad')", "def broken(:", "import no_such_dependency"])
def test_a_script_that_fails_is_reported_with_path_and_cause_and_not_kept(tmp_path, text):
    path = script(tmp_path, text)
    before = set(sys.modules)
    with pytest.raises(ScriptError, match="my_script") as raised:
        load_script_as_module(path)
    assert raised.value.path == str(path)
    assert raised.value.__cause__ is not None
    assert type(raised.value.__cause__).__name__ in str(raised.value)
    assert set(sys.modules) == before
    assert str(tmp_path) not in sys.path


def test_the_report_of_a_script_that_fails_names_its_line(tmp_path):
    path = script(tmp_path, "import json\n\njson.loads('{')\n")
    with pytest.raises(ScriptError, match=r"JSONDecodeError.*\(my_script\.py, line 3\)$"):
        load_script_as_module(path)


def test_a_script_that_is_not_there_is_reported(tmp_path):
    with pytest.raises(ScriptError, match="FileNotFoundError"):
        load_script_as_module(tmp_path / "missing.py")


def test_a_script_that_leaves_is_not_kept(tmp_path):
    path = script(tmp_path, "raise SystemExit(3)")
    before = set(sys.modules)
    with pytest.raises(SystemExit):
        load_script_as_module(path)
    assert set(sys.modules) == before
