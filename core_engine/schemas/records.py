"""Records of runs: what users read, and what stands once for all task runs of one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from core_engine import ids
from core_engine.schemas.states import PENDING, State, StateType, make_state

TaskInputs = dict[str, list["TaskRunResult"]]


@dataclass(slots=True, frozen=True)
class TaskRunResult:
    """Names an upstream task run as an input. ``id`` is its task run id."""

    id: UUID
    input_type: str = "task_run"


@dataclass(slots=True, frozen=True)
class TaskPolicy:
    """What the rules need to know of a task; the same for all runs of a group.

    Attributes:
        retries: How many times a failed run is tried again.
        retry_delays: Seconds before each retry; the last one repeats; empty means none.
        retry_jitter_factor: Up to which part of itself a delay is lengthened at random; None means not.
        timeout_seconds: None means no limit.
        refresh_cache: True ignores what is cached.
        cache_expiration_seconds: How long a completed state may serve as cached; None means for ever.
    """

    retries: int = 0
    retry_delays: tuple[float, ...] = ()
    retry_jitter_factor: float | None = None
    timeout_seconds: float | None = None
    refresh_cache: bool = False
    cache_expiration_seconds: float | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """As a call: it goes with each block of task runs, and what dataclasses do instead takes longer."""
        return TaskPolicy, tuple(getattr(self, name) for name in self.__slots__)


class TaskRunGroup:
    """All task runs of one call, submit or map: what is the same for all of them stands here once.

    Attributes:
        prefix: The 128-bit prefix from which the ids of its runs follow (``core_engine.ids``).
        flow_run_id: The flow run that they belong to.
        task_key: Which function; the key under which repeated calls are counted.
        task_name: Name of the task, and the first part of each run's name.
        task_version: None means that the task has none.
        first_index: The dynamic key of the run at index 0: how many runs of this task key the flow run had before.
        count: How many runs.
        is_map: Whether `map` made it (a map of one is still a map).
        kind: "task", or "subflow" for the one task run that stands for a child flow run.
        tags: Tags of every run.
        policy: What the rules need to know of the task.
        task_inputs: Upstream runs by parameter that all runs share.
        created: When, in seconds since the epoch; also the time of each run's first state, Pending.
        key: The store's own key, set by the journal's writer when it first writes the group; None before.
    """

    __slots__ = (
        "__weakref__",
        "count",
        "created",
        "first_index",
        "flow_run_id",
        "is_map",
        "key",
        "kind",
        "policy",
        "prefix",
        "tags",
        "task_inputs",
        "task_key",
        "task_name",
        "task_version",
    )

    def __init__(
        self,
        *,
        prefix: int,
        flow_run_id: UUID,
        task_key: str,
        task_name: str,
        created: float,
        first_index: int = 0,
        count: int = 1,
        is_map: bool = False,
        kind: str = "task",
        task_version: str | None = None,
        tags: frozenset[str] = frozenset(),
        policy: TaskPolicy | None = None,
        task_inputs: Mapping[str, list[TaskRunResult]] | None = None,
        key: int | None = None,
    ) -> None:
        self.prefix = prefix
        self.flow_run_id = flow_run_id
        self.task_key = task_key
        self.task_name = task_name
        self.created = created
        self.first_index = first_index
        self.count = count
        self.is_map = is_map
        self.kind = kind
        self.task_version = task_version
        self.tags = tags
        self.policy = policy or TaskPolicy()
        self.task_inputs: TaskInputs = dict(task_inputs or {})
        self.key: int | None = key

    def run_id(self, index: int) -> UUID:
        """Returns the id of the run at `index`."""
        return ids.run_id(self.prefix, index)

    def run_name(self, index: int) -> str:
        """Returns the name that the run at `index` has unless it was given another: task name, dash, call index."""
        return f"{self.task_name}-{self.first_index + index}"

    def first_state(self, index: int) -> State:
        """Returns the Pending state in which the run at `index` was created."""
        return make_state(PENDING, self.created, self, index, 1)

    def __repr__(self) -> str:
        return f"TaskRunGroup({self.task_name!r}, first_index={self.first_index}, count={self.count})"


def _when(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


@dataclass(slots=True, kw_only=True)
class TaskRun:
    """A record of one execution of a task, as users see it. Times are aware datetimes, durations seconds.

    ``dynamic_key`` numbers the calls of one task key in a flow run; ``flow_run_run_count`` is the attempt of the flow
    in which the run last started; ``worker`` is where it last ran, None before it did; ``execution`` is 1, and one more
    for each time that a final state was left.
    """

    id: UUID
    name: str
    flow_run_id: UUID
    task_key: str
    task_name: str
    dynamic_key: str
    task_version: str | None = None
    tags: set[str] = field(default_factory=set)
    state: State | None = None
    run_count: int = 0
    flow_run_run_count: int = 0
    task_inputs: TaskInputs = field(default_factory=dict)
    policy: TaskPolicy = field(default_factory=TaskPolicy)
    created: datetime | None = None
    expected_start_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    total_run_time: float = 0.0
    cache_key: str | None = None
    cache_expiration: datetime | None = None
    child_flow_run_id: UUID | None = None
    execution: int = 1
    is_subflow: bool = False
    worker: str | None = None

    @property
    def state_type(self) -> StateType | None:
        return None if self.state is None else self.state.type

    @property
    def state_name(self) -> str | None:
        return None if self.state is None else self.state.name


@dataclass(slots=True, kw_only=True)
class FlowRun:
    """A record of one execution of a flow, as users see it. Times are aware datetimes, durations seconds.

    ``parameters`` are as stored: JSON, with a ``<TypeName>`` placeholder for what JSON cannot say. ``owner`` names the
    lease of the process that runs it, None when no process does. ``execution`` counts how often a final state was left.
    ``entrypoint`` is where another process finds the flow, None where none can: in a function, for example.
    """

    id: UUID
    name: str
    flow_name: str
    flow_version: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)
    state: State | None = None
    run_count: int = 0
    retries: int | None = None
    retry_delay_seconds: float | None = None
    created: datetime | None = None
    expected_start_time: datetime | None = None
    next_scheduled_start_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    total_run_time: float = 0.0
    parent_task_run_id: UUID | None = None
    deployment_id: UUID | None = None
    task_runner: str | None = None
    owner: str | None = None
    entrypoint: str | None = None
    execution: int = 1
    pause_keys: set[str] = field(default_factory=set)
    resuming: bool = False

    @property
    def state_type(self) -> StateType | None:
        return None if self.state is None else self.state.type

    @property
    def state_name(self) -> str | None:
        return None if self.state is None else self.state.name


@dataclass(slots=True, frozen=True, kw_only=True)
class Deployment:
    """A flow that any process can load and run: what runs created for later are made from.

    Attributes:
        id: Stays the same when a flow is deployed again under the name.
        name: Unique among deployments.
        flow_name: Name of the flow.
        entrypoint: Where the flow is: ``/path/to/file.py:flow`` or ``package.module:flow``.
        parameters: Of each run that is not given others, as JSON says them.
        created: When it was deployed first.
    """

    id: UUID
    name: str
    flow_name: str
    entrypoint: str
    parameters: dict[str, Any] = field(default_factory=dict)
    created: datetime | None = None


@dataclass(slots=True, frozen=True, kw_only=True)
class Event:
    """A state change of a run. ``id`` is the state's id, ``follows`` that of the state before (None for the first).

    ``cursor`` orders the events of a store: pass the last one seen as ``after`` to read on.
    """

    id: UUID
    follows: UUID | None
    flow_run_id: UUID
    task_run_id: UUID | None
    from_type: StateType | None
    to_type: StateType
    to_name: str
    message: str | None
    occurred: datetime
    cursor: str
