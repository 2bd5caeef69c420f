"""Why a task run that this process is to execute has not started: what only its flow run's process knows."""

from __future__ import annotations

from collections.abc import Container, Iterable
from datetime import UTC, datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Any
from uuid import UUID

from core_engine.engine.active import ActiveFlowRun
from core_engine.engine.inputs import unsettled_futures
from core_engine.schemas.states import FINAL_TYPES, RUNNING, SCHEDULED

if TYPE_CHECKING:
    from core_engine.engine.run_sets import RunSet

MOST_UPSTREAMS = 5


def why_it_waits(run: ActiveFlowRun, task_run_id: UUID) -> dict[str, Any]:
    """Returns why a task run of a flow run of this process has not started. Any thread.

    Returns:
        JSON values: ``reason``, and what belongs to it. "running", "ended" and "unknown" have nothing more; "paused"
        has ``until`` (None: no limit), "retry" has ``due``, "upstream" has ``upstream`` (names of runs) and ``count``,
        "slot" has ``tags`` and ``ahead`` (task runs of this flow run), "order", "window" and "runner" have ``ahead``;
        "window" and "runner" also ``runner``, ``executing``, the number of task runs of the flow run that execute now
        (of "window" async ones only), and ``most``, how many may at once (None: not known).
    """
    place = run.place_of(task_run_id)
    if place is None:
        return {"reason": "unknown"}
    run_set, index = place
    active = run_set.active.get(index)
    state = None if active is None else active.state
    if run_set.states[index] is not None or (state is not None and state._type in FINAL_TYPES):
        return {"reason": "ended"}
    if state is not None and state._type is RUNNING:
        return {"reason": "running"}
    hold = run.hold
    if hold is not None:
        return {"reason": "paused", "until": None if hold.deadline is None else _text_of(hold.deadline)}
    if state is not None and state._type is SCHEDULED and state.state_details.scheduled_time is not None:
        return {"reason": "retry", "due": state.state_details.scheduled_time.isoformat()}
    return _upstream(run_set, index) or _slot(run, run_set, index) or _runner(run, run_set, index)


def _text_of(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _upstream(run_set: RunSet, index: int) -> dict[str, Any] | None:
    if not run_set.has_handles:
        return None
    waited_for = unsettled_futures([*run_set.parameters(index).values(), *(run_set.wait_for or ())])
    if not waited_for:
        return None
    names = list(dict.fromkeys(future.name for future in waited_for))
    return {"reason": "upstream", "upstream": names[:MOST_UPSTREAMS], "count": len(names)}


def _slot(run: ActiveFlowRun, run_set: RunSet, index: int) -> dict[str, Any] | None:
    gate = run_set.gate
    if gate is None or index in run_set.active:
        return None
    ahead = gate.ahead_of(index)
    if ahead is None:
        return None
    for earlier in takewhile(lambda other: other is not run_set, run.open_sets()):
        if earlier.gate is not None and earlier.gate.tags & gate.tags:
            ahead += len(earlier.gate.waiting())
    return {"reason": "slot", "tags": sorted(gate.tags), "ahead": ahead}


def _runner(run: ActiveFlowRun, run_set: RunSet, index: int) -> dict[str, Any]:
    """Its inputs are there and so are its slots: it is the runner's turn."""
    runner = run_set.runner
    is_async = run_set.task.isasync
    most = None if runner is None else runner.most_at_once(is_async)
    ahead = 0
    executing = 0
    for other in run.open_sets():
        if most is not None and other.task.isasync is not is_async:
            continue  # it takes nothing away from this one
        running = set(other.executing)
        running |= {one for one, active in list(other.active.items()) if active.state._type is RUNNING}
        executing += len(running)
        if other is run_set:
            before = range(index)
        elif other.runner is runner and other.group.created <= run_set.group.created:
            before = range(other.count)
        else:
            continue
        ahead += _count_with_runner(other, before, running)
    if run_set.waits_in_place:
        return {"reason": "order", "ahead": ahead}
    name = "" if runner is None else runner.name
    reason = "window" if is_async and most is not None else "runner"
    return {"reason": reason, "runner": name, "ahead": ahead, "executing": executing, "most": most}


def _count_with_runner(run_set: RunSet, indices: Iterable[int], running: Container[int]) -> int:
    """Returns how many of some runs wait for nothing but the runner."""
    gate = None if run_set.waits_in_place else run_set.gate
    held_back = frozenset() if gate is None else gate.waiting()

    def waits_for_runner(index: int) -> bool:
        if run_set.states[index] is not None or index in running or index in held_back:
            return False
        active = run_set.active.get(index)
        is_due_later = active is not None and active.state._type is SCHEDULED
        return not is_due_later and _upstream(run_set, index) is None

    return sum(map(waits_for_runner, indices))
