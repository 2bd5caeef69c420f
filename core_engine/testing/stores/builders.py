"""Runs and their entries, as the engine would make them, for the tests of stores."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

from core_engine import ids
from core_engine.backend.entries import (
    Entry,
    FlowRunChanged,
    FlowRunCreated,
    TaskRunChanged,
    TaskRunsCreated,
)
from core_engine.logging.records import LogEntry
from core_engine.schemas.records import FlowRun, TaskRunGroup
from core_engine.schemas.states import (
    COMPLETED,
    PENDING,
    RUNNING,
    State,
    StateDetails,
    StateType,
    make_state,
)

_numbers = itertools.count(1)

# A fixed beginning: times in tests are this and some seconds.
START = 1_800_000_000.0


def flow_state(
    flow_run_id: UUID, type: StateType, ordinal: int, *, at: float = START, name: str | None = None, **options: Any
) -> State:
    """A state of a flow run, with the id that its ordinal gives it; `at` in seconds since the epoch."""
    state = State(type, name, id=UUID(int=flow_run_id.int | ordinal), **options)
    state._time = at
    state._ordinal = ordinal
    return state


def flow_run(**fields: Any) -> FlowRun:
    """A flow run, Pending since START unless `fields` say otherwise."""
    id = fields.pop("id", None) or ids.new_id()
    number = next(_numbers)
    state = fields.pop("state", None) or flow_state(id, PENDING, 1)
    created = fields.pop("created", state.timestamp)
    defaults: dict[str, Any] = {"name": f"quiet-otter-{number}", "flow_name": "census", "created": created}
    return FlowRun(id=id, state=state, **(defaults | fields))


def moved(run: FlowRun, type: StateType, *, at: float, **fields: Any) -> FlowRun:
    """A snapshot of `run` in its next state."""
    assert run.state is not None
    options = {name: fields.pop(name) for name in ("name", "message", "data") if name in fields}
    return replace(run, state=flow_state(run.id, type, run.state._ordinal + 1, at=at, **options), **fields)


def group(flow_run_id: UUID, count: int = 1, **fields: Any) -> TaskRunGroup:
    """A group of task runs that the store has not seen, made a second after START."""
    defaults: dict[str, Any] = {
        "prefix": ids.new_prefix(),
        "task_key": "census.measure",
        "task_name": "measure",
        "created": START + 1,
        "is_map": count > 1,
    }
    return TaskRunGroup(flow_run_id=flow_run_id, count=count, **(defaults | fields))


class TaskRunScript:
    """Makes the entries of one task run, one after the other."""

    def __init__(self, group: TaskRunGroup, index: int = 0) -> None:
        self.group = group
        self.index = index
        self.ordinal = 1
        self.run_count = 0
        self.execution = 1
        self.start_time: float | None = None
        self.end_time: float | None = None
        self.time = group.created
        self.states = [group.first_state(index)]

    def to(
        self,
        type: StateType,
        name: str | None = None,
        *,
        message: str | None = None,
        data: Any = None,
        details: StateDetails | None = None,
        seconds: float = 0.5,
        new_execution: bool = False,
    ) -> TaskRunChanged:
        self.ordinal += 1
        self.time += seconds
        self.execution += new_execution
        state = make_state(type, self.time, self.group, self.index, self.ordinal, name, message, data, details)
        if type is RUNNING:
            self.run_count += 1
            self.start_time = self.start_time or self.time
        self.end_time = self.time if state.is_final() else None
        self.states.append(state)
        return TaskRunChanged(
            state, self.run_count, 1, self.start_time, self.end_time, 0.25, self.execution, f"worker-{self.index % 2}"
        )

    def done(self, data: Any = None) -> list[Entry]:
        return [self.to(RUNNING), self.to(COMPLETED, data=data)]


def log_line(flow_run_id: UUID, message: str, task_run_id: UUID | None = None, level: int = 20) -> LogEntry:
    """A line that a run logs now."""
    return LogEntry(flow_run_id, task_run_id, "core_engine.task_runs", level, time.time(), message, None)


def recorded(store: Any, *, count: int = 0, **fields: Any) -> tuple[FlowRun, TaskRunGroup]:
    """Writes a flow run, and a group of `count` task runs when that is not 0; returns both."""
    run = flow_run(**fields)
    tasks = group(run.id, max(count, 1))
    store.apply([FlowRunCreated(run), *([TaskRunsCreated(tasks)] if count else [])])
    return run, tasks


def finish(store: Any, run: FlowRun, type: StateType = COMPLETED, at: float = START + 10) -> FlowRun:
    """Writes the end of a flow run; returns it as it is then."""
    ended = moved(run, type, at=at, end_time=flow_state(run.id, type, 2, at=at).timestamp, owner=None)
    store.apply([FlowRunChanged(ended)])
    return ended


def said(state: State | None) -> Any:
    """What a state says, for comparing."""
    if state is None:
        return None
    details = None if state._details is None else state._details.to_dict()
    for name in ("flow_run_id", "task_run_id"):
        if details:
            details.pop(name, None)
    data = state._data if getattr(type(state._data), "stored", False) else None
    return (
        state.type,
        state.name,
        state.message,
        state._time,
        state._ordinal,
        state.id,
        None if data is None else data.to_json(),
        details or None,
    )


def all_said(states: Iterable[State]) -> list[Any]:
    """What each of several states says."""
    return [said(state) for state in states]
