"""Where a run stands, and the bookkeeping that each recorded state brings. Times are epoch seconds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

from core_engine.schemas.records import FlowRun
from core_engine.schemas.states import FINAL_TYPES, PAUSED, RUNNING, SCHEDULED, State, StateDetails, make_state


@dataclass(slots=True, eq=False)
class TaskRunProgress:
    """Where a task run stands.

    Attributes:
        state: Its current state; the first one is its group's ``first_state``.
        run_count: How often it has been RUNNING in this execution.
        flow_run_count: The attempt of the flow in which it was last RUNNING; 0 before it was.
        start_time: When it was first RUNNING; None before it was.
        end_time: When it became final; None while it is not.
        total_run_time: Seconds spent RUNNING, over all executions.
        execution: 1, and one more each time a final state was left (D1).
        holds_slots: Whether it holds concurrency slots. Set where they are taken, cleared where they are given back.
    """

    state: State
    run_count: int = 0
    flow_run_count: int = 0
    start_time: float | None = None
    end_time: float | None = None
    total_run_time: float = 0.0
    execution: int = 1
    holds_slots: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class FlowRunProgress:
    """Where a flow run stands.

    Attributes:
        flow_run_id: Its id, which every state's details get; None leaves them as they are.
        parent_task_run_id: The task run that stands for it in its parent; None means that it is a root flow's run.
        has_deployment: Whether another process could load the flow and run it.
        state: Its current state; None before the first.
        run_count: How often it has been RUNNING, without those RUNNING states that follow a pause.
        retries: How often a failed run is tried again; None means not.
        retry_delay_seconds: Seconds before each retry; None means none.
        expected_start_time: When it was due to start first; None before it has a state.
        next_scheduled_start_time: When it is due; None unless it is SCHEDULED.
        start_time, end_time, total_run_time, execution: As for a task run.
        pause_keys: The keys of the pauses that this attempt has been in.
        resuming: Whether the run left a pause, and is on its way to, or in, the RUNNING that follows it.
    """

    flow_run_id: UUID | None = None
    parent_task_run_id: UUID | None = None
    has_deployment: bool = False
    state: State | None = None
    run_count: int = 0
    retries: int | None = None
    retry_delay_seconds: float | None = None
    expected_start_time: float | None = None
    next_scheduled_start_time: float | None = None
    start_time: float | None = None
    end_time: float | None = None
    total_run_time: float = 0.0
    execution: int = 1
    pause_keys: frozenset[str] = field(default_factory=frozenset)
    resuming: bool = False

    @property
    def is_subflow(self) -> bool:
        return self.parent_task_run_id is not None

    @classmethod
    def from_record(cls, flow_run: FlowRun) -> FlowRunProgress:
        """Takes up where a recorded flow run stands."""
        return cls(
            flow_run_id=flow_run.id,
            parent_task_run_id=flow_run.parent_task_run_id,
            has_deployment=flow_run.deployment_id is not None,
            state=flow_run.state,
            run_count=flow_run.run_count,
            retries=flow_run.retries,
            retry_delay_seconds=flow_run.retry_delay_seconds,
            expected_start_time=_seconds(flow_run.expected_start_time),
            next_scheduled_start_time=_seconds(flow_run.next_scheduled_start_time),
            start_time=_seconds(flow_run.start_time),
            end_time=_seconds(flow_run.end_time),
            total_run_time=flow_run.total_run_time,
            execution=flow_run.execution,
            pause_keys=frozenset(flow_run.pause_keys),
            resuming=flow_run.resuming,
        )

    def to_record(self, flow_run: FlowRun) -> FlowRun:
        """Returns a copy of `flow_run` that stands where this progress stands."""
        return replace(
            flow_run,
            state=self.state,
            run_count=self.run_count,
            expected_start_time=_moment(self.expected_start_time),
            next_scheduled_start_time=_moment(self.next_scheduled_start_time),
            start_time=_moment(self.start_time),
            end_time=_moment(self.end_time),
            total_run_time=self.total_run_time,
            execution=self.execution,
            pause_keys=set(self.pause_keys),
            resuming=self.resuming,
        )


def scheduled_seconds(state: State | None) -> float | None:
    """Returns when a state says that its run is due, in epoch seconds; None when it says nothing."""
    if state is None or state._details is None or state._details.scheduled_time is None:
        return None
    return state._details.scheduled_time.timestamp()


def record_task_state(progress: TaskRunProgress, state: State, flow_run_count: int | None = None) -> None:
    """Puts a task run into `state`, which becomes the next of its history.

    Parameters:
        progress: The run; changed in place.
        state: A state that was never recorded; it gets its group, index and ordinal, and a time that is not before
            that of the state it follows.
        flow_run_count: The attempt of the flow, stored when `state` is RUNNING; None leaves it as it is.

    Raises:
        ValueError: `state` was recorded before.
    """
    previous = progress.state
    left = previous._type
    entered = state._type
    _append(state, previous)
    state._group = previous._group
    state._index = previous._index
    time = state._time
    if left is RUNNING:
        progress.total_run_time += time - previous._time
    elif left in FINAL_TYPES:
        progress.execution += 1
        progress.run_count = 0
        progress.end_time = None
    if entered is RUNNING:
        progress.run_count += 1
        if progress.start_time is None:
            progress.start_time = time
        if flow_run_count is not None:
            progress.flow_run_count = flow_run_count
    elif entered in FINAL_TYPES:
        progress.end_time = time
    progress.state = state


def record_flow_state(progress: FlowRunProgress, state: State) -> None:
    """Puts a flow run into `state`, which becomes the next, or the first, of its history.

    Parameters:
        progress: The run; changed in place.
        state: A state that was never recorded; it gets its ordinal, the run's ids in its details, and a time that is
            not before that of the state it follows.

    Raises:
        ValueError: `state` was recorded before.
    """
    _append(state, progress.state)
    if progress.flow_run_id is not None:
        state._details = replace(
            state._details or StateDetails(),
            flow_run_id=progress.flow_run_id,
            task_run_id=progress.parent_task_run_id,
        )
    if progress.state is not None:
        _leave(progress, progress.state, state)
    _enter(progress, state)
    progress.state = state


def _append(state: State, previous: State | None) -> None:
    if state._ordinal:
        raise ValueError(f"{state!r} was recorded before, as state {state._ordinal} of its run. Record a copy of it.")
    if previous is None:
        state._ordinal = 1
        return
    state._ordinal = previous._ordinal + 1
    # Clocks are set back now and then; a history that runs backwards would give negative durations.
    if state._time < previous._time:
        state._time = previous._time


def _leave(progress: FlowRunProgress, left: State, entered: State) -> None:
    if left._type is RUNNING:
        progress.total_run_time += entered._time - left._time
        progress.resuming = False
    elif left._type is PAUSED:
        progress.resuming = True
    elif left._type in FINAL_TYPES:
        progress.execution += 1
        progress.end_time = None
    if left._type in FINAL_TYPES or (left._type is RUNNING and entered._type is SCHEDULED):
        # The function runs again from its start, and through its pauses again.
        progress.pause_keys = frozenset()


def _enter(progress: FlowRunProgress, state: State) -> None:
    due = scheduled_seconds(state)
    if state._type is RUNNING:
        if progress.start_time is None:
            progress.start_time = state._time
        if not progress.resuming:
            progress.run_count += 1
    elif state._type is PAUSED and state._details is not None and state._details.pause_key is not None:
        progress.pause_keys |= {state._details.pause_key}
    elif state._type in FINAL_TYPES:
        progress.end_time = state._time
        progress.resuming = False
    is_scheduled = state._type is SCHEDULED
    progress.next_scheduled_start_time = (state._time if due is None else due) if is_scheduled else None
    if progress.expected_start_time is None or (is_scheduled and progress.start_time is None):
        progress.expected_start_time = state._time if due is None else due


def mirror_of(child_state: State, child_flow_run_id: UUID) -> State:
    """Makes the state in which the parent's task run follows its child flow run; recorded by force (ORCH-26)."""
    details = replace(
        child_state._details or StateDetails(),
        flow_run_id=None,
        task_run_id=None,
        child_flow_run_id=child_flow_run_id,
    )
    return make_state(
        child_state._type,
        child_state._time,
        None,
        0,
        0,
        name=child_state._name,
        message=child_state._message,
        data=child_state._data,
        details=details,
    )


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
