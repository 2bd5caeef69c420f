"""What a flow run may do, line by line."""

from typing import Any

import pytest

from core_engine import ids
from core_engine.orchestration.decisions import Answer
from core_engine.orchestration.flow_rules import FLOW_RULES
from core_engine.schemas.states import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    CRASHED,
    FAILED,
    FINAL_TYPES,
    PAUSED,
    PENDING,
    RUNNING,
    SCHEDULED,
    StateType,
)
from tests.orchestration.builders import (
    START,
    LostRecord,
    StoredRecord,
    ask_flow,
    content_of,
    fields_of,
    flow_run,
    flow_run_in,
    moment,
    move_flow,
    state,
)

# Scheduled times ------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("ORCH-4")
@pytest.mark.parametrize("left", [SCHEDULED, PENDING])
@pytest.mark.parametrize(("due", "answer"), [(30, Answer.WAIT), (0, Answer.ACCEPT), (-30, Answer.ACCEPT)])
def test_a_flow_run_starts_when_it_is_due(left: StateType, due: float, answer: Answer) -> None:
    run = flow_run_in(left, scheduled_time=moment(START + due))
    before = fields_of(run)
    decision = ask_flow(run, state(RUNNING))
    assert decision.answer is answer
    if answer is Answer.WAIT:
        assert decision.seconds == pytest.approx(due)
        assert decision.state is None
    assert fields_of(run) == before


@pytest.mark.behaviour("ORCH-4")
def test_pending_keeps_when_the_flow_run_is_due() -> None:
    run = flow_run_in(SCHEDULED, scheduled_time=moment(START + 30))
    move_flow(run, state(PENDING))
    assert run.state is not None
    assert run.state.state_details.scheduled_time == moment(START + 30)


# Retries --------------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("ORCH-7")
def test_a_failing_flow_run_is_tried_again_as_often_as_it_may() -> None:
    run = flow_run(retries=1)
    history = []
    for type in (PENDING, RUNNING, FAILED, RUNNING, FAILED):
        move_flow(run, state(type))
        assert run.state is not None
        history.append(run.state.name)
    assert history == ["Pending", "Running", "AwaitingRetry", "Running", "Failed"]
    assert (run.run_count, run.execution) == (2, 1)


@pytest.mark.behaviour("ORCH-7")
def test_the_flow_run_that_awaits_its_retry_keeps_message_and_data_of_the_failure() -> None:
    run = flow_run_in(RUNNING, flow_run(retries=1, retry_delay_seconds=20.0))
    error = ValueError("bad")
    decision = move_flow(run, state(FAILED, data=error, message="ValueError: bad"), now=START + 1)
    assert decision.answer is Answer.REJECT
    assert run.state is not None
    assert (run.state.type, run.state.name, run.state.message) == (SCHEDULED, "AwaitingRetry", "ValueError: bad")
    assert run.state.data is error
    assert run.state.state_details.scheduled_time == moment(START + 21)
    assert ask_flow(run, state(RUNNING), now=START + 2).seconds == pytest.approx(19)


@pytest.mark.behaviour("ORCH-7")
@pytest.mark.parametrize("retries", [None, 0])
def test_a_flow_run_without_retries_fails(retries: int | None) -> None:
    assert ask_flow(flow_run_in(RUNNING, flow_run(retries=retries)), state(FAILED)).answer is Answer.ACCEPT


@pytest.mark.behaviour("FLOW-RETRY-11", "ORCH-14")
def test_a_retry_forgets_the_pauses_that_the_flow_run_has_been_in() -> None:
    run = flow_run_in(RUNNING, flow_run(retries=1))
    move_flow(run, state(PAUSED, pause_key="1"))
    move_flow(run, state(RUNNING))
    assert run.pause_keys == {"1"}
    assert run.resuming
    move_flow(run, state(FAILED))
    assert run.pause_keys == frozenset()
    assert not run.resuming
    move_flow(run, state(RUNNING))
    assert move_flow(run, state(PAUSED, pause_key="1")).answer is Answer.ACCEPT


# Leaving a final state ------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("ORCH-11")
@pytest.mark.parametrize("entered", [SCHEDULED, PENDING, RUNNING])
@pytest.mark.parametrize(
    ("data", "answer"), [(StoredRecord(), Answer.REJECT), (LostRecord(), Answer.ACCEPT), (None, Answer.ACCEPT)]
)
def test_a_completed_flow_run_runs_again_only_if_its_result_is_lost(
    entered: StateType, data: Any, answer: Answer
) -> None:
    run = flow_run_in(COMPLETED, flow_run(has_deployment=True), data=data)
    decision = ask_flow(run, state(entered))
    assert decision.answer is answer
    if answer is Answer.REJECT:
        assert decision.state is run.state


