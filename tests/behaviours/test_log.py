"""LOG: the engine's own lines about runs."""

import logging

import pytest

from core_engine import flow, task
from core_engine.schemas.records import FlowRun
from core_engine.task_runners import BaseTaskRunner
from tests.behaviours.conftest import LogRecords
from tests.behaviours.helpers import read_flow_run, setting


class CustomError(Exception):
    pass


@task
def double(x: int) -> int:
    return x * 2


@task
def fails() -> None:
    raise CustomError("out of milk")


def lines(log: LogRecords, level: int, of: str) -> list[str]:
    """The messages of a level about one run, by its name."""
    return [
        record.getMessage()
        for record in log.records
        if record.levelno == level and of in (getattr(record, "task_run_name", None) or record.flow_run_name)  # type: ignore[attr-defined]
    ]


def called(run_it: object) -> FlowRun:
    return read_flow_run(run_it(return_state=True))  # type: ignore[operator]


@pytest.mark.behaviour("LOG-9")
def test_creation_and_end_of_runs_are_told_with_their_names(runner: BaseTaskRunner, log: LogRecords):
    @flow(task_runner=runner)
    def parent():
        return double.submit(1).result()

    run = called(parent)

    told = lines(log, logging.INFO, run.name)
    assert f"Created flow run '{run.name}' for flow 'parent'" in told
    assert "Created task run 'double-0' for task 'double'" in told
    assert any(line.startswith("Finished in state Completed") for line in told)
    assert any(line.startswith("Finished in state Completed") for line in lines(log, logging.INFO, "double-0"))


@pytest.mark.behaviour("LOG-9", "LOG-8")
def test_failures_are_told_at_error_with_their_traceback(runner: BaseTaskRunner, log: LogRecords):
    @flow(task_runner=runner)
    def parent():
        fails.submit().result()

    run = called(parent)

    for name in (run.name, "fails-0"):
        told = lines(log, logging.ERROR, name)
        assert "Encountered exception during execution:" in told
        assert any(line.startswith("Finished in state Failed") for line in told)
    tracebacks = [record for record in log.records if record.exc_info]
    assert [record.exc_info[0] for record in tracebacks] == [CustomError, CustomError]


@pytest.mark.behaviour("LOG-9")
def test_start_and_renaming_are_told_at_debug(runner: BaseTaskRunner, log: LogRecords):
    named = double.with_options(task_run_name="doubles-{x}")

    @flow(task_runner=runner, flow_run_name="mine-{y}")
    def parent(y: int = 5):
        return named.submit(1).result()

    called(parent)

    told = log.messages(logging.DEBUG)
    assert any(line.startswith("Starting 'ConcurrentTaskRunner'") or "TaskRunner" in line for line in told)
    assert "Executing flow 'parent' for flow run 'mine-5'..." in told
    assert "Executing task 'double' for task run 'doubles-1'..." in told
    assert "Renamed task run 'double-0' to 'doubles-1'" in told
    assert any(line.startswith("Renamed flow run '") and line.endswith("' to 'mine-5'") for line in told)


@pytest.mark.behaviour("LOG-9", "D32")
def test_in_debug_mode_calls_are_told_with_their_arguments_cut_at_100_characters(
    runner: BaseTaskRunner, log: LogRecords
):
    @task
    def takes(text: str, options: dict[str, str], api_token: str) -> None:
        pass

    @task
    def takes_much(text: str, more: list[str]) -> None:
        pass

    @flow(task_runner=runner)
    def parent(x: int = 3):
        takes.submit("short", {"a": "b", "password": "hidden 1"}, "hidden 2").result()
        takes_much.submit("x" * 1000, ["y" * 1000] * 1000).result()

    with setting(DEBUG_MODE=True):
        called(parent)

    told = log.messages(logging.DEBUG)
    assert any(line.startswith("Executing parent(x=3) for flow run '") for line in told)
    (short,) = [line for line in told if line.startswith("Executing takes(")]
    assert short.startswith("Executing takes(text='short', options={'a': 'b', 'password': ****")
    assert "hidden" not in " ".join(told)
    (cut,) = [line for line in told if line.startswith("Executing takes_much(")]
    call = cut.removeprefix("Executing ").removesuffix(" for task run 'takes_much-0'...")
    assert len(call) == 100
    assert call.startswith("takes_much(text='xxx")
    assert call.endswith("...")


@pytest.mark.behaviour("LOG-9")
def test_an_argument_without_a_text_of_its_own_does_not_stop_the_task(log: LogRecords):
    class Sullen:
        def __repr__(self) -> str:
            raise CustomError("I have no text")

    @task
    def takes(value: object) -> int:
        return 1

    @flow(validate_parameters=False)
    def parent(value: object):
        return takes(value)

    with setting(DEBUG_MODE=True):
        assert parent(Sullen()) == 1

    assert any("takes(value=<Sullen instance at" in line for line in log.messages(logging.DEBUG))


@pytest.mark.behaviour("LOG-9")
def test_above_debug_no_line_is_made_for_the_start_of_a_task(monkeypatch: pytest.MonkeyPatch):
    from core_engine.engine import task_runs

    def never(*args: object) -> None:
        raise AssertionError("a line that nobody wants costs something")

    monkeypatch.setattr(task_runs, "log_start", never)

    @flow
    def parent():
        return [future.result() for future in double.map([1, 2])]

    assert parent() == [2, 4]
