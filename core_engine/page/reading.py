"""Reads from the store what a page shows of a flow run, its subflows included."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from core_engine.exceptions import ObjectNotFound
from core_engine.page.model import Failure, RunFacts, RunPage, TaskSummary, Timeline, kind_of
from core_engine.page.spans import Span, natural
from core_engine.schemas.states import CRASHED, FAILED

if TYPE_CHECKING:
    from core_engine.backend.store import Store, TaskRunTime
    from core_engine.schemas.records import FlowRun

MAX_FAILURES = 12
# A flow that calls subflows in a loop has as many child runs; the page shows the tasks of the first ones.
MAX_SUBFLOW_RUNS = 200
MAX_PARAMETERS_LENGTH = 600
# Lanes of task runs that no worker ran: those that stand for subflows, and those that ended without having started.
SUBFLOWS = "subflows"
NO_WORKER = "no worker"


def read_run_page(store: Store, flow_run_id: UUID) -> RunPage:
    """Returns what a page shows of the run.

    Raises:
        ObjectNotFound: The store holds no such flow run.
    """
    flow_run = store.read_flow_run(flow_run_id)
    if flow_run is None:
        raise ObjectNotFound(f"There is no flow run {flow_run_id} in {store.path}.")
    now = time.time()
    reading = _Reading(store, flow_run, now)
    reading.add(flow_run.id, "")
    for child, path in subflow_runs(store, flow_run.id):
        reading.add(child.id, path)
    return RunPage(
        _facts(store, flow_run, now), list(reading.tasks.values()), reading.timeline(), reading.failures[:MAX_FAILURES]
    )


def read_task_summaries(store: Store, flow_run_id: UUID) -> list[TaskSummary]:
    """Returns how the task runs of one flow run ended and how long they took, by task; subflows are not looked into."""
    flow_run = store.read_flow_run(flow_run_id)
    if flow_run is None:
        return []
    reading = _Reading(store, flow_run, time.time())
    reading.add(flow_run_id, "")
    reading.timeline()
    return list(reading.tasks.values())


class _Reading:
    """Gathers tasks, spans and failures of a flow run and its subflows."""

    def __init__(self, store: Store, flow_run: FlowRun, now: float) -> None:
        self._store = store
        self._began = _seconds(flow_run.start_time or flow_run.created) or now
        self._ended = _seconds(flow_run.end_time) or now
        self.tasks: dict[str, TaskSummary] = {}
        self.failures: list[Failure] = []
        self._numbers: dict[str, int] = {}
        self._states: dict[tuple[str, str], int] = {}
        self._lanes: dict[str, list[Span]] = {}

    def add(self, flow_run_id: UUID, path: str) -> None:
        """Adds the task runs of one flow run; `path` is put before the names of its tasks."""
        for counted in self._store.count_task_runs(flow_run_id):
            task = self.tasks.setdefault(path + counted.task_name, TaskSummary(path + counted.task_name))
            task.counts[kind_of(counted.state_type, counted.state_name)] += counted.count
        subflows = {group.task_name for group in self._store.read_task_groups(flow_run_id) if group.kind == "subflow"}
        for times in self._store.task_run_times(flow_run_id):
            self._add_span(path, times, SUBFLOWS if times.task_name in subflows else NO_WORKER)
        failed = self._store.read_task_runs(flow_run_id, state_types=[FAILED, CRASHED], limit=MAX_FAILURES)
        for run in failed:
            if run.state is not None:
                self.failures.append(Failure(path + run.name, run.state.name, run.state.message or ""))

    def _add_span(self, path: str, times: TaskRunTime, lane: str) -> None:
        """Adds a span to the lane of its worker; `lane` is for those that have none."""
        start, end = times.start, times.end
        if start is None and end is None:
            return  # it never ran: it counts in the table, and there is nothing to draw
        name = path + times.task_name
        kind = kind_of(times.state_type, times.state_name)
        if end is None:
            end = self._ended
        if start is None:
            start = end
        elif kind != "cached":
            self.tasks.setdefault(name, TaskSummary(name)).durations.append(max(0.0, end - start))
        span = Span(
            start - self._began,
            max(start, end) - self._began,
            self._numbers.setdefault(name, len(self._numbers)),
            self._states.setdefault((times.state_name, kind), len(self._states)),
            times.index,
            times.name,
        )
        self._lanes.setdefault(times.worker or lane, []).append(span)

    def timeline(self) -> Timeline:
        """Returns the timeline of all that was added, from the first start to the last end."""
        for task in self.tasks.values():
            task.durations.sort()
        spans = [span for lane in self._lanes.values() for span in lane]
        early = min((span.start for span in spans), default=0.0)
        lanes = self._lanes
        if early < 0:
            lanes = {
                worker: [span._replace(start=span.start - early, end=span.end - early) for span in lane]
                for worker, lane in lanes.items()
            }
        late = max((span.end for span in spans), default=0.0)
        total = max(late, self._ended - self._began) - min(early, 0.0)
        ordered = sorted(lanes.items(), key=lambda lane: (lane[0] in (SUBFLOWS, NO_WORKER), natural(lane[0])))
        return Timeline(max(total, 1e-3), list(self._numbers), list(self._states), ordered)


def subflow_runs(store: Store, flow_run_id: UUID) -> list[tuple[FlowRun, str]]:
    """Returns the runs of subflows at any depth, parents first, each with the path that its tasks are named by."""
    found: list[tuple[FlowRun, str]] = []
    parents: list[tuple[UUID, str]] = [(flow_run_id, "")]
    while parents and len(found) < MAX_SUBFLOW_RUNS:
        parent, path = parents.pop(0)
        for group in store.read_task_groups(parent):
            if group.kind != "subflow":
                continue
            for index in range(group.count):
                for child in store.read_flow_runs(parent_task_run_id=group.run_id(index), order="asc"):
                    below = f"{path}{child.flow_name} / "
                    found.append((child, below))
                    parents.append((child.id, below))
    return found[:MAX_SUBFLOW_RUNS]


def _facts(store: Store, flow_run: FlowRun, now: float) -> RunFacts:
    states = store.read_states(flow_run.id)
    first = states[0].timestamp if states else None
    began = _seconds(flow_run.start_time)
    state = flow_run.state
    facts = [
        ("task runner", flow_run.task_runner),
        ("flow version", flow_run.flow_version),
        ("tags", ", ".join(sorted(flow_run.tags))),
        ("parameters", _parameters(flow_run.parameters)),
    ]
    return RunFacts(
        flow_name=flow_run.flow_name,
        run_name=flow_run.name,
        run_id=str(flow_run.id),
        state_name="Pending" if state is None else state.name,
        state_kind="waiting" if state is None else kind_of(state.type, state.name),
        message=None if state is None else state.message,
        started=flow_run.start_time or flow_run.created,
        seconds=None if began is None else (_seconds(flow_run.end_time) or now) - began,
        facts=[(name, value) for name, value in facts if value],
        states=[
            (
                state.name,
                kind_of(state.type, state.name),
                (state.timestamp - (first or state.timestamp)).total_seconds(),
            )
            for state in states
        ],
    )


def _parameters(parameters: dict[str, Any]) -> str:
    text = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in parameters.items())
    return text if len(text) <= MAX_PARAMETERS_LENGTH else text[:MAX_PARAMETERS_LENGTH] + "…"


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.astimezone(UTC).timestamp()
