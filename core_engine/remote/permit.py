"""What stands on a worker for the flow run: enough that the engine's own rules decide there, at once and alone.

The engine executes a task run here exactly as in the flow's process; what it would write into the journal becomes
records of the block's report.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from core_engine.backend.entries import CacheStored, Entry, TaskRunChanged
from core_engine.concurrency.waiting import Latch
from core_engine.engine.active import ActiveTaskRun, Executing
from core_engine.logging.records import LogEntry
from core_engine.orchestration.progress import FlowRunProgress
from core_engine.remote.reports import CACHE, LOG, NAME, STATE, Transition
from core_engine.remote.values import data_to_tuple
from core_engine.schemas.records import FlowRun, TaskRunGroup
from core_engine.schemas.states import DEFAULT_NAMES, RUNNING, State, StateDetails, StateType, make_state
from core_engine.settings import get_current_settings

if TYPE_CHECKING:
    from core_engine.remote.flow_facts import FlowRunFacts
    from core_engine.remote.reporting import BlockReport


@dataclass(slots=True, frozen=True)
class ItemProgress:
    """Where a run stands that has been in more than its first state, as it travels to a worker."""

    type: str
    name: str
    ordinal: int
    time: float
    details: dict[str, Any] | None
    run_count: int
    flow_run_count: int
    start_time: float | None
    total_run_time: float
    execution: int
    run_name: str | None
    reopens: bool

    @classmethod
    def of(cls, run: ActiveTaskRun) -> ItemProgress:
        """Takes down where a run stands in the flow's process."""
        state = run.state
        # When the run was due is over, by the clock of the flow's process: the worker's may be slow.
        details = None if state._details is None else replace(state._details, scheduled_time=None).to_dict()
        return cls(
            state._type.value,
            state._name,
            state._ordinal,
            state._time,
            details,
            run.run_count,
            run.flow_run_count,
            run.start_time,
            run.total_run_time,
            run.execution,
            run.name,
            run.reopens,
        )

    def take_up(self, run: ActiveTaskRun) -> None:
        """Puts a worker's record of the run where it stands."""
        details = None if self.details is None else StateDetails.from_dict(self.details)
        run.state = make_state(
            StateType(self.type), self.time, run.group, run.index, self.ordinal, self.name, details=details
        )
        run.run_count = self.run_count
        run.flow_run_count = self.flow_run_count
        run.start_time = self.start_time
        run.total_run_time = self.total_run_time
        run.execution = self.execution
        run.name = self.run_name
        run.reopens = self.reopens


class RemoteRunSet:
    """Stands for the run set of the flow's process: where its items execute here, and which are to be cancelled.

    Parameters:
        needs_slots: Whether its runs take slots of concurrency limits.
    """

    def __init__(self, needs_slots: bool) -> None:
        self.has_handles = False
        self.executing: dict[int, Executing] = {}
        self.cancel_requests: set[int] = set()
        self.names: dict[int, str] = {}
        # Whether a retry must take slots first, which only the flow's process can give: any object that is not None.
        self.gate = True if needs_slots else None


_RUNNING = State(RUNNING)


class RemoteFlowRun:
    """Stands for the flow run: the permit under which items of one block are decided here.

    Parameters:
        record: The flow run's record, as far as logs need it.
        attempt: Which attempt of the flow this is, from 1.
        client: Where entries go.
    """

    def __init__(self, record: FlowRun, attempt: int, client: WorkerClient) -> None:
        self.record = record
        self.flow = None
        self.decisions = threading.RLock()
        self.progress = FlowRunProgress(state=_RUNNING, run_count=attempt)
        self.client = client
        self.woken = Latch()
        self.stopping: BaseException | None = None
        self.facts: FlowRunFacts | None = None
        self.stand_in = None
        self.parent = None
        self.previous = None


class WorkerClient:
    """What the engine uses of a client on the way of a task run; also the journal and log sink of that way.

    Parameters:
        report: Takes the records of the block.
        answers: What the flow's process knows to be stored under cache keys; None: nothing is.
    """

    # The flow's process runs the hooks, once it has committed the state (D3).
    runs_hooks = False

    def __init__(self, report: BlockReport, answers: dict[str, State | None]) -> None:
        self._report = report
        self.answers = answers
        self.journal = self
        self.log_sink = self

    @property
    def grace_seconds(self) -> float:
        return get_current_settings().grace_seconds

    # As a journal and log sink ----------------------------------------------------------------------------------------

    def append(self, entry: Entry) -> int:
        """Reports an entry that the engine would write into the journal."""
        if isinstance(entry, TaskRunChanged):
            self._report.add(tuple(_transition(entry)))  # a class of ours costs more on its way than all its values
        elif isinstance(entry, CacheStored):
            self.answers[entry.key] = entry.state
            self._report.add((CACHE, _position(entry.state), entry.key, entry.expires))
        return 0

    def append_log(self, entry: LogEntry) -> None:
        task_run_id = None if entry.task_run_id is None else entry.task_run_id.bytes
        self._report.add(
            (
                LOG,
                entry.flow_run_id.bytes,
                task_run_id,
                entry.name,
                entry.level,
                entry.timestamp,
                entry.message,
            )
        )

    def flush(self, timeout_seconds: float | None = None) -> bool:
        self._report.flush()
        return True

    # As a client ------------------------------------------------------------------------------------------------------

    def release_slots(self, run: ActiveTaskRun) -> None:
        """The flow's process took the slots, and gives them back."""

    def read_cached_state(self, key: str) -> State | None:
        return self.answers.get(key)

    def rename_task_run(self, run: ActiveTaskRun) -> None:
        self._report.add((NAME, run.position, run.name))


class RemoteGroup(TaskRunGroup):
    """A run group on a worker. ``positions`` maps an index in the group to the position in the run set."""

    __slots__ = ("positions",)

    positions: dict[int, int]


def _position(state: State) -> int:
    group = state._group
    assert isinstance(group, RemoteGroup)
    return group.positions[state._index]


def _transition(entry: TaskRunChanged) -> Transition:
    state = entry.state
    name = state._name
    return Transition(
        STATE,
        _position(state),
        state._type.value,
        state._ordinal,
        state._time,
        None if name == DEFAULT_NAMES[state._type] else name,
        state._message,
        None if state._details is None else _details(state._details),
        data_to_tuple(state._data),
        entry.flow_run_count,
        entry.execution,
    )


def _details(details: StateDetails) -> dict[str, Any] | None:
    values = details.to_dict()
    for name in ("flow_run_id", "task_run_id"):
        values.pop(name, None)
    return values or None
