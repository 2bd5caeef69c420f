"""FLOW-TIME: time limits of flows."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from core_engine import State, flow, task
from tests.behaviours.helpers import (
    PATIENCE,
    block,
    flow_history,
    flow_run_id,
    read_flow_runs,
    read_states,
    read_task_runs,
    stored_flow_state,
    takes_less_than,
    wait_until_set,
)
from tests.support.promptness import soon

LIMIT = 0.1
# Below this a call counts as prompt. What blocks would block for ten seconds.
PROMPT = 5.0
# How late a state may come after its deadline.
LATE_SECONDS = 0.1


@pytest.mark.behaviour("FLOW-TIME-1")
def test_a_sync_flow_over_its_limit_is_timed_out():
    @flow(timeout_seconds=LIMIT)
    def slow():
        block()

    with takes_less_than(PROMPT):
        state = slow(return_state=True)

    assert state.is_failed()
    assert not state.is_crashed()
    assert state.name == "TimedOut"
    assert "0.1" in state.message
    assert stored_flow_state(state).name == "TimedOut"
    assert LIMIT <= seconds_until_timed_out(state) < LIMIT + soon(LATE_SECONDS)
    with pytest.raises(TimeoutError):
        state.result()


@pytest.mark.behaviour("FLOW-TIME-1", "FLOW-TIME-4")
@pytest.mark.anyio
async def test_an_async_flow_over_its_limit_is_timed_out_at_its_await():
    went_on = False

    @flow(timeout_seconds=LIMIT)
    async def slow():
        nonlocal went_on
        await anyio.sleep(10)
        went_on = True

    with takes_less_than(PROMPT):
        state = await slow(return_state=True)

    assert state.is_failed()
    assert state.name == "TimedOut"
    assert "0.1" in state.message
    assert LIMIT <= seconds_until_timed_out(state) < LIMIT + soon(LATE_SECONDS)
    assert not went_on
    with pytest.raises(TimeoutError):
        await state.result(fetch=True)


@pytest.mark.behaviour("FLOW-TIME-1")
def test_a_plain_call_of_a_flow_over_its_limit_raises_timeout_error():
    @flow(timeout_seconds=LIMIT)
    def slow():
        block()

    with takes_less_than(PROMPT), pytest.raises(TimeoutError):
        slow()


@pytest.mark.behaviour("FLOW-TIME-1")
def test_the_limit_stands_in_the_message_as_a_float():
    @flow(timeout_seconds=1)
    def slow():
        block()

    assert "1.0" in slow(return_state=True).message


@pytest.mark.behaviour("FLOW-TIME-2")
def test_a_flow_within_its_limit_is_untouched():
    @flow(timeout_seconds=30)
    def quick():
        return "done"

    assert quick() == "done"


@pytest.mark.behaviour("FLOW-TIME-2")
@pytest.mark.anyio
async def test_an_async_flow_within_its_limit_is_untouched():
    @flow(timeout_seconds=30)
    async def quick():
        await anyio.lowlevel.checkpoint()
        return "done"

    assert await quick() == "done"


@pytest.mark.behaviour("FLOW-TIME-3")
def test_a_timeout_error_of_the_users_code_is_an_ordinary_failure():
    @flow(timeout_seconds=30)
    def raises():
        raise TimeoutError("mine")

    state = raises(return_state=True)

    assert state.is_failed()
    assert state.name == "Failed"
    assert "30" not in state.message
    with pytest.raises(TimeoutError, match="mine"):
        state.result()


@pytest.mark.behaviour("FLOW-TIME-3")
@pytest.mark.anyio
async def test_a_timeout_error_of_the_users_async_code_is_an_ordinary_failure():
    @flow(timeout_seconds=30)
    async def raises():
        with anyio.fail_after(0):
            await anyio.sleep(1)

    state = await raises(return_state=True)

    assert state.name == "Failed"
    assert "30" not in state.message


@pytest.mark.behaviour("FLOW-TIME-5")
def test_a_blocking_wait_in_the_main_thread_is_interrupted():
    @flow(timeout_seconds=LIMIT)
    def slow():
        threading.Event().wait(10)

    with takes_less_than(PROMPT):
        assert slow(return_state=True).name == "TimedOut"


@pytest.mark.behaviour("FLOW-TIME-6")
@pytest.mark.parametrize("way", ["call", "submit", "map"])
def test_after_the_deadline_the_next_task_call_ends_the_flow_and_does_not_run(way: str):
    ran = []

    @task
    def late(x):
        ran.append(x)

    @flow(timeout_seconds=LIMIT)
    def swallows_the_interruption():
        try:
            block()
        except BaseException:
            pass
        if way == "call":
            late(1)
        elif way == "submit":
            late.submit(1)
        else:
            late.map([1])
        ran.append("went on")

    with takes_less_than(PROMPT):
        state = swallows_the_interruption(return_state=True)

    assert state.name == "TimedOut"
    assert ran == []
    assert read_task_runs(state) == []


@pytest.mark.behaviour("FLOW-TIME-7")
def test_a_sync_subflow_over_its_limit_gives_the_parent_its_timed_out_state():
    @flow(timeout_seconds=LIMIT)
    def slow():
        block()

    @flow
    def parent():
        return slow(return_state=True).name, "went on"

    with takes_less_than(PROMPT):
        assert parent() == ("TimedOut", "went on")


@pytest.mark.behaviour("FLOW-TIME-7")
@pytest.mark.anyio
async def test_an_async_subflow_over_its_limit_gives_the_parent_its_timed_out_state():
    @flow(timeout_seconds=LIMIT)
    async def slow():
        await anyio.sleep(10)

    @flow
    async def parent():
        state = await slow(return_state=True)
        return state.name, state.message, "went on"

    with takes_less_than(PROMPT):
        name, message, went_on = await parent()

    assert name == "TimedOut"
    assert "0.1" in message
    assert went_on == "went on"


@pytest.mark.behaviour("FLOW-TIME-7")
@pytest.mark.anyio
async def test_a_sync_subflow_of_an_async_parent_is_timed_out():
    @flow(timeout_seconds=LIMIT)
    def slow():
        block()

    @flow
    async def parent():
        return slow(return_state=True).name

    with takes_less_than(PROMPT):
        assert await parent() == "TimedOut"


@pytest.mark.behaviour("FLOW-TIME-8")
def test_the_clock_of_a_subflow_does_not_run_while_it_waits_for_an_upstream():
    @task
    def longer_than_the_limit():
        block(4 * LIMIT)

    @flow(timeout_seconds=2 * LIMIT)
    def child():
        return "in time"

    @flow
    def parent():
        return child(wait_for=[longer_than_the_limit.submit()])

    assert parent() == "in time"


@pytest.mark.behaviour("FLOW-TIME-9")
def test_the_deadline_of_a_parent_interrupts_its_sync_subflow():
    @flow
    def child():
        block()

    @flow(timeout_seconds=2 * LIMIT)
    def parent():
        child()

    with takes_less_than(PROMPT):
        state = parent(return_state=True)

    expect_that_all_were_timed_out(state, 2 * LIMIT)


def expect_that_all_were_timed_out(parent: State, limit: float) -> None:
    """All flow runs are TimedOut at the deadline of the parent."""
    running = read_states(flow_run_id(parent))[1].timestamp
    assert len(read_flow_runs()) == 2
    for run in read_flow_runs():
        ended = read_states(run.id)[-1]
        assert ended.name == "TimedOut"
        assert limit <= (ended.timestamp - running).total_seconds() < limit + soon(LATE_SECONDS)


@pytest.mark.behaviour("FLOW-TIME-9")
@pytest.mark.anyio
async def test_the_deadline_of_a_parent_interrupts_its_async_subflow():
    @flow
    async def child():
        await anyio.sleep(10)

    @flow(timeout_seconds=2 * LIMIT)
    async def parent():
        await child()

    with takes_less_than(PROMPT):
        state = await parent(return_state=True)

    expect_that_all_were_timed_out(state, 2 * LIMIT)


# Functions that go on after their deadline ----------------------------------------------------------------------------


def until_recorded(begun: threading.Event, name: str, child: bool = False) -> None:
    """Wait until the flow run that has begun is recorded in a state, while its function goes on."""
    wait_until_set(begun)
    while True:
        states = {run.flow_name: run.state_name for run in read_flow_runs()}
        if set(states.values()) == {name} and len(states) == 1 + child:
            return
        time.sleep(0.005)


def called_in_a_thread(call: Callable[[], Any], then: Callable[[], None]) -> Any:
    """Call something in a thread, do something else meanwhile, and return what the call returned."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    then()
    thread.join(PATIENCE)
    return found[0]


