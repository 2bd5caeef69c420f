"""FLOW-TIME: time limits of flows."""

import threading

import anyio
import anyio.lowlevel
import pytest

from core_engine import flow, task
from tests.behaviours.helpers import block, read_task_runs, stored_flow_state, takes_less_than

LIMIT = 0.1
# Below this a call counts as prompt. What blocks would block for ten seconds.
PROMPT = 5.0


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
        assert parent(return_state=True).name == "TimedOut"


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
        assert (await parent(return_state=True)).name == "TimedOut"
