"""What happens to the rest of a map when too many of its runs have failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_engine.schemas.states import CANCELLED, CRASHED, FAILED, State

if TYPE_CHECKING:
    from core_engine.engine.run_sets import RunSet


def after_bad_end(run_set: RunSet, state: State) -> None:
    """Acts on the end of a run that did not complete, by the task's map options. Any thread."""
    options = run_set.task.map_options
    if options is None or options.max_failures is None or options.on_failure == "continue":
        return
    if state._type is not FAILED and state._type is not CRASHED:
        return
    failures = sum(one._type is FAILED or one._type is CRASHED for one in list(run_set.summary.not_completed.values()))
    if failures <= options.max_failures or run_set.closed is not None:
        return
    run_set.closed = f"The map was ended, because {failures} of its runs failed ({options.max_failures} may)."
    end_rest(run_set, cancel_running=options.on_failure == "cancel")


def end_rest(run_set: RunSet, cancel_running: bool) -> None:
    """Ends a closed map: what has not started never will; what runs goes on, or is cancelled."""
    from core_engine.engine.cancellation import cancel_task_run

    for index in run_set.unsettled():
        if index not in run_set.active or index in run_set.waiting:
            end_closed(run_set, index)
        elif cancel_running:
            cancel_task_run(run_set, index)


def end_closed(run_set: RunSet, index: int) -> None:
    """Records a run of a closed map that will not start."""
    run_set.end(index, State(CANCELLED, message=run_set.closed))