@pytest.mark.behaviour("ORCH-14")
@pytest.mark.parametrize("left", [COMPLETED, FAILED, CRASHED])
@pytest.mark.parametrize("name", ["AwaitingRetry", "Scheduled", "Whenever"])
def test_a_finished_flow_run_with_a_deployment_is_scheduled_again_under_any_name(left: StateType, name: str) -> None:
    run = flow_run_in(left, flow_run(has_deployment=True))
    run.run_count = 7
    run.pause_keys = frozenset({"1"})
    decision = move_flow(run, state(SCHEDULED, name))
    assert decision.answer is Answer.ACCEPT
    assert run.state is not None
    assert run.state.name == name
    assert (run.run_count, run.execution, run.pause_keys, run.resuming) == (7, 2, frozenset(), False)


@pytest.mark.behaviour("ORCH-14")
@pytest.mark.parametrize("left", sorted(FINAL_TYPES))
def test_a_finished_flow_run_without_a_deployment_is_not_scheduled_again(left: StateType) -> None:
    decision = ask_flow(flow_run_in(left), state(SCHEDULED))
    assert decision.answer is Answer.ABORT
    assert "deployment" in str(decision.reason)


@pytest.mark.behaviour("ORCH-20")
def test_a_cancelled_flow_run_stays_cancelled_even_with_a_deployment() -> None:
    run = flow_run_in(CANCELLED, flow_run(has_deployment=True))
    decision = ask_flow(run, state(SCHEDULED))
    assert (decision.answer, decision.state) == (Answer.REJECT, run.state)


@pytest.mark.behaviour("D1", "I9")
@pytest.mark.parametrize("entered", list(StateType))
@pytest.mark.parametrize("force", [False, True])
def test_a_proposal_from_an_older_or_finished_execution_changes_nothing(entered: StateType, force: bool) -> None:
    run = flow_run_in(FAILED)
    assert not ask_flow(run, state(entered), execution=1, force=force).records
    move_flow(run, state(RUNNING))
    assert run.execution == 2
    assert ask_flow(run, state(entered), execution=1, force=force).answer is Answer.ABORT


# Submission and cancellation ------------------------------------------------------------------------------------------


@pytest.mark.behaviour("ORCH-16")
@pytest.mark.parametrize("left", [PENDING, RUNNING, CANCELLING, CANCELLED])
def test_a_flow_run_is_not_submitted_twice(left: StateType) -> None:
    decision = ask_flow(flow_run_in(left), state(PENDING))
    assert decision.answer is Answer.ABORT
    assert "submitted" in str(decision.reason)


@pytest.mark.behaviour("ORCH-16")
@pytest.mark.parametrize("left", [None, SCHEDULED, COMPLETED, FAILED, CRASHED])
def test_other_flow_runs_may_become_pending(left: StateType | None) -> None:
    assert ask_flow(flow_run_in(left), state(PENDING)).answer is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-20")
def test_a_flow_run_that_is_being_cancelled_can_only_become_cancelled() -> None:
    for left, entered in FLOW_RULES:
        if left is CANCELLING:
            run = flow_run_in(CANCELLING, flow_run(retries=3, has_deployment=True))
            decision = ask_flow(run, state(entered))
            if entered is CANCELLED:
                assert decision.answer is Answer.ACCEPT
            else:
                assert not decision.records


@pytest.mark.behaviour("ORCH-21")
def test_a_scheduled_flow_run_without_a_process_is_cancelled_at_once() -> None:
    run = flow_run_in(SCHEDULED)
    decision = move_flow(run, state(CANCELLING))
    assert decision.answer is Answer.REJECT
    assert run.state is not None
    assert (run.state.type, run.state.name) == (CANCELLED, "Cancelled")


@pytest.mark.behaviour("ORCH-21")
def test_a_flow_run_whose_process_awaits_a_retry_is_asked_to_cancel() -> None:
    run = flow_run_in(SCHEDULED)
    assert ask_flow(run, state(CANCELLING), has_process=True).answer is Answer.ACCEPT


# Pauses ---------------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("ORCH-18")
def test_a_pause_keeps_its_key() -> None:
    run = flow_run_in(RUNNING)
    proposed = state(PAUSED, pause_key="1")
    assert move_flow(run, proposed).state is proposed
    assert run.pause_keys == {"1"}


@pytest.mark.behaviour("ORCH-18")
def test_a_pause_without_a_key_gets_the_one_that_was_drawn_for_it() -> None:
    run = flow_run_in(RUNNING)
    move_flow(run, state(PAUSED), new_pause_key="drawn")
    assert run.state is not None
    assert run.state.state_details.pause_key == "drawn"
    assert run.pause_keys == {"drawn"}


