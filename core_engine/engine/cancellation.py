"""Ending runs before their time: cancellation, and the orderly end of a flow run that crashed."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from core_engine.concurrency.interrupts import Interrupt, raise_in_task
from core_engine.concurrency.loops import engine_loop
from core_engine.concurrency.threads import service_threads
from core_engine.concurrency.waiting import Latch, drives_loop, step
from core_engine.exceptions import Abort
from core_engine.schemas.states import CANCELLED, CANCELLING, FINAL_TYPES, State

if TYPE_CHECKING:
    from uuid import UUID

    from core_engine.engine.active import ActiveFlowRun, Executing
    from core_engine.engine.run_sets import RunSet

INTERRUPT_AGAIN_SECONDS = 0.1
LONGEST_CANCELLATION_SECONDS = 0.4
# After so many runs that are recorded as ended it is asked whether there is still time for that.
LOOK_EVERY = 1_000


class TaskRunCancelled(Interrupt):
    """Raised in the user's code of a task run that is cancelled."""


class LeftBehind(Abort):
    """Raised where an async function has ended whose run the engine has ended meanwhile: nobody waits for it."""


class TaskRunStopped(Interrupt):
    """Raised in the user's code of a task run whose flow run has crashed."""

    def __str__(self) -> str:
        return "the flow run that it belongs to has crashed"


class FlowRunStopped(Interrupt):
    """Raised in the user's code of a flow run whose parent has crashed."""

    def __str__(self) -> str:
        return "the flow run that called it has crashed"


class FlowRunCancelled(Interrupt):
    """Raised in the user's code of a flow run that is cancelled."""


def raise_stopping(flow_run: ActiveFlowRun) -> None:
    """Raises what ends the flow run, if it is being ended: in its function's place, or where it calls a task.

    On a loop that is a cancellation, since there an interrupt would end the loop before the runs are recorded.
    """
    from core_engine.engine.signals import signal_for

    # A signal may have got through to the code here before the engine loop's thread has stopped the run.
    reason = flow_run.stopping or signal_for(flow_run)
    if reason is None:
        return
    if isinstance(reason, FlowRunCancelled):
        raise FlowRunCancelled
    if drives_loop() and not isinstance(reason, Exception):
        raise asyncio.CancelledError from reason
    raise reason


def cancel_task_run(run_set: RunSet, index: int) -> bool:
    """Cancels one task run, within a second whatever its code does; returns whether it had not ended."""
    if run_set.states[index] is not None:
        return False
    run_set.cancel_requests.add(index)
    _interrupt_until_ended(run_set, index, time.monotonic() + LONGEST_CANCELLATION_SECONDS)
    return True


def cancel_task_run_of(flow_run: ActiveFlowRun, task_run_id: UUID) -> None:
    """Cancels a task run by its id, or the subflow that it stands for, unless it has ended. Any thread."""
    for child in list(flow_run.children):
        if child.stand_in is not None and child.stand_in.id == task_run_id:
            cancel_flow_run(child)
    place = flow_run.place_of(task_run_id)
    if place is not None:
        cancel_task_run(*place)


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
    # Who holds the lock may be about to record the run's own end: seen before it is recorded it would never be durable.
    with run.flow_run.decisions:
        if run.state._type not in FINAL_TYPES:
            message = "The task run was cancelled."
            if left_behind:
                message = "The task run was cancelled. Its code cannot be interrupted; it is left behind."
                logger_of_task_run(run).warning("%s Its value will be dropped.", message)
            decide_task(run, State(CANCELLED, message=message), execution=run.execution)
        state = run.state
    run_set.settle(index, state)


async def end_runs_below(flow_run: ActiveFlowRun) -> None:
    """Ends the task runs and subflows of a flow run that has been stopped: what runs is interrupted, what waits never
    starts.

    Waits for what runs, up to the setting grace_seconds; what goes on even then is recorded as ended and left behind.
    """
    from core_engine.engine.crashes import end_at_once
    from core_engine.engine.signals import is_urgent

    assert flow_run.stopping is not None
    deadline = time.monotonic() + flow_run.client.grace_seconds
    try:
        while True:
            _end_waiting(flow_run)
            if not flow_run.open_sets() and not flow_run.children:
                return
            if time.monotonic() > deadline or is_urgent(flow_run):
                return
            interrupt_runs(flow_run)
            # Subflows that end set no latch.
            ended = flow_run.when_all_ended() if flow_run.open_sets() else Latch()
            await ended.arrive(INTERRUPT_AGAIN_SECONDS)
    finally:
        end_at_once(flow_run, flow_run.stopping, below=True)


def _end_waiting(flow_run: ActiveFlowRun) -> None:
    """Records the task runs that have not started, or wait for their next attempt: they never will."""
    from core_engine.engine.crashes import end_unstarted
    from core_engine.engine.signals import is_urgent

    for run_set in flow_run.open_sets():
        for index in run_set.unsettled():
            if index % LOOK_EVERY == 0 and is_urgent(flow_run):
                return
            if index not in run_set.active or index in run_set.waiting:
                end_unstarted(run_set, index)


