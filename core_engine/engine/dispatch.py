"""Dispatch: a task run goes to its runner when its inputs are final (D12), and again when a retry is due (D13)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from core_engine import clock
from core_engine.concurrency.loops import engine_loop
from core_engine.concurrency.waiting import run_blocking, step
from core_engine.engine.calls import CallBlock
from core_engine.engine.crashes import crashed_task_state, ended_by
from core_engine.engine.holds import until_due
from core_engine.engine.inputs import futures_ended, holds_handles, unsettled_futures, when_ended
from core_engine.engine.run_logs import logger_of_flow_run
from core_engine.engine.slots import SlotGate
from core_engine.exceptions import exception_text

if TYPE_CHECKING:
    from core_engine.engine.run_sets import RunSet
    from core_engine.futures import TaskFuture
    from core_engine.task_runners import BaseTaskRunner


async def dispatch(run_set: RunSet, runner: BaseTaskRunner) -> None:
    """Hands a run set's runs to a runner, each when its inputs are final. With a sequential runner, returns when all
    have ended; otherwise at once."""
    run_set.runner = runner
    if runner.concurrency_type.value == "SEQUENTIAL":
        run_set.waits_in_place = True
    limited = await run_set.flow_run.client.limited_tags(run_set.group.tags)
    if limited:
        run_set.gate = SlotGate(run_set, limited)
    if not run_set.has_handles:
        await submit(run_set, range(run_set.count), run_set.count)
        return
    if run_set.waits_in_place:
        await futures_ended(_unsettled(run_set, None))
        for index in range(run_set.count):
            await futures_ended(_unsettled(run_set, index))
        await submit(run_set, range(run_set.count), run_set.count)
        return
    shared = _unsettled(run_set, None)
    if shared:
        when_ended(shared, lambda: _send_later(run_set, range(run_set.count), lambda: _dispatch_columns(run_set)))
    else:
        _dispatch_columns(run_set)


def _unsettled(run_set: RunSet, index: int | None) -> list[TaskFuture[Any]]:
    """Returns the futures that all runs wait for (None), or those of one run alone."""
    if index is None:
        return unsettled_futures([*run_set.shared.values(), *(run_set.wait_for or ())])
    return unsettled_futures(values[index] for _, values in run_set.columns)


def _dispatch_columns(run_set: RunSet) -> None:
    """Submits the runs whose own inputs are final, and each other one when they are. Any thread."""
    columns = [values for _, values in run_set.columns if any(holds_handles(value) for value in values)]
    if not columns:
        step(submit(run_set, range(run_set.count), run_set.count))
        return
    ready: list[int] = []
    for index in range(run_set.count):
        futures = unsettled_futures(values[index] for values in columns)
        if futures:
            when_ended(futures, _submit_later(run_set, index))
        else:
            ready.append(index)
    if ready:
        step(submit(run_set, ready, len(ready)))


def _submit_later(run_set: RunSet, index: int) -> Callable[[], None]:
    return lambda: _send_later(run_set, (index,), lambda: step(submit(run_set, (index,), 1)))


def _send_later(run_set: RunSet, indices: Sequence[int], send: Callable[[], None]) -> None:
    """Calls `send`, which sends runs on their way, where nobody could be told that it failed. Any thread."""
    if all(run_set.states[index] is not None for index in indices):
        return  # they were ended while they waited, and their runner may have stopped
    try:
        send()
    except BaseException as error:
        logger_of_flow_run(run_set.flow_run).error(
            "Runs of task '%s' could not be submitted, and crash: %s", run_set.task.name, exception_text(error)
        )
        end_unsent(run_set, indices, error)


class ended_unless_sent:  # noqa: N801  # used as `with ended_unless_sent(...)`
    """Ends the runs of a set if an exception leaves the block, in which they are sent on their way."""

    __slots__ = ("_run_set",)

    def __init__(self, run_set: RunSet) -> None:
        self._run_set = run_set

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            # A run that was to be tried again later would be left behind as well.
            self._run_set.closed = f"Submitting it was broken off: {exception_text(error)}"
            end_unsent(self._run_set, range(self._run_set.count), error)


def end_unsent(run_set: RunSet, indices: Sequence[int], error: BaseException) -> None:
    """Ends those of some runs that no call will come for, because sending them on their way failed. Any thread."""
    for index in indices:
        is_with_runner = index in run_set.executing or (index in run_set.active and not run_set.waits_in_place)
        if run_set.states[index] is None and not is_with_runner:
            run_set.end(index, ended_by(error))


async def submit(run_set: RunSet, indices: Sequence[int], size: int) -> None:
    """Hands runs whose inputs are final to the run set's runner, which may start them at once."""
    resumption = run_set.flow_run.resumption
    if resumption is not None:
        indices = await run_blocking(resumption.admit, run_set, indices)
        size = len(indices)
        if not indices:
            return
    if run_set.gate is not None:
        await run_set.gate.submit(indices)
        return
    await submit_granted(run_set, indices, size)


