"""What each recorded state changes in its run."""

from datetime import timedelta

import pytest

from core_engine import ids
from core_engine.orchestration.progress import (
    FlowRunProgress,
    mirror_of,
    record_flow_state,
    record_task_state,
    scheduled_seconds,
)
from core_engine.schemas.records import FlowRun
from core_engine.schemas.states import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PAUSED,
    PENDING,
    RUNNING,
    SCHEDULED,
    State,
    StateType,
)
from tests.orchestration.builders import START, flow_run, moment, state, task_run, task_run_in


def at(seconds: float, type: StateType, **fields: object) -> State:
    made = state(type, **fields)  # type: ignore[arg-type]
    made._time = START + seconds
    return made


@pytest.mark.behaviour("ORCH-25", "ORCH-26")
def test_a_task_run_gathers_its_counts_and_times() -> None:
    run = task_run()
    record_task_state(run, at(1, RUNNING), 1)
    assert (run.start_time, run.end_time, run.run_count) == (START + 1, None, 1)
    record_task_state(run, at(4, SCHEDULED))
    assert run.total_run_time == pytest.approx(3)
    record_task_state(run, at(10, RUNNING), 1)
    record_task_state(run, at(12, COMPLETED))
    assert (run.start_time, run.end_time, run.run_count) == (START + 1, START + 12, 2)
    assert run.total_run_time == pytest.approx(5)


@pytest.mark.behaviour("ORCH-25", "D1")
def test_leaving_a_final_state_opens_the_next_execution_and_clears_the_end() -> None:
    run = task_run()
    record_task_state(run, at(1, RUNNING), 1)
    record_task_state(run, at(2, FAILED))
    record_task_state(run, at(5, PENDING))
    assert (run.execution, run.end_time, run.run_count, run.start_time) == (2, None, 0, START + 1)
    record_task_state(run, at(6, RUNNING), 2)
    record_task_state(run, at(8, COMPLETED))
    assert (run.execution, run.end_time, run.run_count, run.flow_run_count) == (2, START + 8, 1, 2)
    assert run.total_run_time == pytest.approx(3)


@pytest.mark.behaviour("ORCH-26")
def test_states_of_a_task_run_are_numbered_and_know_their_run() -> None:
    run = task_run(index=2)
    group = run.state._group
    assert group is not None
    for ordinal, type in enumerate((RUNNING, PAUSED, RUNNING, FAILED), start=2):
        record_task_state(run, state(type))
        assert run.state._ordinal == ordinal
        assert run.state.id == ids.state_id(group.prefix, 2, ordinal)
        assert run.state.state_details.task_run_id == group.run_id(2)
        assert run.state.state_details.flow_run_id == group.flow_run_id


def test_a_clock_that_is_set_back_gives_no_negative_duration() -> None:
    run = task_run()
    record_task_state(run, at(10, RUNNING))
    record_task_state(run, at(3, COMPLETED))
    assert run.end_time == run.start_time == START + 10
    assert run.total_run_time == 0


def test_a_state_is_recorded_once() -> None:
    run = task_run_in(RUNNING)
    with pytest.raises(ValueError, match=r"recorded before, as state 2"):
        record_task_state(run, run.state)
    other = flow_run()
    with pytest.raises(ValueError, match="Record a copy"):
        record_flow_state(other, run.state)
    assert other.state is None


@pytest.mark.behaviour("ORCH-25", "ORCH-26")
def test_a_flow_run_gathers_its_counts_and_times() -> None:
    run = flow_run()
    record_flow_state(run, at(0, PENDING))
    assert (run.expected_start_time, run.start_time, run.run_count) == (START, None, 0)
    record_flow_state(run, at(1, RUNNING))
    record_flow_state(run, at(3, SCHEDULED, scheduled_time=moment(START + 9)))
    assert run.next_scheduled_start_time == START + 9
    assert run.expected_start_time == START
    record_flow_state(run, at(9, RUNNING))
    assert run.next_scheduled_start_time is None
    record_flow_state(run, at(10, CANCELLED))
    assert (run.start_time, run.end_time, run.run_count) == (START + 1, START + 10, 2)
    assert run.total_run_time == pytest.approx(3)
    assert run.state is not None
    assert run.state._ordinal == 5


