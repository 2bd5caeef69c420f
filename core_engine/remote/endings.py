"""How a run ends that no worker ended: it was lost, could not be sent, or its upstream did not complete."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from core_engine.concurrency.threads import service_threads
from core_engine.concurrency.waiting import step
from core_engine.engine.crashes import crash_task_run, crashed_task_state
from core_engine.engine.hooks import run_task_hooks, task_hooks
from core_engine.engine.task_runs import not_ready
from core_engine.schemas.states import FINAL_TYPES

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveTaskRun
    from core_engine.engine.calls import TaskCall
    from core_engine.engine.run_sets import RunSet
    from core_engine.exceptions import UpstreamTaskError

_logger = logging.getLogger("core_engine.remote")


def end_not_ready(run_set: RunSet, call: TaskCall, error: UpstreamTaskError) -> None:
    """Ends a run whose upstream did not complete."""
    run = call.run_record = run_set.activate(call.index)
    call.report(step(not_ready(run, error)))


def crash(run_set: RunSet, call: TaskCall, error: BaseException) -> None:
    """Ends a run in Crashed, unless a worker has reported its end."""
    if end_if_reported(run_set, call):
        return
    run = call.run_record = run_set.activate(call.index)
    run_set.executing.pop(call.index, None)
    call.report(crash_task_run(run, error))


def crash_all(run_set: RunSet, calls: Iterable[TaskCall], error: BaseException) -> None:
    """Ends those of some runs in Crashed that have no outcome."""
    for call in calls:
        if run_set.states[call.index] is None:
            crash(run_set, call, error)


def end_if_reported(run_set: RunSet, call: TaskCall) -> bool:
    """Ends a run whose final state has been reported, though not that its call is over; returns whether it has."""
    run = run_set.active.get(call.index)
    if run is None or run.reopens or run.state._type not in FINAL_TYPES:
        return False
    call.run_record = run
    end_reported(run_set, call, run)
    return True


def end_reported(run_set: RunSet, call: TaskCall, run: ActiveTaskRun) -> None:
    """Hands over the state that a run's call ended in; if it calls for hooks they run first, after the commit."""
    state = run.state
    if not task_hooks(run, run_set.task, state):
        call.report(state)
        return
    context = run_set.context.copy()

    def run_them() -> None:
        try:
            context.run(step, run_task_hooks(run, run_set.task, state))
        except BaseException as error:  # the run has ended; what ends the process ends the flow, as without a cluster
            _logger.exception("The hooks of %s could not be run.", run.run_name)
            crashed_task_state(run_set, call.index, run, error)
        call.report(state)

    service_threads.run(run_them)
