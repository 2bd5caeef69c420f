"""Ctrl-C and SIGTERM while async flows run on a loop of the main thread (D25)."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from core_engine import flow, pause_flow_run, task
from core_engine.exceptions import TerminationSignal
from core_engine.task_runners import BaseTaskRunner
from tests.behaviours.helpers import block, read_flow_runs, read_task_runs, setting, takes_less_than
from tests.faults.helpers import PATIENCE, Moment, sends, spin, states_of

INTERRUPTED = "Execution was aborted by an interrupt signal."
TERMINATED = "Execution was aborted by a termination signal."


@task
async def sleeps(moment: Moment) -> None:
    moment.come()
    await asyncio.sleep(PATIENCE)


@task
def waits(moment: Moment) -> None:
    moment.come()
    block()


@flow
async def sleeping_child(moment: Moment) -> None:
    moment.come()
    await asyncio.sleep(PATIENCE)


@flow
def waiting_child(moment: Moment) -> None:
    moment.come()
    block()


async def in_sleep(moment: Moment) -> None:
    moment.come()
    await asyncio.sleep(PATIENCE)


async def in_async_call(moment: Moment) -> None:
    await sleeps(moment)


async def in_result(moment: Moment) -> None:
    future = await sleeps.submit(moment)
    await future.result()


async def in_sync_call(moment: Moment) -> None:
    waits(moment)


async def in_sync_result(moment: Moment) -> None:
    waits.submit(moment).result()


async def in_async_child(moment: Moment) -> None:
    await sleeping_child(moment)


async def in_sync_child(moment: Moment) -> None:
    waiting_child(moment)


async def in_pause(moment: Moment) -> None:
    moment.come()
    await pause_flow_run(timeout=PATIENCE)


async def at_the_end(moment: Moment) -> None:
    await sleeps.submit(moment)


async def in_group(moment: Moment) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(sleeping_child(Moment()))
        group.create_task(sleeping_child(moment))


WAYS = [
    in_pause,
    in_sleep,
    in_async_call,
    in_result,
    in_sync_call,
    in_sync_result,
    in_async_child,
    in_sync_child,
    at_the_end,
    in_group,
]

# Nothing on the loop can cancel a flow that holds it; signals can.
HOLD_THE_LOOP = [in_sync_call, in_sync_result, in_sync_child]


def run_by_asyncio(main: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(main())  # type: ignore[arg-type]


def run_by_anyio(main: Callable[[], Awaitable[Any]]) -> Any:
    return anyio.run(main)


def run_by_a_loop(main: Callable[[], Awaitable[Any]]) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


def everything_crashed(message: str) -> None:
    for run in read_flow_runs():
        assert (run.flow_name, run.state_type, run.state.message) == (run.flow_name, "CRASHED", message)
        for one in read_task_runs(run.id):
            assert (one.name, one.state_type) == (one.name, "CRASHED")


@pytest.mark.behaviour("D25", "CRASH-2", "CRASH-4", "CRASH-5", "D36")
@pytest.mark.parametrize("way", WAYS)
def test_an_interrupt_ends_an_async_flow_wherever_it_is(way: Callable[[Moment], Awaitable[None]]):
    moment, hooks = Moment(), []

    async def note(flow: Any, flow_run: Any, state: Any) -> None:
        await asyncio.sleep(0)
        hooks.append(state.name)

    @flow(on_crashed=[note])
    async def interrupted() -> None:
        await way(moment)

    with takes_less_than(PATIENCE / 2), sends(signal.SIGINT, moment), pytest.raises(KeyboardInterrupt):
        asyncio.run(interrupted())

    everything_crashed(INTERRUPTED)
    assert hooks == ["Crashed"]


@pytest.mark.behaviour("D25", "CRASH-7", "CRASH-4")
@pytest.mark.parametrize("way", WAYS)
def test_a_termination_signal_ends_an_async_flow_wherever_it_is(way: Callable[[Moment], Awaitable[None]]):
    moment, received = Moment(), []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))

    @flow
    async def terminated() -> None:
        await way(moment)

    try:
        with takes_less_than(PATIENCE / 2), sends(signal.SIGTERM, moment), pytest.raises(TerminationSignal):
            asyncio.run(terminated())
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    everything_crashed(TERMINATED)
    assert received == [signal.SIGTERM]


@pytest.mark.behaviour("D25")
@pytest.mark.parametrize("run", [run_by_asyncio, run_by_anyio, run_by_a_loop])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_async_flows_whoever_runs_their_loop(run: Callable[..., Any], number: int):
    moment, received = Moment(), []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))

    @flow
    async def ended() -> None:
        await in_result(moment)

    async def main() -> None:
        await ended()

    try:
        with takes_less_than(PATIENCE / 2), sends(number, moment):
            with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else TerminationSignal):
                run(main)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    everything_crashed(INTERRUPTED if number == signal.SIGINT else TERMINATED)
    assert received == [number] * (number == signal.SIGTERM)


@pytest.mark.behaviour("D25")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_flows_that_share_a_loop(number: int):
    moments, received = [Moment(), Moment()], []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(len(read_flow_runs())))

    @flow
    async def ended(moment: Moment) -> None:
        await in_sleep(moment)

    async def main() -> None:
        await asyncio.gather(*[ended(moment) for moment in moments])

    try:
        with takes_less_than(PATIENCE / 2), sends(number, moments[1]):
            with pytest.raises((KeyboardInterrupt, TerminationSignal)):
                asyncio.run(main())
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    assert len(read_flow_runs()) == 2
    everything_crashed(INTERRUPTED if number == signal.SIGINT else TERMINATED)
    # Handed on once, when both are recorded.
    assert received == [2] * (number == signal.SIGTERM)


@pytest.mark.behaviour("D25")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_async_subflow_of_a_sync_flow(runner: BaseTaskRunner, number: int):
    moment, received = Moment(), []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))

    @flow(task_runner=runner)
    def parent() -> None:
        sleeping_child(moment)

    try:
        with takes_less_than(PATIENCE / 2), sends(number, moment):
            with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else TerminationSignal):
                parent()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    assert len(read_flow_runs()) == 2
    everything_crashed(INTERRUPTED if number == signal.SIGINT else TERMINATED)


@pytest.mark.behaviour("D25")
def test_an_async_flow_that_never_awaits_is_interrupted_after_the_grace_time():
    moment = Moment()

    @flow
    async def spins() -> None:
        moment.come()
        spin()

    with setting(GRACE_SECONDS=0.2), takes_less_than(PATIENCE / 2), sends(signal.SIGINT, moment):
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(spins())

    everything_crashed(INTERRUPTED)


@pytest.mark.behaviour("D25", "CRASH-5")
def test_an_async_flow_that_swallows_its_cancellation_crashes_all_the_same():
    moment = Moment()

    @flow
    async def swallows() -> str:
        try:
            await in_sleep(moment)
        except asyncio.CancelledError:
            return "a value"
        return "never"

    with takes_less_than(PATIENCE / 2), sends(signal.SIGINT, moment), pytest.raises(KeyboardInterrupt):
        asyncio.run(swallows())

    everything_crashed(INTERRUPTED)


@pytest.mark.behaviour("D36", "CRASH-5")
@pytest.mark.parametrize("way", [way for way in WAYS if way not in HOLD_THE_LOOP])
def test_a_flow_that_is_cancelled_from_outside_leaves_nothing_running(way: Callable[[Moment], Awaitable[None]]):
    moment = Moment()

    @flow
    async def cancelled() -> None:
        await way(moment)

    async def main() -> None:
        running = asyncio.create_task(cancelled())
        await asyncio.to_thread(moment.await_it)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    with takes_less_than(PATIENCE / 2):
        asyncio.run(main())

    for run in read_flow_runs():
        assert run.state_type == "CRASHED"
    states = [state for run in read_flow_runs() for state in states_of(read_task_runs(run.id))]
    assert set(states) <= {"CRASHED"}


@pytest.mark.behaviour("CRASH-5")
@pytest.mark.parametrize("canceller", ["asyncio", "anyio"])
def test_who_cancels_a_crashing_flow_once_more_waits_until_it_is_recorded(canceller: str):
    moment, in_hook, hooks = Moment(), Moment(), []

    async def note(flow: Any, flow_run: Any, state: Any) -> None:
        in_hook.come()
        for _ in range(20):
            await asyncio.sleep(0)
        hooks.append(state.name)

    @flow(on_crashed=[note])
    async def cancelled() -> None:
        await in_result(moment)

    async def cancel_twice() -> None:
        running = asyncio.create_task(cancelled())
        await asyncio.to_thread(moment.await_it)
        running.cancel()
        await asyncio.to_thread(in_hook.await_it)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    async def leave_a_scope() -> None:
        async def leave() -> None:
            await asyncio.to_thread(moment.await_it)
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(leave)
            await cancelled()

    with takes_less_than(PATIENCE / 2):
        asyncio.run(cancel_twice() if canceller == "asyncio" else leave_a_scope())

    (run,) = read_flow_runs()
    assert run.state_type == "CRASHED"
    assert hooks == ["Crashed"]
    assert states_of(read_task_runs(run.id)) == ["CRASHED"]
