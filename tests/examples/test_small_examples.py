"""The small examples, on each task runner of this process, and as scripts."""

import asyncio
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from core_engine import Flow, get_client
from core_engine.cli.app import app
from core_engine.schemas.records import FlowRun, TaskRun
from core_engine.task_runners import BaseTaskRunner
from core_engine.utilities.importing import load_script_as_module
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != "source_census.py")


@pytest.fixture(params=[SequentialTaskRunner, ConcurrentTaskRunner], ids=["sequential", "concurrent"])
def runner(request: pytest.FixtureRequest) -> BaseTaskRunner:
    return request.param()


def example(name: str) -> ModuleType:
    return load_script_as_module(EXAMPLES / name)


def newest_runs() -> list[tuple[FlowRun, list[TaskRun]]]:
    """The flow runs in the store, the newest first, each with its task runs."""

    async def read() -> list[tuple[FlowRun, list[TaskRun]]]:
        async with get_client() as client:
            return [(run, await client.read_task_runs(run.id)) for run in await client.read_flow_runs()]

    return asyncio.run(read())


def state_names(task_runs: list[TaskRun], task_name: str) -> list[str | None]:
    return [run.state_name for run in task_runs if run.task_name == task_name]


def test_the_first_flow_counts_words(runner: BaseTaskRunner) -> None:
    module = example("first_flow.py")
    assert module.words.with_options(task_runner=runner)() == 6
    assert module.words.with_options(task_runner=runner)(["one", "two words"]) == 2
    [(_, task_runs), _] = newest_runs()
    assert [run.name for run in task_runs] == ["count_words-0", "count_words-1", "most-0"]
    assert {run.state_name for run in task_runs} == {"Completed"}


def test_the_async_flow_asks_its_server(runner: BaseTaskRunner) -> None:
    module = example("async_flow.py")
    module.ask_all = module.ask_all.with_options(task_runner=runner)
    assert asyncio.run(module.survey(count=15)) == {"even": 8, "odd": 7}


def test_stations_are_asked_again_and_averages_are_cached(runner: BaseTaskRunner) -> None:
    module = example("retries_and_cache.py")
    weather: Flow[..., dict[str, float | None]] = module.weather.with_options(task_runner=runner)
    for _ in range(2):
        assert weather() == {"Bergen": 7.2, "Sevilla": 20.2, "Atlantis": None}
    [(_, second), (_, first)] = newest_runs()
    for task_runs in (first, second):
        assert state_names(task_runs, "read_station") == ["Completed", "Completed", "Failed"]
        assert [run.run_count for run in task_runs if run.task_name == "read_station"] == [2, 2, 3]
    assert state_names(first, "average") == ["Completed", "Completed", "Completed"]
    assert state_names(second, "average")[:2] == ["Cached", "Cached"]


def test_a_book_is_set_without_the_chapter_that_fails(
    runner: BaseTaskRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    module = example("subflows_and_states.py")
    module.set_chapter = module.set_chapter.with_options(task_runner=runner)
    state = module.set_book(return_state=True)
    assert (state.name, state.message) == ("Failed", "1 of 3 chapters could not be set: The Lost One")
    printed = capsys.readouterr().out
    assert "Loomings\n--------\nCall me Ishmael.\n" in printed
    assert "The author is told" in printed
    runs = {run.name: run for run, _ in newest_runs()}
    assert runs["chapter-The Lost One"].state_name == "Failed"
    assert all(run.tags == {"book"} for name, run in runs.items() if name.startswith("chapter"))


@pytest.mark.parametrize("name", SMALL)
def test_an_example_runs_as_a_script(name: str) -> None:
    result = subprocess.run([sys.executable, EXAMPLES / name], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_an_example_runs_from_the_command_line() -> None:
    path = str(EXAMPLES / "first_flow.py")
    result = CliRunner().invoke(app, ["run", path, "--runner", "sequential", "-p", 'texts=["one"]'])
    assert result.exit_code == 0, result.output
