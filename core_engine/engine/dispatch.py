"""Dispatch: a task run goes to its runner when its inputs are final (D12), and again when a retry is due (D13)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from core_engine import clock
from core_engine.concurrency.loops import engine_loop
from core_engine.concurrency.waiting import step
from core_engine.engine.calls import CallBlock, TaskCall
from core_engine.engine.crashes import crashed_task_state, end_unstarted
from core_engine.engine.holds import until_it_is_not_held
from core_engine.engine.inputs import futures_ended, holds_handles, unsettled_futures, when_ended
from core_engine.engine.slots import SlotGate

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
        when_ended(shared, lambda: _dispatch_columns(run_set))
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
        _submit_now(run_set, range(run_set.count), run_set.count)
        return
    ready: list[int] = []
    for index in range(run_set.count):
        futures = unsettled_futures(values[index] for values in columns)
        if futures:
            when_ended(futures, _submit_one(run_set, index))
        else:
            ready.append(index)
    if ready:
        _submit_now(run_set, ready, len(ready))


def _submit_one(run_set: RunSet, index: int) -> Callable[[], None]:
    return lambda: _submit_now(run_set, (index,), 1)


def _submit_now(run_set: RunSet, indices: Sequence[int], size: int) -> None:
    step(submit(run_set, indices, size))


async def submit(run_set: RunSet, indices: Sequence[int], size: int) -> None:
    """Hands runs to the run set's runner, which may start them at once."""
    if run_set.gate is not None:
        await run_set.gate.submit(indices)
        return
    await submit_granted(run_set, indices, size)


async def submit_granted(run_set: RunSet, indices: Sequence[int], size: int) -> None:
    """Hands runs that hold every slot they need to the runner."""
    runner = run_set.runner
    assert runner is not None
    if runner.takes_blocks:
        await runner.submit_batch(CallBlock(run_set, indices, size, in_caller=run_set.in_caller))
        return
    outcomes = [engine_loop().submit(_run_one, run_set, runner, index) for index in indices]
    if run_set.waits_in_place:
        for outcome in outcomes:
            await outcome.arrive_result()


async def _run_one(run_set: RunSet, runner: BaseTaskRunner, index: int) -> None:
    """Runs one call on a runner that has only the four basic members."""
    if run_set.flow_run.stopping is not None:
        end_unstarted(run_set, index)
        return
    call = TaskCall(run_set, index)
    await until_it_is_not_held(run_set.flow_run)
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
    due = call.report(state)
    if due is not None:
        await call.wait_until(due)
        await _run_one(run_set, runner, index)


def dispatch_again(run_set: RunSet, index: int, due: float) -> None:
    """Submits a run again when it is due (seconds since the epoch). Any thread."""
    run_set.waiting.add(index)
    clock.current.call_at(due, lambda: _submit_now(run_set, (index,), 1))


def hold_back(run_set: RunSet, index: int) -> None:
    """Keeps a run that was refused to start, and submits it again when its flow run goes on. Any thread."""
    run_set.waiting.add(index)
    hold = run_set.flow_run.hold
    if hold is None:
        _submit_now(run_set, (index,), 1)
    else:
        hold.when_released(lambda: _submit_now(run_set, (index,), 1))


def submit_again(block: CallBlock) -> None:
    """Hands the rest of a block to its runner. Any thread."""
    runner = block.run_set.runner
    assert runner is not None
    step(runner.submit_batch(block))