def interrupt_runs(flow_run: ActiveFlowRun, spared_thread: int | None = None) -> None:
    """Interrupts the code of a stopped flow run's task runs and subflows, which may go on all the same. Any thread.

    At most every ``INTERRUPT_AGAIN_SECONDS``, however often it is called: who is interrupted is to clean up.

    Parameters:
        flow_run: The flow run.
        spared_thread: The thread in which nothing is interrupted, because it is about to be in another way. None: none.
    """
    now = time.monotonic()
    if now < flow_run.interrupted + INTERRUPT_AGAIN_SECONDS:
        return
    flow_run.interrupted = now
    for run_set in flow_run.open_sets():
        for index, executing in list(run_set.executing.items()):
            if not _is_spared(executing, spared_thread):
                executing.interrupt(run_set.active.get(index), TaskRunStopped)
    for child in list(flow_run.children):
        assert flow_run.stopping is not None
        child.stop(flow_run.stopping)
        interrupt_runs(child, spared_thread)
        if child.executing is not None and not _is_spared(child.executing, spared_thread):
            child.executing.interrupt(child, FlowRunStopped)


def _is_spared(executing: Executing, spared_thread: int | None) -> bool:
    """Returns whether code runs in the thread that is spared, if one is. That of a worker runs in none of ours."""
    return spared_thread is not None and executing.ident == spared_thread


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
    _interrupt_function(run, time.monotonic() + LONGEST_CANCELLATION_SECONDS)


def interrupt_functions(run: ActiveFlowRun, exception: type[Interrupt]) -> None:
    """Interrupts the functions of a flow run's subflows, or its own if none of theirs is to end first.

    What ends a subflow in order, in the thread or task of the function that called it, is not to be interrupted.
    """
    for child in list(run.children):
        interrupt_functions(child, exception)
    if run.executing is not None and not _is_ending_below(run):
        run.executing.interrupt(run, exception)


def _is_ending_below(run: ActiveFlowRun) -> bool:
    return any(
        child.executing is not None or child.is_ending_runs or _is_ending_below(child) for child in list(run.children)
    )


def _interrupt_function(run: ActiveFlowRun, deadline: float) -> None:
    """Interrupts the flow's own function until it has ended; if it goes on after the deadline, its end is recorded."""
    if run.executing is None:
        return
    if not _is_ending_below(run):
        run.executing.interrupt(run, FlowRunCancelled)
    if time.monotonic() > deadline:
        service_threads.run(lambda: _end_cancelled(run))
    engine_loop().call_later(INTERRUPT_AGAIN_SECONDS, lambda: _interrupt_function(run, deadline))


def _end_cancelled(run: ActiveFlowRun) -> None:
    """Calls the hooks of a cancelled flow run whose function goes on, and records its end."""
    from core_engine.engine.flow_runs import end_as_cancelled
    from core_engine.engine.run_logs import logger_of_flow_run

    for child in list(run.children):
        _end_cancelled(child)
        if child.ended_elsewhere is not None:
            child.ended_elsewhere.wait()  # its hooks come before those of its parent
        elif child.is_ending_runs and not child.has_ended():
            return  # likewise; this is called again
    with run.decisions:
        if run.executing is None or run.ended_elsewhere is not None:
            return
        run.ended_elsewhere = Latch()
    try:
        logger_of_flow_run(run).warning("The flow run was cancelled. Its code did not end; its value will be dropped.")
        step(end_as_cancelled(run))
    finally:
        run.ended_elsewhere.set()


# Held for a moment, so that an async function either has ended or is left behind.
_ending = threading.Lock()


class ExecutingTask:
    """An async function that is being awaited as part of a loop's task.

    ``_has_ended`` is set by the loop's thread, under ``_ending``: an interrupt that comes there after the function has
    ended is dropped, so that it never meets the engine's own waiting.

    Parameters:
        deadline: The monotonic time at which it is to be over; None: whenever it is.

    Attributes:
        is_left_behind: Whether the engine has given the call up; what becomes of it changes nothing any more.
    """

    __slots__ = ("_has_ended", "_is_asked", "_task", "deadline", "ident", "is_left_behind")

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        self.is_left_behind = False
        self._is_asked = False
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._has_ended = False
        self.ident = threading.get_ident()

    def interrupt(self, call: object, exception: type[Interrupt]) -> bool:
        """Cancels the task if the function has not ended; returns whether it may go on. Any thread.

        If the loop has not come to that since the last time, because this very task holds it, `exception` is raised.
        """
        if self._has_ended or self._task.done():
            return False
        if self._is_asked:
            raise_in_task(self.ident, self._task.get_loop(), self._task, exception)
            return True
        self._is_asked = True
        try:
            self._task.get_loop().call_soon_threadsafe(self._cancel)
        except RuntimeError:
            return False  # the loop was closed, and the task with it
        return True

    def leave_behind(self) -> bool:
        """Gives the call up unless the function has ended; returns whether this did it. Any thread but the loop's."""
        with _ending:
            if self._has_ended or self.is_left_behind:
                return False
            self.is_left_behind = True
            return True

    def ended(self) -> None:
        """The function has ended. On the loop.

        Raises:
            LeftBehind: The engine has given the call up before.
        """
        with _ending:
            self._has_ended = True
        if self.is_left_behind:
            raise LeftBehind("It was left behind while its code ran.")

    def _cancel(self) -> None:
        self._is_asked = False
        if not self._has_ended:
            self._task.cancel()
