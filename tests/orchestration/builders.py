"""Runs in any state, without an engine: what the tests of the rules begin with."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

from core_engine import ids
from core_engine.orchestration.decisions import Decision
from core_engine.orchestration.facts import FlowFacts, TaskFacts
from core_engine.orchestration.flow_rules import decide_flow_run
from core_engine.orchestration.progress import FlowRunProgress, TaskRunProgress, record_flow_state, record_task_state
from core_engine.orchestration.task_rules import decide_task_run
from core_engine.schemas.records import TaskPolicy, TaskRunGroup
from core_engine.schemas.states import FINAL_TYPES, PENDING, RUNNING, SCHEDULED, State, StateDetails, StateType

START = 1_000_000.0
NO_POLICY = TaskPolicy()


class StoredRecord:
    """Stands for a result record whose value can be read back."""

    stored = True


class LostRecord:
    """Stands for a result record whose value is kept nowhere."""

    stored = False


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def state(
    type: StateType, name: str | None = None, *, data: Any = None, message: str | None = None, **details: Any
) -> State:
    """A state that was not recorded; `details` are fields of StateDetails."""
    return State(type, name, message, data, moment(START), StateDetails(**details) if details else None)


def task_run(*, count: int = 3, index: int = 1) -> TaskRunProgress:
    """A task run that was just created."""
    group = TaskRunGroup(
        prefix=ids.new_prefix(), flow_run_id=ids.new_id(), task_key="k", task_name="add", created=START, count=count
    )
    return TaskRunProgress(group.first_state(index))


def task_run_in(type: StateType, name: str | None = None, **fields: Any) -> TaskRunProgress:
    """A task run that came to a state of `type` by the shortest way; `fields` as for ``state``."""
    progress = task_run()
    if type is PENDING and not fields and name is None:
        return progress
    if type not in (PENDING, SCHEDULED):
        record_task_state(progress, state(RUNNING), 1)
    if type is not RUNNING:
        record_task_state(progress, state(type, name, **fields))
    return progress


def flow_run(**fields: Any) -> FlowRunProgress:
    """A flow run without a state; `fields` of FlowRunProgress."""
    return FlowRunProgress(**({"flow_run_id": ids.new_id()} | fields))


def flow_run_in(type: StateType | None, run: FlowRunProgress | None = None, **fields: Any) -> FlowRunProgress:
    """A flow run that came to a state of `type` by the shortest way; `fields` as for ``state``."""
    progress = run or flow_run()
    if type is None:
        return progress
    if type not in (PENDING, SCHEDULED):
        record_flow_state(progress, state(PENDING))
        record_flow_state(progress, state(RUNNING))
    if type is not RUNNING:
        record_flow_state(progress, state(type, **fields))
    return progress


def ask_task(
    progress: TaskRunProgress,
    proposed: State,
    policy: TaskPolicy = NO_POLICY,
    *,
    force: bool = False,
    now: float = START,
    **facts: Any,
) -> Decision:
    """Decides without recording; `facts` are fields of TaskFacts."""
    given = {"flow_state_type": RUNNING} | facts
    return decide_task_run(progress, proposed, policy, TaskFacts(now, **given), force)


def move_task(progress: TaskRunProgress, proposed: State, policy: TaskPolicy = NO_POLICY, **facts: Any) -> Decision:
    """Decides and records, as the engine does."""
    decision = ask_task(progress, proposed, policy, **facts)
    if decision.records:
        assert decision.state is not None
        record_task_state(progress, decision.state, facts.get("flow_run_count", 1))
    return decision


def ask_flow(
    progress: FlowRunProgress, proposed: State, *, force: bool = False, now: float = START, **facts: Any
) -> Decision:
    """Decides without recording; `facts` are fields of FlowFacts."""
    return decide_flow_run(progress, proposed, FlowFacts(now, **facts), force)


def move_flow(progress: FlowRunProgress, proposed: State, **facts: Any) -> Decision:
    """Decides and records, as the engine does."""
    decision = ask_flow(progress, proposed, **facts)
    if decision.records:
        assert decision.state is not None
        record_flow_state(progress, decision.state)
    return decision


def fields_of(progress: TaskRunProgress | FlowRunProgress) -> dict[str, Any]:
    """Everything that a progress holds, to compare with later."""
    return {field.name: getattr(progress, field.name) for field in dataclasses.fields(progress)}


def content_of(state: State) -> tuple[Any, ...]:
    """Everything that a recorded state says, to compare with later."""
    details = None if state._details is None else state._details.to_dict()
    data = id(state._data)
    return (
        state._type,
        state._name,
        state._message,
        data,
        state._time,
        details,
        state._ordinal,
        state._index,
        state.id,
    )


def is_final(state: State) -> bool:
    return state._type in FINAL_TYPES