def seconds_until_timed_out(state: State) -> float:
    _, running, ended = read_states(flow_run_id(state))
    return (ended.timestamp - running.timestamp).total_seconds()


@pytest.mark.behaviour("FLOW-TIME-1", "FLOW-TIME-5", "I9")
@pytest.mark.parametrize("way", ["blocks a thread", "blocks its loop", "swallows its cancellation"])
def test_a_flow_whose_code_goes_on_is_timed_out_at_its_deadline_and_its_value_dropped(way: str):
    begun, let_go = threading.Event(), threading.Event()

    def held() -> str:
        begun.set()
        lock = threading.Lock()
        lock.acquire()
        threading.Thread(target=lambda: (let_go.wait(PATIENCE), lock.release())).start()
        lock.acquire()  # in C: nothing interrupts it
        return "late"

    @flow(timeout_seconds=LIMIT)
    def blocks():
        return held()

    @flow(timeout_seconds=LIMIT)
    async def blocks_its_loop():
        return held()

    @flow(timeout_seconds=LIMIT)
    async def swallows():
        begun.set()
        while not let_go.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                pass
        return "late"

    def call() -> State:
        if way == "blocks a thread":
            return blocks(return_state=True)
        return asyncio.run((blocks_its_loop if way == "blocks its loop" else swallows)(return_state=True))

    def then() -> None:
        until_recorded(begun, "TimedOut")
        let_go.set()

    state = called_in_a_thread(call, then)

    assert state.name == "TimedOut"
    assert flow_history(state) == ["Pending", "Running", "TimedOut"]
    assert LIMIT <= seconds_until_timed_out(state) < LIMIT + soon(LATE_SECONDS)
    with pytest.raises(TimeoutError):
        state.result()