@pytest.mark.behaviour("ORCH-18")
def test_a_key_pauses_a_flow_run_once() -> None:
    run = flow_run_in(RUNNING)
    move_flow(run, state(PAUSED, pause_key="1"))
    move_flow(run, state(RUNNING))
    before = fields_of(run)
    decision = move_flow(run, state(PAUSED, pause_key="1"))
    assert decision.answer is Answer.REJECT
    assert decision.state is run.state
    assert run.state is not None
    assert run.state.type is RUNNING
    assert fields_of(run) == before
    assert move_flow(run, state(PAUSED, pause_key="2")).answer is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-18")
def test_a_pause_in_which_the_process_leaves_needs_a_deployment_and_a_root_flow() -> None:
    def pause(**fields: Any) -> tuple[Answer, str]:
        decision = ask_flow(flow_run_in(RUNNING, flow_run(**fields)), state(PAUSED, pause_reschedule=True))
        return decision.answer, str(decision.reason)

    answer, reason = pause()
    assert answer is Answer.ABORT
    assert "deployment" in reason
    answer, reason = pause(has_deployment=True, parent_task_run_id=ids.new_id())
    assert answer is Answer.ABORT
    assert "subflow" in reason
    assert pause(has_deployment=True)[0] is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-19", "ORCH-26")
def test_a_resumed_flow_run_is_marked_and_not_counted_again() -> None:
    run = flow_run_in(RUNNING)
    move_flow(run, state(PAUSED))
    decision = move_flow(run, state(RUNNING))
    assert decision.answer is Answer.ACCEPT
    assert (run.resuming, run.run_count) == (True, 1)


@pytest.mark.behaviour("ORCH-19", "ORCH-26")
def test_a_pause_that_its_process_left_is_resumed_by_way_of_scheduled() -> None:
    run = flow_run_in(RUNNING, flow_run(has_deployment=True))
    move_flow(run, state(PAUSED, pause_reschedule=True, pause_key="1"))
    for proposed in (state(SCHEDULED, "Resuming"), state(PENDING), state(RUNNING)):
        assert move_flow(run, proposed).answer is Answer.ACCEPT
        assert run.resuming
    assert (run.run_count, run.execution, run.pause_keys) == (1, 1, {"1"})
    move_flow(run, state(COMPLETED))
    assert not run.resuming


@pytest.mark.behaviour("ORCH-26")
def test_a_running_flow_run_that_starts_once_more_after_a_pause_is_counted() -> None:
    run = flow_run_in(RUNNING)
    for type in (PAUSED, RUNNING, RUNNING):
        move_flow(run, state(type))
    assert run.run_count == 2


@pytest.mark.behaviour("ORCH-19")
@pytest.mark.parametrize("entered", [RUNNING, SCHEDULED])
def test_a_pause_past_its_deadline_ends_as_failed(entered: StateType) -> None:
    run = flow_run_in(PAUSED, flow_run(retries=3), pause_timeout=moment(START + 5))
    assert ask_flow(run, state(entered), now=START + 5).answer is Answer.ACCEPT
    decision = move_flow(run, state(entered), now=START + 6)
    assert decision.answer is Answer.REJECT
    assert run.state is not None
    assert run.state.type is FAILED
    assert "never resumed" in str(run.state.message)


@pytest.mark.behaviour("ORCH-19")
@pytest.mark.parametrize("entered", sorted(FINAL_TYPES))
def test_a_paused_flow_run_may_end_in_any_way_at_any_time(entered: StateType) -> None:
    run = flow_run_in(PAUSED, flow_run(retries=3), pause_timeout=moment(START - 5), pause_reschedule=True)
    assert ask_flow(run, state(entered)).answer is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-19")
def test_a_pause_that_nobody_can_take_up_stays() -> None:
    run = flow_run_in(PAUSED, pause_reschedule=True)
    decision = ask_flow(run, state(SCHEDULED))
    assert (decision.answer, decision.state) == (Answer.REJECT, run.state)
    assert "deployment" in str(decision.reason)


# Answers --------------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("ORCH-26")
def test_an_accepted_state_of_a_flow_run_comes_back_itself_with_its_ids() -> None:
    parent = ids.new_id()
    run = flow_run(parent_task_run_id=parent)
    proposed = state(PENDING, scheduled_time=moment(START))
    assert move_flow(run, proposed, now=START + 2).state is proposed is run.state
    assert proposed.timestamp == moment(START + 2)
    details = proposed.state_details
    assert (details.flow_run_id, details.task_run_id) == (run.flow_run_id, parent)
    assert details.scheduled_time == moment(START)


def test_a_recorded_state_that_a_flow_proposes_stays_as_it_was() -> None:
    child = flow_run_in(FAILED, data="why")
    assert child.state is not None
    before = content_of(child.state)
    run = flow_run_in(RUNNING)
    move_flow(run, child.state)
    assert run.state is not None
    assert run.state is not child.state
    assert run.state.data == "why"
    assert run.state.state_details.flow_run_id == run.flow_run_id
    assert content_of(child.state) == before
