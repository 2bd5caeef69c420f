"""FLOW-CALL: calling a flow."""

import inspect
import logging
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core_engine import Flow, flow, get_client, get_run_logger, runtime, tags, task
from core_engine.backend import open_backend
from core_engine.concurrency.waiting import step
from core_engine.engine import reachable
from core_engine.exceptions import StoreUnavailable
from core_engine.task_runners import BaseTaskRunner
from runners.concurrent import ConcurrentTaskRunner
from tests.behaviours.conftest import LogRecords
from tests.behaviours.helpers import (
    flow_history,
    read_flow_run,
    read_flow_runs,
    read_states,
    until_set,
    wait_until_set,
)


class CustomError(Exception):
    pass


@pytest.mark.behaviour("FLOW-CALL-1")
def test_a_sync_flow_runs_to_its_end_and_returns_its_result():
    @flow
    def add(x, y):
        return x + y

    assert add(1, 2) == 3


@pytest.mark.behaviour("FLOW-CALL-1")
@pytest.mark.anyio
async def test_an_async_root_flow_returns_an_awaitable():
    @flow
    async def add(x, y):
        return x + y

    pending = add(1, 2)

    assert inspect.isawaitable(pending)
    assert await pending == 3


@pytest.mark.behaviour("FLOW-CALL-2")
def test_return_state_gives_the_final_state_of_a_sync_flow():
    @flow
    def give():
        return "x"

    state = give(return_state=True)

    assert state.is_completed()
    assert state.result() == "x"
    assert give._run().result() == "x"


@pytest.mark.behaviour("FLOW-CALL-2")
def test_return_state_does_not_raise_for_a_failed_flow():
    @flow
    def fail():
        raise CustomError("no")

    assert fail(return_state=True).is_failed()
    assert fail._run().is_failed()


@pytest.mark.behaviour("FLOW-CALL-2")
@pytest.mark.anyio
async def test_return_state_gives_the_final_state_of_an_async_flow():
    @flow
    async def give(ok):
        if not ok:
            raise CustomError("no")
        return "x"

    state = await give(True, return_state=True)

    assert await state.result(fetch=True) == "x"
    assert (await give(False, return_state=True)).is_failed()


@pytest.mark.behaviour("FLOW-CALL-3")
def test_a_plain_call_of_a_failed_flow_raises_the_users_exception_object():
    raised = CustomError("a", 1)

    @flow
    def fail():
        raise raised

    with pytest.raises(CustomError) as caught:
        fail()
    assert caught.value is raised
    assert caught.value.args == ("a", 1)


@pytest.mark.behaviour("FLOW-CALL-3")
@pytest.mark.anyio
async def test_awaiting_a_failed_flow_raises_the_users_exception():
    @flow
    async def fail():
        raise CustomError("a", 1)

    with pytest.raises(CustomError) as caught:
        await fail()
    assert caught.value.args == ("a", 1)


@pytest.mark.behaviour("FLOW-CALL-4")
def test_each_call_creates_a_run_with_parameters_version_tags_and_a_pending_state():
    @flow(version="7")
    def called(x):
        return x

    with tags("a"):
        first, second = called(1, return_state=True), called(2, return_state=True)
    runs = [read_flow_run(state) for state in (first, second)]

    assert {run.id for run in read_flow_runs()} == {run.id for run in runs}
    assert [run.parameters for run in runs] == [{"x": 1}, {"x": 2}]
    assert [run.flow_version for run in runs] == ["7", "7"]
    assert [run.flow_name for run in runs] == ["called", "called"]
    assert all(run.tags == {"a"} for run in runs)
    assert flow_history(first)[0] == "Pending"
    assert read_states(runs[0].id)[0].is_pending()


@pytest.mark.behaviour("FLOW-CALL-4")
def test_a_run_gets_a_random_name_of_two_words():
    @flow
    def called():
        return 1

    names = [read_flow_run(called(return_state=True)).name for _ in range(3)]

    assert all(len(name.split("-")) == 2 and all(name.split("-")) for name in names)
    assert len(set(names)) > 1


