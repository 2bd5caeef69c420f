"""The task runs of one call, submit or map while they are to be executed: one object for all of them.

A child of a map has no object of its own before it starts and leaves only its state behind. A future is a run set and
an index; the run set lives as long as a future of it does, the flow run keeps only its summary (D10).
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.waiting import Latch
from core_engine.engine.active import ActiveFlowRun, ActiveTaskRun, Executing, task_run_record
from core_engine.engine.failure_policy import after_bad_end, end_closed
from core_engine.exceptions import StoreError
from core_engine.results.records import BaseResult
from core_engine.schemas.records import TaskRun, TaskRunGroup
from core_engine.schemas.states import COMPLETED, State, make_state

if TYPE_CHECKING:
    from core_engine.engine.slots import SlotGate
    from core_engine.futures import TaskFuture
    from core_engine.results import ResultFactory
    from core_engine.settings import SettingsContext
    from core_engine.task_runners import BaseTaskRunner
    from core_engine.tasks import Task


# More futures of one run than are counted: its value is kept.
MANY = 2


def _own_list(values: Sequence[Any]) -> list[Any]:
    return values if isinstance(values, list) else list(values)


class RunSetSummary:
    """What a flow run keeps of a run set: counts, and the states that are not Completed, by index."""

    __slots__ = ("cached", "done", "executing", "group", "not_completed", "origins")

    def __init__(self, group: TaskRunGroup, origins: Sequence[tuple[TaskRunGroup, int]] | None) -> None:
        self.group = group
        self.origins = origins
        self.not_completed: dict[int, State] = {}
        self.done = 0
        self.cached = 0
        self.executing: dict[int, Executing] = {}

    @property
    def count(self) -> int:
        return self.group.count

    def origin(self, index: int) -> tuple[TaskRunGroup, int]:
        """Returns under which group and index the run is recorded: another than its own when it was made before."""
        return (self.group, index) if self.origins is None else self.origins[index]


class RunSet:
    """Runs of one task that were asked for together.

    Parameters:
        flow_run: The flow run that they belong to.
        task: The task.
        group: Their record.
        shared: Parameters that all have in common.
        columns: Parameters of which each run has its own: one sequence of values per name.
        wait_for: Upstreams without data; None means none.
        has_handles: Whether parameters or `wait_for` hold futures, states or annotations.
        result_factory, log_prints: The task's policies, resolved.
        origins: For an attempt after the first: where each run is recorded. None: all in `group`.

    ``_lock`` guards ``states``, the summary's counts and ``_callbacks``: it prevents that one run gets two outcomes,
    and that a callback added while its run ends is lost.
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_has_futures",
        "_lock",
        "active",
        "asynchronous",
        "cancel_requests",
        "closed",
        "collapses",
        "columns",
        "context",
        "executing",
        "flow_run",
        "gate",
        "group",
        "has_handles",
        "held",
        "in_caller",
        "log_prints",
        "names",
        "own_inputs",
        "result_factory",
        "runner",
        "settings",
        "shared",
        "states",
        "summary",
        "task",
        "wait_for",
        "waiting",
        "waits_in_place",
    )

    def __init__(
        self,
        flow_run: ActiveFlowRun,
        task: Task[..., Any],
        group: TaskRunGroup,
        *,
        shared: dict[str, Any],
        columns: Mapping[str, Sequence[Any]],
        wait_for: Sequence[Any] | None,
        has_handles: bool,
        result_factory: ResultFactory,
        log_prints: bool,
        settings: SettingsContext,
        asynchronous: bool,
        origins: Sequence[tuple[TaskRunGroup, int]] | None = None,
    ) -> None:
        self.flow_run = flow_run
        self.task = task
        self.group = group
        self.shared = shared
        # Handles are taken out of their column when their run has ended, and these lists are nobody else's.
        self.columns = [(name, _own_list(values) if has_handles else values) for name, values in columns.items()]
        self.wait_for = wait_for
        self.has_handles = has_handles
        self.result_factory = result_factory
        self.log_prints = log_prints
        self.settings = settings
        self.asynchronous = asynchronous
        self.context = contextvars.copy_context()
        self.states: list[State | None] = [None] * group.count
        self.summary = RunSetSummary(group, origins)
        self.active: dict[int, ActiveTaskRun] = {}
        self.executing = self.summary.executing
        self.waiting: set[int] = set()
        self.cancel_requests: set[int] = set()
        self.waits_in_place = False
        self.closed: str | None = None
        self.in_caller = False
        self.collapses = False
        self.names: dict[int, str] = {}
        self.own_inputs: dict[int, dict[str, Any]] = {}
        self.runner: BaseTaskRunner | None = None
        self.gate: SlotGate | None = None
        # How many futures of each run there are: 0 or 1, MANY from then on. Each begins with the one that will be made.
        self.held = bytearray(b"\x01") * group.count
        self._has_futures = False
        self._callbacks: dict[int, list[Callable[[], object]]] = {}
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        return self.group.count

    def parameters(self, index: int) -> dict[str, Any]:
        """Returns the parameters of one run, as given: with handles and annotations in them."""
        parameters = self.shared.copy()
        for name, values in self.columns:
            parameters[name] = values[index]
        return self.task.signature.collapse(parameters) if self.collapses else parameters

    def activate(self, index: int) -> ActiveTaskRun:
        """Returns the record under which a run is executed, made when first asked for."""
        known = self.active.get(index)
        if known is not None:
            return known
        summary = self.summary
        if summary.origins is None:
            run = ActiveTaskRun(self.flow_run, self.group, index, self.group.first_state(index))
        else:
            assert self.flow_run.previous is not None
            run = self.flow_run.previous.activate(self.flow_run, *summary.origins[index])
        run.run_set = self
        run.position = index
        # Of two threads, one that executes and one that cancels, the first decides which record is the run's.
        return self.active.setdefault(index, run)

    def has_begun(self, index: int) -> bool:
        """Returns whether a run has been Running before: what is due again goes before what has not begun."""
        run = self.active.get(index)
        return run is not None and run.run_count > 0

    def settle(self, index: int, state: State) -> bool:
        """Sets the outcome of a run, once.

        Returns:
            Whether it was set; False when the run had an outcome already, which stands.
        """
        summary = self.summary
        with self._lock:
            if self.states[index] is not None:
                return False
            # Counted before its end can be seen: the flow is judged as soon as the last run has ended.
            if state._type is not COMPLETED:
                summary.not_completed[index] = state
            elif state._name == "Cached":
                summary.cached += 1
            self.states[index] = state
            summary.done = done = summary.done + 1
            callbacks = self._callbacks.pop(index, None) if self._callbacks else None
        if not self.held[index]:
            self._forget_value(index, state)
        run = self.active.pop(index, None)
        if callbacks is not None:
            for callback in callbacks:
                callback()
        if self.has_handles:
            for _, values in self.columns:
                values[index] = None  # type: ignore[index]  # with handles these are lists
        if done == self.group.count:
            self.flow_run.ended(self)
        if self.gate is not None and run is not None and run.holds_slots:
            # They were taken while the run was being ended.
            self.flow_run.client.release_slots(run)
        if state._type is not COMPLETED:
            after_bad_end(self, state)
        return True

    def end(self, index: int, state: State) -> None:
        """Ends a run that no call will bring to an end: records `state`, unless it has ended, and sets its outcome."""
        from core_engine.engine.proposals import decide_task

        run = self.activate(index)
        # A journal that has failed tells so whoever waits for the outcome.
        with contextlib.suppress(StoreError):
            decide_task(run, state, force=True, execution=run.execution)
        self.settle(index, run.state)

    def ends_instead(self, index: int) -> bool:
        """Ends a run that was to start, if its flow run is being ended or its map is closed; returns whether it did."""
        if self.flow_run.stopping is not None:
            from core_engine.engine.crashes import end_unstarted

            end_unstarted(self, index)
        elif self.closed is not None and index not in self.active:
            end_closed(self, index)
        else:
            return False
        return True

    def add_callback(self, index: int, callback: Callable[[], object]) -> None:
        """Calls `callback` when the run has ended, in the thread that ended it; at once if it has."""
        with self._lock:
            if self.states[index] is None:
                self._callbacks.setdefault(index, []).append(callback)
                return
        callback()

    def ended(self, index: int) -> Latch:
        """Returns a latch that is set when the run has ended."""
        latch = Latch()
        self.add_callback(index, latch.set)
        return latch

    def durably_ended(self, index: int) -> Latch:
        """Returns a latch that is set when the run has ended and its outcome is committed (I1)."""
        latch = Latch()
        journal = self.flow_run.client.journal

        def when_ended() -> None:
            state = self.states[index]
            assert state is not None
            journal.when_committed(state._position, lambda failure: latch.set())

        self.add_callback(index, when_ended)
        return latch

    def recorded_state(self, index: int, timeout_seconds: float | None = None) -> State | None:
        """Returns the outcome of a run that has ended, once it is committed; None if the time runs out first.

        Raises:
            StoreError: It could not be recorded.
        """
        state = self.states[index]
        assert state is not None
        return state if self.flow_run.client.journal.wait(state._position, timeout_seconds) else None

    def committed_state(self, index: int) -> State | None:
        """Returns the run's outcome if it may be seen: ended and committed."""
        state = self.states[index]
        if state is None or state._position > self.flow_run.client.journal.committed:
            return None
        return state

    def let_go(self, index: int) -> None:
        """Lets the value of a run go whose future is gone. Any thread at any moment, locks held or not: takes none."""
        if self.held[index] != 1:
            return
        self.held[index] = 0
        state = self.states[index]
        if state is not None:
            self._forget_value(index, state)

    def _forget_value(self, index: int, state: State) -> None:
        """Keeps the outcome of a run without its value. Others may hold the state itself, so that it stays whole."""
        data = state._data
        left = data.without_value() if isinstance(data, BaseResult) else data
        if left is data:
            return
        outcome = make_state(
            state._type, state._time, state._group, state._index, state._ordinal, state._name, state._message, left
        )
        outcome._details, outcome._position = state._details, state._position
        self.states[index] = outcome

    def futures(self) -> list[TaskFuture[Any]]:
        """Returns a future for each run."""
        from core_engine.futures import AsyncTaskFuture, TaskFuture

        kind = AsyncTaskFuture if self.asynchronous else TaskFuture
        if self._has_futures:
            self.held = bytearray([MANY]) * self.group.count
        self._has_futures = True
        return [kind(self, index) for index in range(self.group.count)]

    def task_run(self, index: int) -> TaskRun:
        """Returns the record of one run, as far as memory has it."""
        active = self.active.get(index)
        if active is not None:
            return active.snapshot()
        group, position = self.summary.origin(index)
        return task_run_record(group, position, self.states[index], task_inputs=self.own_inputs.get(index))

    def unsettled(self) -> list[int]:
        """Returns the indices of the runs without an outcome."""
        return [index for index, state in enumerate(self.states) if state is None]
