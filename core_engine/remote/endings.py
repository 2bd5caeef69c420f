"""How a run ends that no worker ended: it was lost, could not be sent, or its upstream did not complete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from core_engine.concurrency.waiting import step
from core_engine.engine.crashes import crash_task_run
from core_engine.engine.task_runs import not_ready

if TYPE_CHECKING:
    from core_engine.engine.calls import TaskCall
    from core_engine.engine.run_sets import RunSet
    from core_engine.exceptions import UpstreamTaskError


def end_not_ready(run_set: RunSet, call: TaskCall, error: UpstreamTaskError) -> None:
    """Ends a run whose upstream did not complete."""
    run = call.run_record = run_set.activate(call.index)
    call.report(step(not_ready(run, error)))


def crash(run_set: RunSet, call: TaskCall, error: BaseException) -> None:
    """Ends a run in Crashed."""
    run = call.run_record = run_set.activate(call.index)
    run_set.executing.pop(call.index, None)
    call.report(crash_task_run(run, error))


def crash_all(run_set: RunSet, calls: Iterable[TaskCall], error: BaseException) -> None:
    """Ends those of some runs in Crashed that have no outcome."""
    for call in calls:
        if run_set.states[call.index] is None:
            crash(run_set, call, error)