@pytest.mark.behaviour("FLOW-CALL-5")
def test_a_flow_called_in_a_task_is_a_runtime_error():
    @flow
    def child(): ...

    @task
    def calls_a_flow():
        child()

    @flow
    def parent():
        return calls_a_flow.submit()

    with pytest.raises(RuntimeError, match=r"(?i)flow.*task"):
        parent()


@pytest.mark.behaviour("FLOW-CALL-6")
def test_wait_for_on_a_root_flow_is_a_value_error():
    @flow
    def root(): ...

    with pytest.raises(ValueError, match="wait_for|subflow"):
        root(wait_for=[1])


@pytest.mark.behaviour("FLOW-CALL-7", "FLOW-LOAD-1")
def test_a_flow_called_while_its_script_is_only_loaded_does_not_run(tmp_path: Path, log: LogRecords):
    from core_engine.flows import load_flow_from_entrypoint

    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from core_engine import flow

            @flow
            def called_at_import(x=1):
                return x

            RESULT = called_at_import()
            """
        )
    )
    loaded = load_flow_from_entrypoint(f"{script}:called_at_import")

    assert read_flow_runs() == []
    (warning,) = [line for line in log.messages(logging.WARNING) if "called-at-import" in line]
    assert "__main__" in warning
    assert loaded(5) == 5


@pytest.mark.behaviour("FLOW-CALL-8")
def test_a_sync_flow_runs_in_the_thread_that_called_it():
    @flow
    def where():
        return threading.current_thread()

    @flow
    def parent():
        return where()

    assert where() is threading.current_thread()
    assert parent() is threading.current_thread()


@pytest.mark.behaviour("FLOW-CALL-8")
@pytest.mark.anyio
async def test_a_sync_subflow_of_an_async_parent_runs_in_a_worker_thread():
    @flow
    def where():
        return threading.current_thread()

    @flow
    async def parent():
        return threading.current_thread(), where()

    parents, childs = await parent()

    assert childs is not parents
    assert childs is not threading.main_thread()


@pytest.mark.behaviour("FLOW-CALL-8")
def test_the_engine_works_on_while_a_sync_flow_blocks_its_thread():
    done = threading.Event()

    @task
    def work():
        done.set()

    @flow
    def blocks():
        work.submit()
        wait_until_set(done)
        return "went on"

    assert blocks() == "went on"


@pytest.mark.behaviour("FLOW-CALL-9")
def test_a_sync_flow_may_call_itself():
    @flow
    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial(n - 1)

    @flow
    def outer(n: int) -> int:
        return factorial(n)

    assert factorial(5) == 120
    assert outer(4) == 24


@pytest.mark.behaviour("FLOW-CALL-9")
@pytest.mark.anyio
async def test_an_async_flow_may_call_itself():
    @flow
    async def factorial(n: int) -> int:
        return 1 if n < 2 else n * await factorial(n - 1)

    @flow
    async def outer(n: int) -> int:
        return await factorial(n)

    assert await factorial(5) == 120
    assert await outer(4) == 24


@pytest.mark.behaviour("FLOW-CALL-11")
def test_a_root_flow_awaits_submitted_work_before_it_returns():
    release, finished = threading.Event(), threading.Event()

    @task
    def slow():
        wait_until_set(release)
        finished.set()

    @flow
    def leaves_work():
        slow.submit()
        release.set()
        return 1

    assert leaves_work() == 1
    assert finished.is_set()


@pytest.mark.behaviour("FLOW-CALL-11")
def test_the_final_state_of_a_root_flow_is_logged(log: LogRecords):
    @flow
    def fine():
        return 1

    @flow
    def broken():
        raise CustomError("no")

    fine()
    broken(return_state=True)

    assert any("Completed" in message for message in log.messages(logging.INFO))
    assert any("Failed" in message for message in log.messages(logging.ERROR))


@pytest.mark.behaviour("FLOW-CALL-11")
def test_the_logs_of_a_root_flow_are_stored_when_it_returns():
    from tests.behaviours.helpers import ask

    @flow
    def speaks():
        get_run_logger().warning("a line to keep")
        return runtime.flow_run.id

    run_id = read_flow_run(speaks()).id
    logs = ask(lambda client: client.read_logs(flow_run_id=run_id))

    assert "a line to keep" in str(logs)


class NoDuplicates(ConcurrentTaskRunner):
    """A runner that cannot make another of itself."""

    def duplicate(self) -> Any:
        return NotImplemented


@pytest.mark.behaviour("FLOW-CALL-12")
def test_each_run_uses_a_duplicate_of_the_flows_task_runner():
    @flow
    def uses_runner():
        from core_engine.context import get_run_context

        return get_run_context().task_runner

    runner = uses_runner.task_runner
    used: BaseTaskRunner = uses_runner()

    assert used is not runner
    assert used == runner


@pytest.mark.behaviour("FLOW-CALL-12")
@pytest.mark.parametrize("as_subflow", [False, True], ids=["root flow", "subflow"])
def test_a_runner_without_duplicates_is_used_itself_and_warned_about(log: LogRecords, as_subflow: bool):
    @task
    def one():
        return 1

    @flow(task_runner=NoDuplicates())
    def lonely():
        return one.submit().result()

    @flow
    def parent():
        return lonely()

    called: Flow[Any, Any] = parent if as_subflow else lonely

    assert called() == 1
    assert any("NoDuplicates" in message for message in log.messages(logging.WARNING))


@pytest.mark.behaviour("FLOW-CALL-1", "TASK-CALL-12")
@pytest.mark.anyio
async def test_two_async_flows_run_at_the_same_time_in_one_loop():
    events = threading.Event(), threading.Event()

    @flow
    async def meets(mine: int, other: int):
        events[mine].set()
        await until_set(events[other])
        return mine

    import asyncio

    assert await asyncio.gather(meets(0, 1), meets(1, 0)) == [0, 1]


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Notes each time that it is asked whether the database can be used; put "fails" in to have it say no."""
    store, asked = open_backend().store, []

    def answer() -> int:
        if "fails" in asked:
            raise StoreUnavailable("The disk is gone.")
        asked.append("asked")
        return 1

    monkeypatch.setattr(store, "data_version", answer)
    reachable._reached.clear()
    yield asked
    reachable._reached.clear()


