"""A task that holds the event loop which async tasks share: it is named, interrupted, and at last left behind (D19)."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest

from core_engine import State, flow, get_client, task
from core_engine.concurrency.waiting import step
from core_engine.engine import held_loops
from tests.support.promptness import soon

PATIENCE = 20.0


class Hold:
    """What a task waits for in C code, where nothing can interrupt it; let go at the test's end in any case."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()
        self.held = threading.Event()

    def keep(self) -> None:
        self.held.set()
        self.lock.acquire()

    def let_go(self) -> None:
        if self.lock.locked():
            self.lock.release()


@pytest.fixture
def hold() -> Iterator[Hold]:
    made = Hold()
    yield made
    made.let_go()


@contextmanager
def warned() -> Iterator[threading.Event]:
    """Gives an event that is set when a warning about a held loop is logged; its text is in ``event.text``."""
    seen: Any = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "holds the event loop" in record.getMessage():
                seen.text = record.getMessage()
                seen.set()

    logger, handler = logging.getLogger("core_engine.task_runs"), Handler()
    logger.addHandler(handler)
    try:
        yield seen
    finally:
        logger.removeHandler(handler)


def spin() -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        pass


def states_of(runner: str, make: Any) -> list[State]:
    @flow(task_runner=runner)
    def outer() -> Any:
        return make()

    return outer(return_state=True).result(raise_on_failure=False)


def history(state: State) -> list[str]:
    assert state.state_details.task_run_id is not None
    return names_of(state.state_details.task_run_id)


def names_of(task_run_id: UUID) -> list[str]:
    return [one.name for one in step(get_client().read_states(task_run_id))]


@task
async def naps(x: int = 0) -> int:
    await asyncio.sleep(0.01)
    return x


@pytest.mark.behaviour("D19")
def test_who_holds_the_loop_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_loops, "LONG_SECONDS", 0.2)

    @task
    async def blocks() -> str:
        assert seen.wait(PATIENCE)
        return "done"

    with warned() as seen:
        states = states_of("concurrent", lambda: [blocks.submit(), *naps.map([1, 2])])

    assert [state.result() for state in states] == ["done", 1, 2]
    assert "blocks-0" in seen.text  # type: ignore[attr-defined]
    assert f"of {__file__}, in" in seen.text  # type: ignore[attr-defined]
    assert ".blocks" in seen.text  # type: ignore[attr-defined]


@pytest.mark.behaviour("D19", "TASK-TIME-1")
@pytest.mark.parametrize("runner", ["sequential", "concurrent"])
def test_who_holds_the_loop_is_interrupted_at_its_deadline(runner: str) -> None:
    @task(timeout_seconds=0.2)
    async def spins() -> None:
        spin()

    started = time.monotonic()
    held, other = states_of(runner, lambda: [spins.submit(return_state=True), naps.submit(3)])

    assert time.monotonic() - started < PATIENCE / 2
    assert held.name == "TimedOut"
    assert "left behind" not in (held.message or "")
    assert other.result() == 3


@pytest.mark.behaviour("D19")
def test_who_holds_the_loop_is_interrupted_when_it_is_cancelled() -> None:
    begun = threading.Event()

    @task
    async def spins() -> None:
        begun.set()
        spin()

    @flow
    def outer() -> Any:
        future, other = spins.submit(), naps.submit(3)
        assert begun.wait(PATIENCE)
        future.cancel()
        return [future, other]

    started = time.monotonic()
    held, other = outer(return_state=True).result(raise_on_failure=False)

    assert time.monotonic() - started < PATIENCE / 2
    assert held.is_cancelled()
    assert "left behind" not in (held.message or "")
    assert other.result() == 3


@pytest.mark.behaviour("D19", "I9")
@pytest.mark.parametrize("ending", ["deadline", "cancellation"])
def test_a_loop_that_is_not_let_go_is_given_up_with_all_that_is_on_it(hold: Hold, ending: str) -> None:
    begun = threading.Event()

    @task(timeout_seconds=0.2 if ending == "deadline" else None)
    async def keeps() -> str:
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        hold.keep()
        return "late"

    @task
    async def waits() -> None:
        begun.set()
        await asyncio.sleep(PATIENCE)

    @flow
    def outer() -> Any:
        first = [keeps.submit(), waits.submit()]
        assert hold.held.wait(PATIENCE)
        if ending == "cancellation":
            first[0].cancel()
        for future in first:
            future.wait()
        return [*first, *naps.map([5, 6])]

    keeper, bystander, *after = outer(return_state=True).result(raise_on_failure=False)

    assert keeper.name == ("TimedOut" if ending == "deadline" else "Cancelled")
    assert bystander.is_crashed()
    assert "keeps-0" in (bystander.message or "")
    assert [state.result() for state in after] == [5, 6]
    before = [history(keeper), history(bystander)]
    hold.let_go()
    wait_until_loops_ended()
    assert [history(keeper), history(bystander)] == before


