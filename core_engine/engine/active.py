"""What the engine keeps of the runs that it is executing in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from core_engine import ids
from core_engine.concurrency.interrupts import Interrupt
from core_engine.concurrency.waiting import Latch
from core_engine.lineage import Lineage
from core_engine.logging import runs_here
from core_engine.orchestration.progress import FlowRunProgress, TaskRunProgress
from core_engine.schemas.records import FlowRun, TaskRun, TaskRunGroup
from core_engine.schemas.states import COMPLETED, FINAL_TYPES, State

if TYPE_CHECKING:
    from core_engine.client.embedded import EmbeddedClient
    from core_engine.engine.holds import Hold
    from core_engine.engine.previous import PreviousRuns
    from core_engine.engine.resumption import Resumption
    from core_engine.engine.run_sets import RunSet, RunSetSummary
    from core_engine.engine.runners import RunnerSession
    from core_engine.flows import Flow
    from core_engine.schemas.states import StateDetails

HAS_ENDED = "The flow run's function has ended; the flow run starts no further runs."


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


class Executing(Protocol):
    """User code that is running: a thread's section, a timed call, or a task of an event loop.

    Attributes:
        ident: The thread that runs it; None: not known yet.
    """

    @property
    def ident(self) -> int | None: ...

    def interrupt(self, call: Any, exception: type[Interrupt]) -> bool:
        """Raises `exception` in it if it still runs `call`; returns whether it does."""


class ActiveTaskRun(TaskRunProgress):
    """A task run that is being executed: its progress, and the permit under which its thread decides alone.

    Written by the thread that executes the run; another thread that ends the run in its stead (a deadline, a
    cancellation) does so under ``flow_run.decisions``.
    """

    __slots__ = (
        "cache_key",
        "flow_run",
        "group",
        "index",
        "name",
        "position",
        "reopens",
        "run_set",
        "task_inputs",
        "worker",
    )

    def __init__(self, flow_run: ActiveFlowRun, group: TaskRunGroup, index: int, state: State) -> None:
        self.state = state
        self.run_count = 0
        self.flow_run_count = 0
        self.start_time = None
        self.end_time = None
        self.total_run_time = 0.0
        self.execution = 1
        self.holds_slots = False
        self.flow_run = flow_run
        self.group = group
        self.index = index
        self.name: str | None = None
        self.task_inputs: dict[str, Any] | None = None
        self.worker: str | None = None
        self.cache_key: str | None = None
        self.run_set: RunSet | None = None
        self.position = index
        # Whether it ended in an earlier attempt of the flow: then its first Running opens the next execution.
        self.reopens = False

    @property
    def id(self) -> UUID:
        return ids.run_id(self.group.prefix, self.index)

    @property
    def flow_run_id(self) -> UUID:
        return self.group.flow_run_id

    def executed_by(self, executing: Executing | None) -> None:
        """Says where the user's function runs, so that it can be interrupted; None: it does not run any more."""
        run_set = self.run_set
        if run_set is None:
            return
        if executing is None:
            run_set.executing.pop(self.position, None)
        else:
            run_set.executing[self.position] = executing

    def is_cancelled(self) -> bool:
        """Returns whether somebody asked for the run to be cancelled."""
        return self.run_set is not None and self.position in self.run_set.cancel_requests

    @property
    def run_name(self) -> str:
        return self.name or self.group.run_name(self.index)

    def snapshot(self) -> TaskRun:
        """Returns the run as users see it, as it stands now."""
        details: StateDetails | None = self.state._details
        return task_run_record(
            self.group,
            self.index,
            self.state,
            name=self.name,
            task_inputs=self.task_inputs,
            run_count=self.run_count,
            flow_run_run_count=self.flow_run_count,
            start_time=_moment(self.start_time),
            end_time=_moment(self.end_time),
            total_run_time=self.total_run_time,
            execution=self.execution,
            worker=self.worker,
            cache_key=None if details is None else details.cache_key,
            cache_expiration=None if details is None else details.cache_expiration,
        )


def task_run_record(
    group: TaskRunGroup,
    index: int,
    state: State | None,
    *,
    name: str | None = None,
    task_inputs: dict[str, Any] | None = None,
    **fields: Any,
) -> TaskRun:
    """Makes the record of one run of a group."""
    return TaskRun(
        id=ids.run_id(group.prefix, index),
        name=name or group.run_name(index),
        flow_run_id=group.flow_run_id,
        task_key=group.task_key,
        task_name=group.task_name,
        dynamic_key=str(group.first_index + index),
        task_version=group.task_version,
        tags=set(group.tags),
        state=state or group.first_state(index),
        task_inputs={key: list(found) for key, found in {**group.task_inputs, **(task_inputs or {})}.items()},
        policy=group.policy,
        created=_moment(group.created),
        expected_start_time=_moment(group.created),
        is_subflow=group.kind == "subflow",
        **fields,
    )