@pytest.mark.behaviour("FLOW-CALL-10")
def test_a_backend_that_cannot_be_used_is_an_error_that_says_what_and_where(questions: list[str]):
    @flow
    def never():
        raise AssertionError("it must not run")

    questions.append("fails")
    with pytest.raises(RuntimeError) as caught:
        never()

    assert "Cannot create a flow run" in str(caught.value)
    assert str(open_backend().store.path) in str(caught.value)
    assert "The disk is gone." in str(caught.value)
    assert read_flow_runs() == []


@pytest.mark.behaviour("FLOW-CALL-10")
def test_a_backend_that_was_reached_is_not_asked_again_for_ten_minutes(
    questions: list[str], monkeypatch: pytest.MonkeyPatch
):
    now = time.monotonic()
    monkeypatch.setattr(reachable, "time", SimpleNamespace(monotonic=lambda: now))

    def check() -> None:
        step(reachable.check_api_reachable(get_client(), "Cannot do it"))

    check()
    check()
    now += 599
    check()
    assert questions == ["asked"]
    now += 2
    check()
    assert questions == ["asked", "asked"]


@pytest.mark.behaviour("FLOW-CALL-10")
def test_a_backend_that_was_not_reached_is_asked_again_at_once(questions: list[str]):
    def check() -> None:
        step(reachable.check_api_reachable(get_client(), "Cannot do it"))

    questions.append("fails")
    for _ in range(2):
        with pytest.raises(RuntimeError):
            check()
    questions.remove("fails")
    check()

    assert questions == ["asked"]
