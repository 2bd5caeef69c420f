"""Flow runs whose time is over: what runs below them is cancelled, and they are recorded as TimedOut."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from core_engine.concurrency.interrupts import Interrupt
from core_engine.schemas.states import RUNNING

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveFlowRun

# How long after its deadline a flow run's code, and what runs below it, is given to end before the end is recorded.
LATE_SECONDS = 0.05


class FlowExpired(Interrupt):
    """Raised in a flow's function whose time is over."""


class FlowTimeIsOver(TimeoutError):
    """Raised where a flow whose time is over calls a task: before its function is interrupted, or after it went on."""


class FlowTimedOut(Exception):
    """The flow's function, or a task run of the flow, did not end in time."""

    def __init__(self, timeout_seconds: float) -> None:
        super().__init__(f"exceeded the timeout of {timeout_seconds} seconds")
        self.timeout_seconds = timeout_seconds


def limit_exceeded(run: ActiveFlowRun) -> float | None:
    """Returns the time limit that is over: the flow run's own, or that of one above it; None: none is."""
    found: ActiveFlowRun | None = run
    while found is not None:
        if found.deadline is not None and time.monotonic() >= found.deadline:
            return found.flow.timeout_seconds
        found = found.parent
    return None


def seconds_left(run: ActiveFlowRun) -> float | None:
    """Returns how long it is until the first deadline of the flow run and those above it; None: there is none."""
    found: ActiveFlowRun | None = run
    first: float | None = None
    while found is not None:
        if found.deadline is not None and (first is None or found.deadline < first):
            first = found.deadline
        found = found.parent
    return None if first is None else max(0.0, first - time.monotonic())


def is_overdue(run: ActiveFlowRun, error: BaseException) -> bool:
    """Returns whether what came out of a flow run came of a deadline that has passed, and of nothing else."""
    from core_engine.engine.signals import signal_for

    comes_of_it = isinstance(error, (FlowExpired, asyncio.CancelledError)) and limit_exceeded(run) is not None
    return comes_of_it and not run.cancelling and run.stopping is None and signal_for(run) is None


def cancel_task_runs(run: ActiveFlowRun) -> None:
    """Cancels the task runs of a flow run whose time is over, and of those below it: none starts, what runs is
    interrupted. Any thread."""
    from core_engine.engine.cancellation import cancel_task_run

    for child in list(run.children):
        cancel_task_runs(child)
    for run_set in run.open_sets():
        for index in run_set.unsettled():
            if index not in run_set.cancel_requests:
                cancel_task_run(run_set, index)


async def end_overdue(run: ActiveFlowRun, timeout_seconds: float) -> None:
    """Cancels the task runs of a flow run whose time is over, and waits for their end; records its own meanwhile.

    What is recorded stands in ``run.ended_early``. From now on what is above interrupts nothing here.
    """
    run.is_ending_runs = True
    cancel_task_runs(run)
    await run.when_all_ended().arrive(LATE_SECONDS)
    record_timed_out(run, timeout_seconds)
    await run.end_attempt()


async def end_interrupted(run: ActiveFlowRun) -> None:
    """Ends a flow run that a deadline above it has taken along on its way, wherever that was."""
    from core_engine.engine.hooks import run_flow_hooks
    from core_engine.engine.outcomes import timed_out_state
    from core_engine.engine.proposals import decide_flow
    from core_engine.engine.run_logs import logger_of_flow_run

    limit = limit_exceeded(run)
    if limit is None or run.has_ended():
        return
    await end_overdue(run, limit)
    with run.decisions:
        state = run.progress.state if run.has_ended() else decide_flow(run, timed_out_state(limit), force=True).state
    assert state is not None
    logger_of_flow_run(run).error("Finished in state %s", state)
    await run_flow_hooks(run, state)
    await run.client.journal_committed(state._position)


def record_timed_out(run: ActiveFlowRun, timeout_seconds: float) -> bool:
    """Records a flow run as TimedOut, unless it has left Running; returns whether this did. Any thread."""
    from core_engine.engine.outcomes import timed_out_state
    from core_engine.engine.proposals import decide_flow

    with run.decisions:
        state = run.progress.state
        if run.ended_early is not None or state is None or state._type is not RUNNING:
            return False
        proposed = timed_out_state(timeout_seconds)
        # Under a deadline from above there is no time for another attempt.
        is_its_own = run.deadline is not None and time.monotonic() >= run.deadline
        decided = decide_flow(run, proposed, force=not is_its_own).state
        assert decided is not None
        run.ended_early = proposed, decided
        return True