def wait_until_loops_ended() -> None:
    deadline = time.monotonic() + PATIENCE
    while any(thread.name == "core-engine-tasks" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.behaviour("D19", "TASK-RETRY-1")
def test_a_run_whose_loop_was_given_up_is_tried_again(hold: Hold) -> None:
    @task(timeout_seconds=0.2, retries=1)
    async def keeps_once() -> str:
        if not hold.held.is_set():
            hold.keep()
        return "second try"

    (state,) = states_of("concurrent", lambda: [keeps_once.submit()])
    hold.let_go()
    wait_until_loops_ended()

    assert state.result() == "second try"
    assert history(state) == ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]


@pytest.mark.behaviour("D19")
def test_runs_that_wait_for_their_turn_go_to_the_next_loop(hold: Hold) -> None:
    """The sequential runner has one run at a time on its loop."""

    @task(timeout_seconds=0.2)
    async def keeps() -> None:
        hold.keep()

    states = states_of("sequential", lambda: [keeps.submit(return_state=True), naps.submit(7), *naps.map([8, 9])])

    assert states[0].name == "TimedOut"
    assert [state.result() for state in states[1:]] == [7, 8, 9]


@pytest.mark.behaviour("D19", "TASK-TIME-1")
@pytest.mark.parametrize("retries", [0, 1])
def test_a_deadline_does_not_wait_for_a_loop_that_another_task_holds(hold: Hold, retries: int) -> None:
    """Held in C code, by a task without a time limit: nothing interrupts it, and the loop is not given up."""
    begun = threading.Event()

    @task
    async def keeps() -> str:
        await asyncio.to_thread(begun.wait, PATIENCE)
        hold.keep()
        return "kept"

    @task(timeout_seconds=0.5, retries=retries)
    async def waits() -> str:
        if begun.is_set():
            return "second try"
        begun.set()
        await asyncio.sleep(PATIENCE)
        return "late"

    @flow
    def outer() -> Any:
        keeper, waiter = keeps.submit(), waits.submit()
        assert hold.held.wait(PATIENCE)
        while len(names_of(waiter.task_run_id)) < 3:
            time.sleep(0.01)
        first = names_of(waiter.task_run_id)
        hold.let_go()
        return first, keeper, waiter

    first, keeper, waiter = outer(return_state=True).result(raise_on_failure=False)

    assert first == ["Pending", "Running", "AwaitingRetry" if retries else "TimedOut"]
    assert keeper.result() == "kept"
    assert history(waiter) == [*first, *(["Retrying", "Completed"] if retries else [])]
    assert seconds_run(waiter) < soon(0.6)


def seconds_run(state: State) -> float:
    """Returns how long a task run was in its first Running state."""
    assert state.state_details.task_run_id is not None
    _, running, after = step(get_client().read_states(state.state_details.task_run_id))[:3]
    return (after.timestamp - running.timestamp).total_seconds()


@pytest.mark.behaviour("D19", "TASK-TIME-1", "I9")
@pytest.mark.parametrize("runner", ["sequential", "concurrent"])
def test_code_that_goes_on_after_its_deadline_is_left_behind(runner: str) -> None:
    let_go = threading.Event()

    @task(timeout_seconds=0.2)
    async def swallows() -> str:
        while not let_go.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass
        return "late"

    started = time.monotonic()
    state, other = states_of(runner, lambda: [swallows.submit(return_state=True), naps.submit(3)])

    assert time.monotonic() - started < soon(5)
    assert state.name == "TimedOut"
    assert seconds_run(state) < soon(0.3)
    assert other.result() == 3
    let_go.set()
    wait_until_loops_ended()
    assert history(state) == ["Pending", "Running", "TimedOut"]


@pytest.mark.behaviour("TASK-TIME-1", "I9")
def test_a_value_that_comes_after_the_deadline_is_dropped() -> None:
    @task(timeout_seconds=0.2)
    async def swallows() -> str:
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            pass
        return "late"

    (state,) = states_of("concurrent", lambda: [swallows.submit()])

    assert state.name == "TimedOut"


def test_a_loop_that_is_busy_with_many_tasks_is_let_be(caplog: pytest.LogCaptureFixture) -> None:
    @task
    async def busy(x: int) -> int:
        for _ in range(3):
            deadline = time.monotonic() + 0.002
            while time.monotonic() < deadline:
                pass
            await asyncio.sleep(0)
        return x

    states = states_of("concurrent", lambda: busy.map(range(150)))

    assert [state.result() for state in states] == list(range(150))
    assert not [record for record in caplog.records if "holds the event loop" in record.getMessage()]
