"""What the installed distribution promises: names, versions, entry points, files."""

import importlib
import sys
from importlib.metadata import EntryPoint, distribution
from pathlib import Path

import pytest

import core_engine

ROOT = Path(__file__).parents[2]
RUNNER_GROUP = "core_engine.task_runners"


def entry_points_of_ours() -> list[EntryPoint]:
    return list(distribution("core-engine").entry_points)


def test_the_version_is_the_same_in_the_package_and_in_its_metadata() -> None:
    assert core_engine.__version__ == distribution("core-engine").version


@pytest.mark.parametrize(
    "entry_point", entry_points_of_ours(), ids=lambda entry_point: f"{entry_point.group}-{entry_point.name}"
)
def test_every_entry_point_resolves(entry_point: EntryPoint) -> None:
    assert callable(entry_point.load())


def test_the_embedded_runners_are_registered() -> None:
    names = {entry_point.name for entry_point in entry_points_of_ours() if entry_point.group == RUNNER_GROUP}
    assert {"sequential", "concurrent"} <= names


def test_the_command_is_installed() -> None:
    commands = [entry_point.name for entry_point in entry_points_of_ours() if entry_point.group == "console_scripts"]
    assert commands == ["core-engine"]


@pytest.mark.parametrize("package", ["core_engine", "runners"])
def test_the_packages_say_that_they_are_typed(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).with_name("py.typed").exists()


def test_the_folder_of_the_runners_is_not_on_the_import_path() -> None:
    runners = ROOT / "runners"
    inside = [entry for entry in sys.path if entry and Path(entry).resolve().is_relative_to(runners)]
    assert inside == [], "packages of runners/ would shadow the standard library's and the cluster libraries'"


def test_the_standard_library_is_not_shadowed_by_a_runner() -> None:
    futures = importlib.import_module("concurrent.futures")
    assert ROOT not in Path(futures.__file__ or "").parents or ".venv" in Path(futures.__file__ or "").parts
