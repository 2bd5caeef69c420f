"""What the journal takes: immutable entries, in the order in which things happened.

The writer turns a batch of them into rows in one transaction. Entries of one run keep their order; a task run whose
Running and final entries meet in one batch is written once (``sqlite.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from core_engine.logging.records import LogEntry
from core_engine.schemas.records import FlowRun, TaskRunGroup
from core_engine.schemas.states import State


@dataclass(slots=True, frozen=True)
class FlowRunCreated:
    """A flow run exists. `flow_run` is a snapshot that nobody changes any more; its state has ordinal 1."""

    flow_run: FlowRun


@dataclass(slots=True, frozen=True)
class FlowRunChanged:
    """A flow run is in a new state: `flow_run` is a snapshot with that state and the counts and times it brought."""

    flow_run: FlowRun


@dataclass(slots=True, frozen=True)
class FlowRunUpdated:
    """Fields of a flow run other than its state were set: `changes` by field name of FlowRun."""

    flow_run_id: UUID
    changes: dict[str, Any]


@dataclass(slots=True, frozen=True)
class TaskRunsCreated:
    """All task runs of a group exist, each Pending (ordinal 1) since ``group.created``."""

    group: TaskRunGroup


class TaskRunChanged:
    """A task run is in a new state. The one entry of the hot path, hence a bare slotted class.

    Attributes:
        state: Knows its group, index and ordinal.
        run_count, flow_run_count, start_time, end_time, total_run_time, worker: The run's fields with that state;
            times in seconds since the epoch, None means not yet.
        execution: Which execution of the run (D1).
    """

    __slots__ = (
        "end_time",
        "execution",
        "flow_run_count",
        "run_count",
        "start_time",
        "state",
        "total_run_time",
        "worker",
    )

    def __init__(
        self,
        state: State,
        run_count: int,
        flow_run_count: int,
        start_time: float | None,
        end_time: float | None,
        total_run_time: float,
        execution: int,
        worker: str | None,
    ) -> None:
        self.state = state
        self.run_count = run_count
        self.flow_run_count = flow_run_count
        self.start_time = start_time
        self.end_time = end_time
        self.total_run_time = total_run_time
        self.execution = execution
        self.worker = worker


@dataclass(slots=True, frozen=True)
class TaskRunUpdated:
    """Fields of one task run other than its state were set.

    `changes` has any of ``name`` (str), ``task_inputs`` (those of this run alone, beside the group's),
    ``child_flow_run_id`` (UUID).
    """

    group: TaskRunGroup
    index: int
    changes: dict[str, Any]


@dataclass(slots=True, frozen=True)
class InputsDigested:
    """What task runs are made of is known: they begin with these inputs, or will.

    Attributes:
        group: Their group.
        first: Index of the first; the others follow.
        execution: In which execution of each of them.
        digests: ``DIGEST_BYTES`` for each run, one after the other.
    """

    group: TaskRunGroup
    first: int
    execution: int
    digests: bytes


DIGEST_BYTES = 16


@dataclass(slots=True, frozen=True)
class CacheStored:
    """The completed `state` may serve other runs under `key` until `expires` (epoch seconds; None: for ever)."""

    key: str
    expires: float | None
    state: State


Entry = (
    FlowRunCreated
    | FlowRunChanged
    | FlowRunUpdated
    | TaskRunsCreated
    | TaskRunChanged
    | TaskRunUpdated
    | InputsDigested
    | CacheStored
    | LogEntry
)
