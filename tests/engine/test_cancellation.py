"""Cancelled flow runs end within a second, whatever their code does; what goes on changes nothing any more."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core_engine import flow, get_client, task
from core_engine.concurrency.waiting import step
from core_engine.context import get_run_context
from core_engine.engine.cancellation import cancel_task_run
from tests.behaviours.helpers import PATIENCE, flow_history, read_flow_runs, read_states, read_task_runs, wait_until_set
from tests.support.promptness import soon

RUNNERS = ["sequential", "concurrent"]


class Code:
    """User code that runs until it is let go, and does not react to being interrupted before."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._lock = threading.Lock()
        self._lock.acquire()

    def let_go(self) -> None:
        if self._lock.locked():
            self._lock.release()

    def sleeps(self) -> str:
        """In C code, as time.sleep is."""
        self.begun.set()
        self._lock.acquire()
        return "late"

    async def swallows(self) -> str:
        self.begun.set()
        while self._lock.locked():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                pass
        return "late"


@pytest.fixture
def code() -> Iterator[Code]:
    made = Code()
    yield made
    made.let_go()


def make(code: Code, what: str, runner: str, hooks: list[str]) -> Callable[[], Any]:
    """Return what calls a flow whose own function, whose task, or whose subflow's task goes on."""
    on_cancellation = [lambda flow, flow_run, state: hooks.append(f"{flow.name} {state.name}")]

    @task
    def sync_work() -> str:
        return code.sleeps()

    @task
    async def async_work() -> str:
        return await code.swallows()

    @flow(task_runner=runner, on_cancellation=on_cancellation)
    def child() -> Any:
        return sync_work.submit().result()

    @flow(task_runner=runner, on_cancellation=on_cancellation)
    def outer() -> Any:
        if what == "function":
            return code.sleeps()
        if what == "subflow":
            return child()
        return (async_work if what == "async task" else sync_work).submit().result()

    @flow(task_runner=runner, on_cancellation=on_cancellation)
    async def async_outer() -> Any:
        return await code.swallows()

    if what == "async function":
        return lambda: asyncio.run(async_outer(return_state=True))
    return lambda: outer(return_state=True)


@pytest.mark.behaviour("FLOW-HOOK-6", "FLOW-HOOK-9", "I9")
@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("what", ["function", "async function", "task", "async task", "subflow"])
def test_a_flow_run_whose_code_goes_on_is_cancelled_within_a_second(code: Code, what: str, runner: str) -> None:
    hooks: list[str] = []
    returned: list[Any] = []
    call = make(code, what, runner, hooks)
    thread = threading.Thread(target=lambda: returned.append(call()))
    thread.start()
    wait_until_set(code.begun)
    root = (
        read_flow_runs()[-1] if what != "subflow" else next(run for run in read_flow_runs() if run.flow_name == "outer")
    )

    step(get_client().cancel_flow_run(root.id))
    asked = time.time()
    while not all(run.state.is_final() for run in read_flow_runs()):
        time.sleep(0.005)

    for run in read_flow_runs():
        assert flow_history(run.id) == ["Pending", "Running", "Cancelling", "Cancelled"]
        assert read_states(run.id)[-1].timestamp.timestamp() - asked < soon()
        assert all(one.state.is_cancelled() for one in read_task_runs(run.id))
    code.let_go()
    thread.join(PATIENCE)
    assert returned[0].is_cancelled()
    expected = ["child Cancelling", "outer Cancelling"] if what == "subflow" else [f"{root.flow_name} Cancelling"]
    assert hooks == expected
    assert flow_history(root.id) == ["Pending", "Running", "Cancelling", "Cancelled"]


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_async_task_run_that_swallows_its_cancellation_keeps_nobody_waiting(code: Code, runner: str) -> None:
    @task
    async def work() -> str:
        return await code.swallows()

    @flow(task_runner=runner)
    def outer() -> Any:
        run = get_run_context().run
        threading.Thread(target=lambda: (wait_until_set(code.begun), cancel_task_run(run.open_sets()[0], 0))).start()
        return work.submit().wait().name

    started = time.monotonic()

    assert outer() == "Cancelled"
    assert time.monotonic() - started < PATIENCE / 2
