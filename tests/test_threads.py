"""Threads of the user's own: what they know of the run that started them, and where their lines go."""

import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from core_engine import flow, get_client, get_run_logger, runtime, task
from core_engine.concurrency.waiting import step
from core_engine.context import TaskRunContext
from core_engine.logging.records import LogEntry
from core_engine.settings import temporary_settings
from core_engine.task_runners import BaseTaskRunner
from core_engine.threads import ContextThreadPoolExecutor, in_context
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner

library = logging.getLogger("some.library")


@pytest.fixture(params=[SequentialTaskRunner, ConcurrentTaskRunner], ids=["sequential", "concurrent"])
def runner(request: pytest.FixtureRequest) -> BaseTaskRunner:
    return request.param()


def in_thread(function: Callable[[], Any]) -> None:
    thread = threading.Thread(target=function, name="of-the-user")
    thread.start()
    thread.join()


def says(text: str) -> None:
    get_run_logger().info("%s, by the run's logger", text)
    library.warning("%s, by a library", text)
    print(f"{text}, printed")


def lines_of(work: Callable[[], Any], runner: BaseTaskRunner) -> tuple[Any, list[LogEntry]]:
    """Call `work` in a task; return the task run's id and what was stored, beside what the engine itself says."""
    called = task(work, name="works", log_prints=True)

    @flow(task_runner=runner)
    def outer() -> Any:
        return [called.submit()]

    with temporary_settings({"LOGGING_EXTRA_LOGGERS": "some.library"}):
        (state,) = outer(return_state=True).result()
    state.result()
    stored = [one.entry for one in step(get_client().read_logs(state.state_details.flow_run_id))]
    return state.state_details.task_run_id, [entry for entry in stored if entry.message.startswith("said")]


@pytest.mark.behaviour("LOG-1", "LOG-2", "LOG-PRINT-1")
def test_a_thread_that_is_given_the_context_logs_for_its_task_run(runner: BaseTaskRunner) -> None:
    id, said = lines_of(lambda: in_thread(in_context(lambda: says("said"))), runner)

    assert [entry.message for entry in said] == ["said, by the run's logger", "said, by a library", "said, printed"]
    assert {entry.task_run_id for entry in said} == {id}


@pytest.mark.behaviour("LOG-1", "LOG-2", "LOG-PRINT-1", "RT-2")
def test_calls_in_a_pool_of_ours_are_part_of_the_task_run_that_submits_them(runner: BaseTaskRunner) -> None:
    together = threading.Barrier(4)

    def talks(x: int) -> str:
        together.wait(10)
        says(f"said {x}")
        return runtime.task_run.name

    def all_at_once() -> None:
        with ContextThreadPoolExecutor(4) as pool:
            last = pool.submit(talks, x=3)
            assert [*pool.map(talks, range(3)), last.result()] == ["works-0"] * 4

    id, said = lines_of(all_at_once, runner)

    assert len(said) == 12
    assert {entry.task_run_id for entry in said} == {id}


@pytest.mark.behaviour("LOG-API-2", "LOG-API-5")
def test_a_line_of_a_plain_thread_is_kept_with_the_flow_run_and_says_why_it_has_no_task(
    runner: BaseTaskRunner,
) -> None:
    _, (entry,) = lines_of(lambda: in_thread(lambda: library.warning("said")), runner)

    assert entry.task_run_id is None
    assert entry.message.startswith("said [of no task run that is known: the thread 'of-the-user' was started without")
    assert "core_engine.threads.in_context" in entry.message


@pytest.mark.behaviour("LOG-API-5")
def test_a_line_of_a_plain_thread_is_nobodys_where_it_might_be_of_several_flow_runs() -> None:
    other_is_over = threading.Event()
    warned: list[Any] = []

    @flow
    def other() -> None:
        assert other_is_over.wait(10)

    def work() -> None:
        thread = threading.Thread(target=contextvars.Context().run, args=(other,))
        thread.start()
        try:
            while sum(run.name == "other" for run in running()) == 0:
                pass
            with pytest.warns(UserWarning, match="outside of a flow run") as found:
                in_thread(lambda: library.warning("said"))
            warned.extend(found)
        finally:
            other_is_over.set()
            thread.join()

    def running() -> list[Any]:
        from core_engine.engine.active import active_flow_runs

        return [run.flow for run in active_flow_runs()]

    _, said = lines_of(work, SequentialTaskRunner())

    assert said == []
    assert len(warned) == 1


@pytest.mark.behaviour("LOG-1")
def test_a_plain_thread_has_no_run_logger_and_is_told_how_to_get_one() -> None:
    found: list[str] = []

    def asks() -> None:
        try:
            get_run_logger()
        except Exception as error:
            found.append(str(error))

    lines_of(lambda: in_thread(asks), SequentialTaskRunner())

    assert "core_engine.threads.in_context" in found[0]


def test_what_a_call_in_context_sets_is_its_own() -> None:
    variable = contextvars.ContextVar("variable", default="before")

    def changes(value: str) -> str:
        found = variable.get()
        variable.set(value)
        return found

    call = in_context(changes)

    assert [call("first"), call("second")] == ["before", "before"]
    assert variable.get() == "before"
    assert call.__name__ == "changes"
    assert TaskRunContext.get() is None


@pytest.mark.behaviour("LOG-PRINT-1", "LOG-PRINT-5")
def test_prints_of_other_threads_stay_on_stdout_while_a_run_captures_its_own(
    runner: BaseTaskRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        print("said by the task")
        in_thread(lambda: print("said by a thread"))

    _, said = lines_of(work, runner)

    assert [entry.message for entry in said] == ["said by the task"]
    assert capsys.readouterr().out == "said by a thread\n"
