"""What the store in memory holds, and how it is read back.

Whatever a database cannot hold is not held here either, and nothing that is read is shared with who wrote it: values go
through the same words as in a database (``core_engine.backend.encoding``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from core_engine import ids
from core_engine.backend.encoding import (
    FLOW_RUN_FIELDS,
    data_column,
    details_column,
    file_column,
    flow_details_column,
    flow_run_column,
    read_data,
    read_details,
    read_flow_run_field,
    to_datetime,
)
from core_engine.backend.entries import TaskRunChanged
from core_engine.backend.statements import storable
from core_engine.backend.store import Request, StoredLog
from core_engine.schemas.records import Deployment, Event, FlowRun, TaskRun, TaskRunGroup
from core_engine.schemas.states import (
    COMPLETED,
    DEFAULT_NAMES,
    FINAL_TYPES,
    PENDING,
    RUNNING,
    State,
    StateDetails,
    StateType,
    make_state,
)


class KeptState(NamedTuple):
    """A state as it was recorded: `data` and `details` as JSON, `time` in seconds since the epoch.

    `id` is None for a state of a task run, whose id follows from its run and ordinal.
    """

    ordinal: int
    execution: int
    type: StateType
    time: float
    name: str
    message: str | None = None
    data: str | None = None
    details: str | None = None
    id: UUID | None = None

    def may_become(self, ordinal: int, execution: int) -> bool:
        """Returns whether a run may go from this state to one of that ordinal and execution (D1, I9)."""
        if ordinal <= self.ordinal:
            return False
        return execution > self.execution or (execution == self.execution and self.type not in FINAL_TYPES)


class Change(NamedTuple):
    """A state change; `group` is None for one of the flow run itself, `before` for the first."""

    group: KeptGroup | None
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    state: KeptState
    before: KeptState | None


class KeptFlow:
    """A flow run with all that belongs to it."""

    def __init__(self, id: UUID, number: int) -> None:
        self.id = id
        self.number = number
        """Grows with each flow run of the store."""
        self.columns: dict[str, Any] = {}
        self.states: list[KeptState] = []
        self.groups: list[KeptGroup] = []
        self.events: list[Change] = []
        self.files: set[str] = set()
        """Stored results that its states refer to."""

    @property
    def state(self) -> KeptState | None:
        return self.states[-1] if self.states else None

    @property
    def is_final(self) -> bool:
        return self.state is not None and self.state.type in FINAL_TYPES

    def set(self, field: str, value: Any) -> None:
        self.columns[field] = storable(flow_run_column(field, value))

    def keep(self, state: State, ordinal: int, execution: int) -> KeptState:
        """Takes the flow run to `state`."""
        data, details, message = data_column(state._data), flow_details_column(state._details), storable(state._message)
        kept = KeptState(ordinal, execution, state._type, state._time, state._name, message, data, details, state.id)
        self.states.append(kept)
        self.refer_to(state._data)
        return kept

    def refer_to(self, data: Any) -> None:
        file = file_column(data)
        if file is not None:
            self.files.add(file)

    def read(self) -> FlowRun:
        values = {field: read_flow_run_field(field, self.columns[field]) for field in FLOW_RUN_FIELDS}
        return FlowRun(id=self.id, state=None if self.state is None else self.read_state(self.state), **values)

    def read_state(self, kept: KeptState) -> State:
        state = state_with_id(kept)
        state.state_details.flow_run_id = self.id
        return state


def state_with_id(kept: KeptState) -> State:
    """Makes a state that knows its id, not its run."""
    data, details = read_data(kept.data), read_details(kept.details)
    state = State(kept.type, kept.name, kept.message, data, to_datetime(kept.time), details, kept.id)
    state._time = kept.time
    state._ordinal = kept.ordinal
    return state


class KeptGroup:
    """A group of task runs, and those of its runs of which there is more to say than that they are Pending."""

    def __init__(self, flow: KeptFlow, group: TaskRunGroup) -> None:
        self.flow = flow
        self.made = copy_of(group)
        self.first = KeptState(1, 1, PENDING, group.created, DEFAULT_NAMES[PENDING])
        """The first state of each run."""
        self.runs: dict[int, KeptRun] = {}
        self.extras: dict[int, dict[str, Any]] = {}
        self.digests: dict[tuple[int, int], bytes] = {}
        """What runs are made of, by index and execution."""

    def states(self, index: int) -> list[KeptState]:
        run = self.runs.get(index)
        return [self.first] if run is None else [self.first, *run.states]

    def state(self, index: int) -> KeptState:
        run = self.runs.get(index)
        return self.first if run is None else run.states[-1]

    def read_state(self, index: int, kept: KeptState) -> State:
        data, details = read_data(kept.data), read_details(kept.details)
        return make_state(kept.type, kept.time, self.made, index, kept.ordinal, kept.name, kept.message, data, details)

    def read(self, index: int) -> TaskRun:
        group, extra = self.made, self.extras.get(index, {})
        state = self.read_state(index, self.state(index))
        details, created = state._details or StateDetails(), to_datetime(group.created)
        run = TaskRun(
            id=group.run_id(index),
            name=extra.get("name") or group.run_name(index),
            flow_run_id=group.flow_run_id,
            task_key=group.task_key,
            task_name=group.task_name,
            dynamic_key=str(group.first_index + index),
            task_version=group.task_version,
            tags=set(group.tags),
            state=state,
            task_inputs={**group.task_inputs, **extra.get("task_inputs", {})},
            policy=group.policy,
            created=created,
            expected_start_time=details.scheduled_time or created,
            cache_key=details.cache_key,
            cache_expiration=details.cache_expiration,
            child_flow_run_id=extra.get("child_flow_run_id"),
            is_subflow=group.kind == "subflow",
        )
        if index in self.runs:
            self.runs[index].fill(run)
        return run


class KeptRun:
    """A task run that has left its first state."""

    def __init__(self) -> None:
        self.states: list[KeptState] = []
        """Without the first, Pending."""
        self.start_time: float | None = None
        self.end_time: float | None = None
        self._last: TaskRunChanged | None = None

    def keep(self, entry: TaskRunChanged) -> list[KeptState]:
        """Takes the run to the entry's state. Returns what is new: where the sender left it out, Running too."""
        state = entry.state
        if self.start_time is None:
            self.start_time = entry.start_time
        new = []
        if not self.states and state._ordinal > 2 and self.start_time is not None:
            new.append(KeptState(2, entry.execution, RUNNING, self.start_time, DEFAULT_NAMES[RUNNING]))
        data, details, message = data_column(state._data), details_column(state._details), storable(state._message)
        new.append(
            KeptState(state._ordinal, entry.execution, state._type, state._time, state._name, message, data, details)
        )
        self.states += new
        self.end_time = entry.end_time
        self._last = entry
        return new

    @property
    def worker(self) -> str | None:
        return None if self._last is None else self._last.worker

    def fill(self, run: TaskRun) -> None:
        """Sets the fields of `run` that changed with its states."""
        last = self._last
        assert last is not None  # a run is kept because of an entry
        run.run_count, run.flow_run_run_count = last.run_count, last.flow_run_count
        run.start_time, run.end_time = to_datetime(self.start_time), to_datetime(self.end_time)
        run.total_run_time, run.worker, run.execution = last.total_run_time, last.worker, last.execution


