"""Ending runs before their time: cancellation, and the orderly end of a flow run that crashed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from core_engine.concurrency.interrupts import Interrupt
from core_engine.concurrency.loops import engine_loop
from core_engine.schemas.states import CANCELLED, CANCELLING, FINAL_TYPES, State

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveFlowRun
    from core_engine.engine.run_sets import RunSet

INTERRUPT_AGAIN_SECONDS = 0.1
LONGEST_CANCELLATION_SECONDS = 0.9


class TaskRunCancelled(Interrupt):
    """Raised in the user's code of a task run that is cancelled."""


class TaskRunStopped(Interrupt):
    """Raised in the user's code of a task run whose flow run has crashed."""

    def __str__(self) -> str:
        return "the flow run that it belongs to has crashed"


class FlowRunCancelled(Interrupt):
    """Raised in the user's code of a flow run that is cancelled."""


def cancel_task_run(run_set: RunSet, index: int) -> bool:
    """Cancels one task run, within a second whatever its code does; returns whether it had not ended."""
    if run_set.states[index] is not None:
        return False
    run_set.cancel_requests.add(index)
    _interrupt_until_ended(run_set, index, time.monotonic() + LONGEST_CANCELLATION_SECONDS)
    return True


def _interrupt_until_ended(run_set: RunSet, index: int, deadline: float) -> None:
    if run_set.states[index] is not None:
        return
    executing = run_set.executing.get(index)
    if executing is None or time.monotonic() > deadline:
        _record_cancelled(run_set, index, left_behind=executing is not None)
        return
    executing.interrupt(run_set.active.get(index), TaskRunCancelled)
    engine_loop().call_later(INTERRUPT_AGAIN_SECONDS, lambda: _interrupt_until_ended(run_set, index, deadline))


def _record_cancelled(run_set: RunSet, index: int, left_behind: bool) -> None:
    from core_engine.engine.proposals import decide_task
    from core_engine.engine.run_logs import logger_of_task_run

    run = run_set.activate(index)
    if run.state._type not in FINAL_TYPES:
        message = "The task run was cancelled."
        if left_behind:
            message = "The task run was cancelled. Its code cannot be interrupted; it is left behind."
            logger = logger_of_task_run(run)
            logger.warning("%s Its value will be dropped.", message)
        decide_task(run, State(CANCELLED, message=message), execution=run.execution)
    run_set.settle(index, run.state)


async def end_task_runs(flow_run: ActiveFlowRun, interruption: type[Interrupt] = TaskRunStopped) -> None:
    """Ends all task runs of a flow run that has been stopped: what runs is interrupted, what waits never starts.

    Waits for what runs, up to the setting grace_seconds; what goes on even then is recorded as ended and left behind.
    """
    from core_engine.engine.crashes import crash_task_run, end_unstarted

    deadline = time.monotonic() + flow_run.client.grace_seconds
    while True:
        open_sets = flow_run.open_sets()
        for run_set in open_sets:
            for index in run_set.unsettled():
                executing = run_set.executing.get(index)
                if executing is not None:
                    executing.interrupt(run_set.active.get(index), interruption)
                elif index not in run_set.active or index in run_set.waiting:
                    end_unstarted(run_set, index)
        if not flow_run.open_sets():
            return
        if time.monotonic() > deadline:
            break
        ended = flow_run.when_all_ended()
        await ended.arrive(INTERRUPT_AGAIN_SECONDS)
    for run_set in flow_run.open_sets():
        for index in run_set.unsettled():
            run = run_set.activate(index)
            crash_task_run(run, flow_run.stopping or interruption())
            run_set.settle(index, run.state)


def cancel_flow_run(run: ActiveFlowRun) -> None:
    """Begins the cancellation of a flow run that this process executes: Cancelling, no more starts, user code
    interrupted. The flow run itself then ends as Cancelled. Any thread."""
    from core_engine.engine.proposals import decide_flow

    state = run.progress.state
    if run.cancelling or state is None or state._type in FINAL_TYPES:
        return
    run.cancelling = True
    decide_flow(run, State(CANCELLING, message="The flow run was asked to cancel."))
    run.stop(FlowRunCancelled())
    for child in list(run.children):
        cancel_flow_run(child)
    for run_set in run.open_sets():
        for index in run_set.unsettled():
            cancel_task_run(run_set, index)
    _interrupt_function(run)


def _interrupt_function(run: ActiveFlowRun) -> None:
    """Interrupts the flow's own function until it has ended."""
    executing = run.executing
    if executing is None:
        return
    executing.interrupt(run, FlowRunCancelled)
    engine_loop().call_later(INTERRUPT_AGAIN_SECONDS, lambda: _interrupt_function(run))


class ExecutingTask:
    """An async function that is being awaited as part of a loop's task."""

    __slots__ = ("_loop", "_task")

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._loop = asyncio.get_running_loop()

    def interrupt(self, call: object, exception: type[Interrupt]) -> bool:
        """Cancels the task; returns whether it has not ended."""
        if self._task.done():
            return False
        try:
            self._loop.call_soon_threadsafe(self._task.cancel)
        except RuntimeError:
            return False  # the loop was closed, and the task with it
        return True