class ActiveFlowRun:
    """A flow run that this process executes: what its tasks need, and what its outcome depends on.

    Any thread that runs the flow's code, or one of its tasks, may use it.
    ``decisions`` orders the decisions about its runs: a run's state is proposed, decided and appended to the journal
    under it, so that of two threads that end one run only the first does. ``_lock`` guards the registers below.
    While it is paused ``hold`` says that the process stays, and ``refused_start`` whether a run was refused to start;
    both change under ``decisions``. ``pauses`` counts those of this attempt. ``goes_on``: another process began it.
    ``ended_early`` is set under ``decisions`` while the function goes on though its time is over: what was proposed in
    its place, and what became of that; ``ended_elsewhere`` while it goes on after a cancellation: set when the end is
    recorded. ``is_ending_runs`` from when the flow run, whose function has ended before its time, waits for the end of
    its cancelled task runs. ``interrupted`` is when its code was interrupted last (monotonic seconds).
    ``resumption`` is there if it can be resumed, or is.
    """

    def __init__(
        self,
        flow: Flow[..., Any],
        flow_run: FlowRun,
        client: EmbeddedClient,
        parent: ActiveFlowRun | None = None,
    ) -> None:
        self.flow = flow
        self.record = flow_run
        self.progress = FlowRunProgress.from_record(flow_run)
        self.client = client
        self.parent = parent
        self.stand_in: ActiveTaskRun | None = None
        self.woken = Latch()
        self.children: list[ActiveFlowRun] = []
        self.decisions = threading.RLock()
        self.lineage = Lineage()
        self.dynamic_keys: dict[str, int] = {}
        self.subflow_states: list[State] = []
        self.summaries: list[RunSetSummary] = []
        self.previous: PreviousRuns | None = None
        self.resumption: Resumption | None = None
        self.session: RunnerSession | None = None
        self.deadline: float | None = None
        self.fatal: BaseException | None = None
        self.stopping: BaseException | None = None
        self.interrupted = 0.0
        self.interrupted_runs = 0
        self.hold: Hold | None = None
        self.refused_start = False
        self.pauses = 0
        self.cancelling = False
        self.named = False
        self.goes_on = False
        self.executing: Executing | None = None
        self.ended_early: tuple[State, State] | None = None
        self.ended_elsewhere: Latch | None = None
        self.is_ending_runs = False
        self.takes_runs = True
        self._lock = threading.Lock()
        self._open: dict[int, RunSet] = {}
        self._all_ended: Latch | None = None

    @property
    def id(self) -> UUID:
        return self.record.id

    @property
    def attempt(self) -> int:
        """Which attempt of the flow this is, from 1."""
        return self.progress.run_count

    def has_ended(self) -> bool:
        """Returns whether a final state is recorded; its runner may be stopping even then."""
        state = self.progress.state
        return state is not None and state._type in FINAL_TYPES

    def snapshot(self) -> FlowRun:
        """Returns the run as users see it, as it stands now."""
        return self.progress.to_record(self.record)

    def reserve(self, task_key: str, count: int) -> int:
        """Reserves `count` call indices of a task key, and returns the first."""
        with self._lock:
            first = self.dynamic_keys.get(task_key, 0)
            self.dynamic_keys[task_key] = first + count
        return first

    def begin_attempt(self) -> None:
        """Forgets what the attempt before gathered: calls are counted anew, and matched with its runs."""
        with self._lock:
            self.takes_runs = True
            self.dynamic_keys.clear()
            self.subflow_states.clear()
            self.summaries.clear()
            self.pauses = 0

    def opened(self, run_set: RunSet) -> None:
        """Waits for the runs of a set before the flow run ends.

        Raises:
            RuntimeError: It has ended.
        """
        with self._lock:
            if not self.takes_runs:
                raise RuntimeError(HAS_ENDED)
            self._open[id(run_set)] = run_set
            self.summaries.append(run_set.summary)

    def ended(self, run_set: RunSet) -> None:
        """All runs of a set have ended: only its summary is kept."""
        with self._lock:
            self._open.pop(id(run_set), None)
            latch = self._all_ended if not self._open else None
        if latch is not None:
            latch.set()

    def open_sets(self) -> list[RunSet]:
        with self._lock:
            return list(self._open.values())

    def place_of(self, task_run_id: UUID) -> tuple[RunSet, int] | None:
        """Returns where a task run is among the open run sets; None: in none of them."""
        prefix, group_index, _ = ids.split_id(task_run_id)
        for run_set in self.open_sets():
            if run_set.summary.origins is None:
                if run_set.group.prefix == prefix:
                    return run_set, group_index
                continue
            for index in range(run_set.count):
                group, position = run_set.summary.origin(index)
                if group.prefix == prefix and position == group_index:
                    return run_set, index
        return None

    def when_all_ended(self) -> Latch:
        """Returns a latch that is set when no task run of the flow is left to run."""
        with self._lock:
            latch = self._all_ended
            if latch is None or latch.is_set():
                latch = self._all_ended = Latch()
            nothing_open = not self._open
        if nothing_open:
            latch.set()
        return latch

    async def end_attempt(self, timeout_seconds: float | None = None) -> bool:
        """Waits until no task run is left to run, and takes none from then on; returns False when time is over first.

        Parameters:
            timeout_seconds: How long to wait; None: as long as it takes.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not self._stops_taking_runs():
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not await self.when_all_ended().arrive(left):
                return False
        return True

    def _stops_taking_runs(self) -> bool:
        with self._lock:
            self.takes_runs = bool(self._open)
            return not self.takes_runs

    def futures(self) -> list[Any]:
        """Returns the futures of the task runs that have not ended."""
        return [future for run_set in self.open_sets() for future in run_set.futures()]

    def lineage_of(self, value: Any) -> UUID | None:
        """Returns the task run that a bare value came from, None when unknown."""
        state = self.lineage.find(value)
        return None if state is None else state.state_details.task_run_id

    def stop(self, reason: BaseException) -> None:
        """Stops dispatch here and in the flow runs below; what has not started never will."""
        with self._lock:
            if self.stopping is None:
                self.stopping = reason
            children = list(self.children)
        self.woken.set()
        # Before the hold is released, which would have them go on.
        for child in children:
            child.stop(reason)
        hold = self.hold
        if hold is not None:
            hold.released.set()

    @property
    def root(self) -> ActiveFlowRun:
        """The flow run that is no subflow, above this one or itself."""
        run = self
        while run.parent is not None:  # no recursion: flows may be nested until the stack is full
            run = run.parent
        return run

    def count_interrupted(self) -> None:
        """Counts a task run that crashed because the flow run is being ended, with the topmost that is."""
        topmost = self
        while topmost.parent is not None and topmost.parent.stopping is not None:
            topmost = topmost.parent
        with topmost._lock:
            topmost.interrupted_runs += 1

    def not_completed(self) -> Iterator[State]:
        for summary in self.summaries:
            yield from summary.not_completed.values()
        for state in self.subflow_states:
            if state._type is not COMPLETED:
                yield state


_register_lock = threading.Lock()
_flow_runs: dict[UUID, ActiveFlowRun] = {}


def register(flow_run: ActiveFlowRun) -> None:
    """Makes a flow run known to the process, for requests from outside and for the progress display."""
    with _register_lock:
        _flow_runs[flow_run.id] = flow_run
    if flow_run.parent is None:
        runs_here.add_run(flow_run.id, flow_run.client.log_sink)
    else:
        with flow_run.parent._lock:
            flow_run.parent.children.append(flow_run)


def unregister(flow_run: ActiveFlowRun) -> None:
    """Takes a flow run that has ended out of what ``register`` keeps, and from its parent's children."""
    with _register_lock:
        _flow_runs.pop(flow_run.id, None)
    if flow_run.parent is None:
        runs_here.remove_run(flow_run.id, flow_run.client.log_sink)
    else:
        with flow_run.parent._lock:
            flow_run.parent.children.remove(flow_run)


def active_flow_run(id: UUID) -> ActiveFlowRun | None:
    """Returns the flow run if this process executes it."""
    return _flow_runs.get(id)


def active_flow_runs() -> list[ActiveFlowRun]:
    """Returns the flow runs that this process executes, in the order in which they began."""
    with _register_lock:
        return list(_flow_runs.values())


def forget_all() -> None:
    """In a forked child: the flow runs are the parent's, and who held the lock is not here."""
    global _register_lock
    _register_lock = threading.Lock()
    _flow_runs.clear()
    runs_here.forget_all()