@pytest.mark.behaviour("FLOW-TIME-1", "FLOW-HOOK-1")
def test_a_flow_whose_code_goes_on_is_tried_again_when_that_has_ended():
    begun, hooks = [threading.Event()], []

    @flow(timeout_seconds=LIMIT, retries=1, on_failure=[lambda flow, flow_run, state: hooks.append(state)])
    async def once_late():
        if not begun[0].is_set():
            begun[0].set()
            block(4 * LIMIT)
            return "late"
        return "in time"

    state = asyncio.run(once_late(return_state=True))

    assert state.result() == "in time"
    assert flow_history(state) == ["Pending", "Running", "AwaitingRetry", "Running", "Completed"]
    assert hooks == []


@pytest.mark.behaviour("FLOW-TIME-9")
def test_the_deadline_of_a_parent_is_that_of_a_subflow_whose_code_goes_on():
    begun, let_go = threading.Event(), threading.Event()

    @flow
    def child():
        begun.set()
        let_go.wait(PATIENCE)

    @flow(timeout_seconds=2 * LIMIT)
    def parent():
        child()

    def then() -> None:
        until_recorded(begun, "TimedOut", child=True)
        let_go.set()

    state = called_in_a_thread(lambda: parent(return_state=True), then)

    expect_that_all_were_timed_out(state, 2 * LIMIT)


@pytest.mark.behaviour("FLOW-TIME-1")
def test_a_value_that_comes_after_the_deadline_is_dropped():
    @flow(timeout_seconds=LIMIT)
    def swallows():
        try:
            block()
        except BaseException:
            return "late"

    assert swallows(return_state=True).name == "TimedOut"
