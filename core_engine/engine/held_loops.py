"""What is done about a task that holds the event loop which async tasks share (D19).

It is named in a warning after a second. At its deadline, or when it is cancelled, it is interrupted. If it stays even
then, the loop is given up: the others that were on it are lost with it.

Whoever has not ended a moment after its deadline is ended from outside: one that cannot go on because another one holds
the loop, or that goes on after it was cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from core_engine.concurrency.interrupts import Interrupt, raise_in_task
from core_engine.concurrency.loop_watch import Held, LoopWatch
from core_engine.engine.cancellation import ExecutingTask, TaskRunCancelled, TaskRunStopped
from core_engine.engine.crashes import crash_task_run
from core_engine.engine.hooks import run_task_hooks
from core_engine.engine.proposals import propose_task_state
from core_engine.engine.run_logs import log_end, log_retry, logger_of_task_run
from core_engine.engine.task_runs import timed_out_state
from core_engine.engine.timeouts import Expired, TimedOut
from core_engine.exceptions import Abort, CoreEngineError, Pause
from core_engine.schemas.states import CANCELLED, SCHEDULED, State

if TYPE_CHECKING:
    from core_engine.concurrency.loops import LoopThread
    from core_engine.engine.active import ActiveTaskRun
    from core_engine.results import ResultFactory
    from core_engine.tasks import Task

# How often loops are looked at while tasks are on them.
LOOK_SECONDS = 0.1
# From when on who holds a loop is named.
LONG_SECONDS = 1.0
# How long interrupts are given to work.
STUCK_SECONDS = 0.5
# How long after its deadline the loop is given to end a run.
LATE_SECONDS = 0.05

K = TypeVar("K")

_logger = logging.getLogger("core_engine.task_runs")


class LoopGuard:
    """Watches one loop that async tasks share. Used by one thread, which is not the loop's.

    Parameters:
        thread: The loop.
    """

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread
        self._watch = LoopWatch(thread)
        self._warned: asyncio.Task[Any] | None = None
        self._interrupted: asyncio.Task[Any] | None = None
        self._interrupted_since = 0.0

    def look(self, now: float, run_of: Callable[[asyncio.Task[Any]], ActiveTaskRun | None]) -> ActiveTaskRun | None:
        """Warns about and interrupts whoever holds the loop and should not.

        Parameters:
            now: The monotonic time, in seconds.
            run_of: Returns the task run that a task of the loop executes.

        Returns:
            The run because of which the loop is to be given up; None otherwise.
        """
        held = self._watch.look(now)
        if held is None:
            return None
        run = run_of(held.task)
        if held.seconds >= LONG_SECONDS and self._warned is not held.task:
            self._warned = held.task
            _warn(run, held)
        interrupt = None if run is None else _overdue(run, now)
        if interrupt is None:
            return None
        raise_in_task(self._thread.thread.ident or 0, self._thread.loop, held.task, interrupt)
        if self._interrupted is not held.task:
            self._interrupted, self._interrupted_since = held.task, now
        return run if now - self._interrupted_since >= STUCK_SECONDS else None


def _warn(run: ActiveTaskRun | None, held: Held) -> None:
    logger: Any = _logger if run is None else logger_of_task_run(run)
    who = "A task" if run is None else f"Task run '{run.run_name}'"
    logger.warning(
        "%s holds the event loop that async tasks share for over %.0f second: it is at %s. No other async task goes on "
        "meanwhile. Await in async tasks, and make blocking calls in a sync task or by asyncio.to_thread.",
        who,
        LONG_SECONDS,
        held.where,
    )


def _overdue(run: ActiveTaskRun, now: float) -> type[Interrupt] | None:
    """Returns what is to be raised in a run's code that should be over by now; None if it need not be."""
    if run.is_cancelled():
        return TaskRunCancelled
    if run.flow_run.stopping is not None:
        return TaskRunStopped
    executing = _executing(run)
    if executing is not None and executing.deadline is not None and now > executing.deadline:
        return Expired
    return None


def leave_overdue(runs: Iterable[tuple[K, ActiveTaskRun]], now: float) -> tuple[list[K], float]:
    """Gives up the calls of runs that should have ended by their deadlines; whoever calls this then ends the runs.

    Parameters:
        runs: Runs that are on one loop, each with what it is known by.
        now: The monotonic time, in seconds.

    Returns:
        What the runs are known by whose calls were given up, and in how many seconds the next look is due.
    """
    overdue, wait_seconds = [], LOOK_SECONDS
    for key, run in runs:
        executing = _executing(run)
        if executing is None or executing.deadline is None or executing.is_left_behind:
            continue
        left = executing.deadline - now
        if left <= -LATE_SECONDS and executing.leave_behind():
            overdue.append(key)
        elif left > -LATE_SECONDS:
            wait_seconds = min(wait_seconds, left if left > 0 else left + LATE_SECONDS)
    return overdue, wait_seconds


def _executing(run: ActiveTaskRun) -> ExecutingTask | None:
    found = None if run.run_set is None else run.run_set.executing.get(run.position)
    return found if isinstance(found, ExecutingTask) else None


def end_holder(run: ActiveTaskRun, task: Task[..., Any], result_factory: ResultFactory) -> State:
    """Ends a run that held a loop, or is overdue, whose code is left behind; returns the state that it is in then.

    That is Cancelled, or TimedOut, which may lead to a retry.
    """
    from core_engine.concurrency.waiting import step

    executing = _executing(run)
    if executing is not None:
        executing.is_left_behind = True
    if run.is_cancelled():
        proposed = State(
            CANCELLED, message="The task run was cancelled. Its code cannot be interrupted; it is left behind."
        )
    elif run.flow_run.stopping is not None:
        return crash_task_run(run, TaskRunStopped())
    else:
        assert task.timeout_seconds is not None
        proposed = timed_out_state(run, TimedOut(task.timeout_seconds, abandoned=True), result_factory)
    return step(_end(run, task, proposed))


async def _end(run: ActiveTaskRun, task: Task[..., Any], proposed: State) -> State:
    try:
        state = await propose_task_state(run, proposed, execution=run.execution)
    except (Abort, Pause):
        return run.state
    if state._type is SCHEDULED:
        log_retry(run, state)
    elif state is proposed:
        log_end(run, state)
        await run_task_hooks(run, task, state)
    return state


def end_bystander(run: ActiveTaskRun, holder: ActiveTaskRun) -> State:
    """Ends a run that was on a loop which another one held; returns the state that it is in then."""
    executing = _executing(run)
    if executing is not None:
        executing.is_left_behind = True
    return crash_task_run(run, CoreEngineError(lost_with(holder)))


def lost_with(holder: ActiveTaskRun) -> str:
    """Returns why a run ended that was on a loop with `holder`."""
    return (
        f"Task run '{holder.run_name}' held the event loop that async tasks share, and could not be interrupted. The "
        "loop was given up, and this task run with it."
    )