async def submit_granted(run_set: RunSet, indices: Sequence[int], size: int) -> None:
    """Hands runs that hold every slot they need to the runner."""
    runner = run_set.runner
    assert runner is not None
    if runner.takes_blocks:
        goes_first = size == 1 and run_set.has_begun(indices[0])
        await runner.submit_batch(CallBlock(run_set, indices, size, run_set.in_caller, goes_first))
        return
    for index in indices:
        ended = engine_loop().submit(_run_one, run_set, runner, index)
        if run_set.waits_in_place:
            await ended.arrive_result()


async def _run_one(run_set: RunSet, runner: BaseTaskRunner, index: int) -> None:
    """Runs one call on a runner that has only the four basic members; in place until it is not to be tried again."""
    due = await _run_once(run_set, runner, index)
    while due is not None:
        await until_due(run_set.flow_run, due)
        due = await _run_once(run_set, runner, index)


async def _run_once(run_set: RunSet, runner: BaseTaskRunner, index: int) -> float | None:
    call = CallBlock(run_set, (index,), 1).take()
    if call is None:
        return None
    key = f"{run_set.task.name}-{run_set.group.run_id(index).hex}-{time.monotonic_ns()}"
    try:
        await runner.submit(key, call)
        state = await runner.wait(key)
        if state is None:
            raise RuntimeError(f"{type(runner).__name__}.wait returned None, which only a wait with a timeout may.")
    except Exception as error:
        state = crashed_task_state(run_set, index, call.run_record, error)
    run = call.run_record
    if state._group is None and (run is None or run.state is not state):
        # The runner made the state itself: the call was lost, or raised.
        state = crashed_task_state(
            run_set, index, run, state.data if isinstance(state.data, BaseException) else RuntimeError(state.message)
        )
    return call.report(state)


def dispatch_again(run_set: RunSet, index: int, due: float) -> None:
    """Submits a run again when it is due (seconds since the epoch). Any thread."""
    run_set.waiting.add(index)
    clock.current.call_at(due, _submit_later(run_set, index))


def hold_back(run_set: RunSet, index: int) -> None:
    """Keeps a run that was refused to start, and submits it again when its flow run goes on. Any thread."""
    run_set.waiting.add(index)
    hold = run_set.flow_run.hold
    submit_it = _submit_later(run_set, index)
    if hold is None:
        submit_it()
    else:
        hold.when_released(submit_it)


def submit_again(block: CallBlock) -> None:
    """Hands the calls of a block that nobody has taken to its runner. Any thread."""
    runner = block.run_set.runner
    assert runner is not None
    if runner.takes_blocks:
        step(runner.submit_batch(block))
        return
    for index in block.rest():
        engine_loop().submit(_run_one, block.run_set, runner, index)