def copy_of(group: TaskRunGroup) -> TaskRunGroup:
    """Returns a group that says the same and that nobody else changes."""
    values = {name: getattr(group, name) for name in TaskRunGroup.__slots__ if not name.startswith("_")}
    return TaskRunGroup(**values)


def event_of(flow: KeptFlow, change: Change, cursor: str) -> Event:
    """Makes the event of a change."""
    group, index, state, before = change

    def id_of(kept: KeptState) -> UUID:
        if group is None:
            assert kept.id is not None  # states of flow runs are kept with their ids
            return kept.id
        return ids.state_id(group.made.prefix, index, kept.ordinal)

    occurred = to_datetime(state.time)
    assert occurred is not None
    return Event(
        id=id_of(state),
        follows=None if before is None else id_of(before),
        flow_run_id=flow.id,
        task_run_id=None if group is None else group.made.run_id(index),
        from_type=None if before is None else before.type,
        to_type=state.type,
        to_name=state.name,
        message=state.message,
        occurred=occurred,
        cursor=cursor,
    )


class KeptCached(NamedTuple):
    """What a completed run left under a cache key. `flow_run_id` is the flow run with which it goes."""

    number: int
    expires: float | None
    flow_run_id: UUID | None
    file: str | None
    state: KeptState

    def is_valid(self, now: float) -> bool:
        return self.expires is None or self.expires > now

    def read(self) -> State:
        state = state_with_id(self.state._replace(type=COMPLETED))
        state._ordinal = 0
        return state


@dataclass
class Tables:
    """All that a store in memory holds. Guarded by the store's lock."""

    flows: dict[UUID, KeptFlow] = field(default_factory=dict)
    groups: dict[int, KeptGroup] = field(default_factory=dict)
    """By prefix."""
    logs: list[StoredLog] = field(default_factory=list)
    cached: dict[str, list[KeptCached]] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    slots: dict[tuple[str, UUID], str] = field(default_factory=dict)
    """Owners, by tag and task run."""
    requests: dict[int, Request] = field(default_factory=dict)
    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    """By name."""
    unreferenced: dict[str, float] = field(default_factory=dict)
    """From when on the files of results to which nothing refers may be removed."""
    cleaned: float | None = None
    """Stored results that nothing refers to any more, and whose files were not said to be gone."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    version: int = 1
    """Grows with every change."""

    def find_run(self, id: UUID) -> tuple[KeptGroup, int] | None:
        """Returns where the task run with this id is, None when there is none."""
        prefix, index, ordinal = ids.split_id(id)
        group = self.groups.get(prefix)
        return None if group is None or ordinal or index >= group.made.count else (group, index)

    def groups_of(self, flow_run_id: UUID) -> list[KeptGroup]:
        """Returns the groups of a flow run in the order in which they were made; none when there is no such run."""
        flow = self.flows.get(flow_run_id)
        return [] if flow is None else flow.groups

    def children_of(self, flow_run_id: UUID) -> Iterator[tuple[KeptGroup, int]]:
        """Returns where every task run of a flow run is, in the order in which they were made."""
        return ((group, index) for group in self.groups_of(flow_run_id) for index in range(group.made.count))

    def owner_of(self, flow_run_id: UUID) -> str | None:
        """Returns the lease of who runs a flow run, None when nobody does."""
        flow = self.flows.get(flow_run_id)
        return None if flow is None else flow.columns["owner"]