@pytest.mark.behaviour("ORCH-25")
def test_a_flow_run_that_has_not_started_is_expected_when_it_is_scheduled() -> None:
    run = flow_run()
    record_flow_state(run, at(0, SCHEDULED))
    assert (run.expected_start_time, run.next_scheduled_start_time) == (START, START)
    record_flow_state(run, at(1, SCHEDULED, scheduled_time=moment(START + 60)))
    assert (run.expected_start_time, run.next_scheduled_start_time) == (START + 60, START + 60)
    record_flow_state(run, at(2, PENDING, scheduled_time=moment(START + 60)))
    assert (run.expected_start_time, run.next_scheduled_start_time) == (START + 60, None)


@pytest.mark.behaviour("ORCH-25", "D1")
def test_leaving_a_final_state_opens_the_next_execution_of_a_flow_run_and_keeps_its_count() -> None:
    run = flow_run()
    for seconds, type in enumerate((PENDING, RUNNING, FAILED, PENDING)):
        record_flow_state(run, at(seconds, type))
    assert (run.execution, run.end_time, run.run_count) == (2, None, 1)


def test_a_flow_run_can_be_taken_up_from_its_record_and_written_back() -> None:
    run = flow_run()
    for seconds, type in enumerate((PENDING, RUNNING, PAUSED)):
        record_flow_state(run, at(seconds, type))
    record = FlowRun(
        id=ids.new_id(), name="quick-fox", flow_name="f", retries=2, retry_delay_seconds=1.5, deployment_id=ids.new_id()
    )
    written = run.to_record(record)
    assert written.name == "quick-fox"
    assert record.state is None
    assert (written.state, written.run_count, written.start_time) == (run.state, 1, moment(START + 1))
    taken = FlowRunProgress.from_record(written)
    assert taken.flow_run_id == record.id
    assert (taken.retries, taken.retry_delay_seconds, taken.has_deployment, taken.is_subflow) == (2, 1.5, True, False)
    assert taken.to_record(written) == written


@pytest.mark.behaviour("ORCH-26")
def test_the_task_run_of_a_subflow_mirrors_its_states() -> None:
    parent_task = task_run(count=1, index=0)
    group = parent_task.state._group
    assert group is not None
    child = flow_run(parent_task_run_id=group.run_id(0))
    assert child.flow_run_id is not None
    error = ValueError("bad")
    for seconds, type in enumerate((PENDING, RUNNING, FAILED)):
        record_flow_state(child, at(seconds, type, data=error if type is FAILED else None, message=type.value))
        assert child.state is not None
        record_task_state(parent_task, mirror_of(child.state, child.flow_run_id))
        mirrored = parent_task.state
        assert (mirrored.type, mirrored.name, mirrored.message) == (type, child.state.name, type.value)
        assert mirrored.timestamp == child.state.timestamp
        assert mirrored.data is child.state.data
        details = mirrored.state_details
        assert details.child_flow_run_id == child.flow_run_id
        assert (details.task_run_id, details.flow_run_id) == (group.run_id(0), group.flow_run_id)
        assert child.state.state_details.task_run_id == group.run_id(0)
    assert (parent_task.run_count, parent_task.end_time) == (1, START + 2)


def test_when_a_state_is_due_is_read_from_its_details() -> None:
    assert scheduled_seconds(None) is None
    assert scheduled_seconds(state(PENDING)) is None
    assert scheduled_seconds(state(PENDING, cache_key="key")) is None
    assert scheduled_seconds(state(SCHEDULED, scheduled_time=moment(START) + timedelta(seconds=2))) == START + 2
