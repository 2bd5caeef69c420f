"""What a task run may do, line by line."""

import statistics
from typing import Any

import pytest

from core_engine.exceptions import ObjectNotFound
from core_engine.orchestration.decisions import Answer
from core_engine.orchestration.facts import SLOTS_GRANTED, SlotAnswer
from core_engine.orchestration.progress import TaskRunProgress
from core_engine.orchestration.task_rules import SLOT_WAIT_SECONDS, TASK_RULES, retry_delay_seconds, varied
from core_engine.schemas.records import TaskPolicy
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
    State,
    StateType,
)
from tests.orchestration.builders import (
    START,
    LostRecord,
    StoredRecord,
    ask_task,
    content_of,
    fields_of,
    moment,
    move_task,
    state,
    task_run,
    task_run_in,
)

LEADING_TO_RUNNING = [left for left, entered in TASK_RULES if entered is RUNNING and left is not CANCELLING]
FULL = SlotAnswer.full("db")
ZERO = SlotAnswer.zero("db")


def names(run: TaskRunProgress, *proposals: State, policy: TaskPolicy, **facts: Any) -> list[str]:
    """The names of the states that a run goes through when it is proposed one state after the other."""
    history = [run.state.name]
    for proposed in proposals:
        assert move_task(run, proposed, policy, **facts).records
        history.append(run.state.name)
    return history


def cached_state(**details: Any) -> State:
    """A completed state of another run, as the store gives it back."""
    run = task_run_in(RUNNING)
    move_task(run, state(COMPLETED, data=StoredRecord(), message="kept", cache_key="key", **details))
    return run.state


# Scheduled times ------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("ORCH-4")
@pytest.mark.parametrize("left", [SCHEDULED, PENDING])
def test_a_run_that_is_due_later_waits_for_the_time_that_remains(left: StateType) -> None:
    run = task_run_in(left, scheduled_time=moment(START + 30))
    before = fields_of(run)
    decision = ask_task(run, state(RUNNING), now=START + 10)
    assert decision.answer is Answer.WAIT
    assert decision.seconds == pytest.approx(20)
    assert decision.state is None
    assert not decision.records
    assert fields_of(run) == before


@pytest.mark.behaviour("ORCH-4")
@pytest.mark.parametrize("left", [SCHEDULED, PENDING])
@pytest.mark.parametrize("due", [START - 5, START, None])
def test_a_run_that_is_due_or_has_no_time_starts(left: StateType, due: float | None) -> None:
    run = task_run_in(left, scheduled_time=None if due is None else moment(due))
    assert ask_task(run, state(RUNNING)).answer is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-4")
def test_a_time_that_lies_ahead_holds_up_no_other_move() -> None:
    for left, entered in TASK_RULES:
        if left in (SCHEDULED, PENDING) and entered is not RUNNING:
            run = task_run_in(left, scheduled_time=moment(START + 30))
            assert ask_task(run, state(entered)).answer is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-4")
def test_pending_keeps_when_the_run_is_due() -> None:
    run = task_run_in(SCHEDULED, scheduled_time=moment(START + 30))
    move_task(run, state(PENDING))
    assert run.state.state_details.scheduled_time == moment(START + 30)
    assert ask_task(run, state(RUNNING)).answer is Answer.WAIT


@pytest.mark.behaviour("ORCH-4")
def test_a_pending_state_with_a_time_of_its_own_keeps_that() -> None:
    run = task_run_in(SCHEDULED, scheduled_time=moment(START + 30))
    move_task(run, state(PENDING, scheduled_time=moment(START + 5)))
    assert run.state.state_details.scheduled_time == moment(START + 5)


@pytest.mark.behaviour("ORCH-4")
def test_other_moves_do_not_copy_the_scheduled_time() -> None:
    for entered in (SCHEDULED, FAILED, CANCELLED, CRASHED, CANCELLING):
        run = task_run_in(SCHEDULED, scheduled_time=moment(START + 30))
        move_task(run, state(entered))
        assert run.state.state_details.scheduled_time is None


# Cache ----------------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("ORCH-5")
@pytest.mark.parametrize("left", LEADING_TO_RUNNING)
def test_a_stored_state_is_given_instead_of_running(left: StateType) -> None:
    run = task_run_in(left)
    cached = cached_state()
    before = content_of(cached)
    decision = move_task(run, state(RUNNING, cache_key="key"), cached=cached, now=START + 7)
    assert decision.answer is Answer.REJECT
    assert run.state is decision.state
    assert (run.state.type, run.state.name, run.state.message) == (COMPLETED, "Cached", "kept")
    assert run.state.data is cached.data
    assert not decision.store_cache
    assert content_of(cached) == before


@pytest.mark.behaviour("ORCH-5", "ORCH-26")
def test_a_cached_state_carries_the_ids_of_the_run_that_it_was_given_to() -> None:
    run = task_run()
    move_task(run, state(RUNNING, cache_key="key"), cached=cached_state())
    group = run.state._group
    assert group is not None
    assert run.state.state_details.task_run_id == group.run_id(1)
    assert run.state.state_details.flow_run_id == group.flow_run_id


@pytest.mark.behaviour("ORCH-5")
def test_a_run_without_a_cache_key_runs() -> None:
    assert ask_task(task_run(), state(RUNNING), cached=cached_state()).answer is Answer.ACCEPT
    assert ask_task(task_run(), state(RUNNING, cache_key="key")).answer is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-5", "CACHE-5")
@pytest.mark.parametrize(("expires", "answer"), [(-1, Answer.ACCEPT), (0, Answer.ACCEPT), (1, Answer.REJECT)])
def test_an_expired_state_is_not_given(expires: float, answer: Answer) -> None:
    cached = cached_state(cache_expiration=moment(START + expires))
    assert ask_task(task_run(), state(RUNNING, cache_key="key"), cached=cached).answer is answer


@pytest.mark.behaviour("ORCH-5")
def test_refresh_runs_in_spite_of_a_stored_state() -> None:
    policy = TaskPolicy(refresh_cache=True)
    assert ask_task(task_run(), state(RUNNING, cache_key="key"), policy, cached=cached_state()).answer is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-5")
@pytest.mark.parametrize(("refresh", "answer"), [(True, Answer.ACCEPT), (False, Answer.REJECT)])
def test_the_proposed_state_has_the_last_word_on_refresh(refresh: bool, answer: Answer) -> None:
    policy = TaskPolicy(refresh_cache=not refresh)
    proposed = state(RUNNING, cache_key="key", refresh_cache=refresh)
    assert ask_task(task_run(), proposed, policy, cached=cached_state()).answer is answer


@pytest.mark.behaviour("ORCH-5", "ORCH-22")
@pytest.mark.parametrize("slots", [FULL, ZERO])
def test_a_stored_state_is_given_even_when_there_is_no_slot(slots: SlotAnswer) -> None:
    decision = ask_task(task_run(), state(RUNNING, cache_key="key"), cached=cached_state(), slots=slots)
    assert decision.state is not None
    assert decision.state.name == "Cached"


@pytest.mark.behaviour("ORCH-6")
@pytest.mark.parametrize("entered", [COMPLETED, FAILED, CANCELLED, CRASHED, PAUSED, CANCELLING])
@pytest.mark.parametrize("key", ["key", None])
def test_only_an_accepted_completed_state_with_a_key_is_stored(entered: StateType, key: str | None) -> None:
    decision = ask_task(task_run_in(RUNNING), state(entered, cache_key=key))
    assert decision.answer is Answer.ACCEPT
    assert decision.store_cache == (entered is COMPLETED and key is not None)


@pytest.mark.behaviour("ORCH-6")
def test_a_completed_state_that_is_refused_is_not_stored() -> None:
    for left in (COMPLETED, FAILED):
        decision = ask_task(task_run_in(left), state(COMPLETED, cache_key="key"))
        assert decision.answer is Answer.REJECT
        assert not decision.store_cache


@pytest.mark.behaviour("ORCH-3", "ORCH-6")
def test_a_forced_state_is_not_stored() -> None:
    assert not ask_task(task_run_in(RUNNING), state(COMPLETED, cache_key="key"), force=True).store_cache


@pytest.mark.behaviour("CACHE-5")
@pytest.mark.parametrize("seconds", [60.0, -60.0])
def test_the_expiry_of_a_stored_state_counts_from_its_completion(seconds: float) -> None:
    run = task_run_in(RUNNING)
    policy = TaskPolicy(cache_expiration_seconds=seconds)
    move_task(run, state(COMPLETED, cache_key="key"), policy, now=START + 5)
    assert run.state.state_details.cache_expiration == moment(START + 5 + seconds)
    assert run.state.state_details.cache_key == "key"


def test_an_expiry_that_the_proposed_state_brings_stays() -> None:
    proposed = state(COMPLETED, cache_key="key", cache_expiration=moment(START + 1))
    ask_task(task_run_in(RUNNING), proposed, TaskPolicy(cache_expiration_seconds=60))
    assert proposed.state_details.cache_expiration == moment(START + 1)


# The flow run ---------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("ORCH-17")
@pytest.mark.parametrize("left", LEADING_TO_RUNNING)
def test_a_task_run_of_a_paused_flow_is_given_paused(left: StateType) -> None:
    run = task_run_in(left)
    decision = move_task(run, state(RUNNING), flow_state_type=PAUSED)
    assert decision.answer is Answer.REJECT
    assert (run.state.type, run.state.name) == (PAUSED, "NotReady")


@pytest.mark.behaviour("ORCH-17")
@pytest.mark.parametrize("left", LEADING_TO_RUNNING)
@pytest.mark.parametrize("flow_type", sorted(set(StateType) - {RUNNING, PAUSED}))
def test_a_task_run_of_a_flow_that_does_not_run_is_aborted(left: StateType, flow_type: StateType) -> None:
    decision = ask_task(task_run_in(left), state(RUNNING), flow_state_type=flow_type)
    assert decision.answer is Answer.ABORT
    assert flow_type.value in str(decision.reason)


@pytest.mark.behaviour("ORCH-17")
def test_a_start_whose_flow_was_looked_at_before_is_not_asked_again() -> None:
    assert ask_task(task_run(), state(RUNNING), flow_state_type=None).answer is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-17")
def test_other_moves_do_not_ask_for_the_flow() -> None:
    for entered in (COMPLETED, FAILED, CANCELLED, CRASHED):
        assert ask_task(task_run_in(RUNNING), state(entered), flow_state_type=CANCELLED).answer is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-15")
def test_each_running_state_stores_the_attempt_of_the_flow() -> None:
    run = task_run()
    move_task(run, state(RUNNING), flow_run_count=2)
    assert run.flow_run_count == 2
    move_task(run, state(FAILED), flow_run_count=3)
    assert run.flow_run_count == 2
    move_task(run, state(RUNNING), flow_run_count=3)
    assert run.flow_run_count == 3


@pytest.mark.behaviour("ORCH-15")
def test_a_vanished_flow_run_is_an_error_and_nothing_is_stored() -> None:
    run = task_run()
    before = fields_of(run)
    with pytest.raises(ObjectNotFound, match="flow run .* does not exist"):
        move_task(run, state(RUNNING), flow_state_type=None, flow_run_found=False)
    assert fields_of(run) == before


# Slots ----------------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("ORCH-22")
@pytest.mark.parametrize("left", [left for left in LEADING_TO_RUNNING if left is not RUNNING])
def test_a_run_without_a_slot_waits(left: StateType) -> None:
    decision = ask_task(task_run_in(left), state(RUNNING), slots=FULL)
    assert decision.answer is Answer.WAIT
    assert decision.seconds == SLOT_WAIT_SECONDS == 30
    assert "'db'" in str(decision.reason)
    assert not decision.release_slots


@pytest.mark.behaviour("ORCH-22")
def test_a_limit_of_zero_aborts() -> None:
    decision = ask_task(task_run(), state(RUNNING), slots=ZERO)
    assert decision.answer is Answer.ABORT
    assert "'db'" in str(decision.reason)


@pytest.mark.behaviour("ORCH-22")
def test_a_granted_slot_is_kept_by_the_run_that_starts() -> None:
    decision = ask_task(task_run(), state(RUNNING), slots=SLOTS_GRANTED)
    assert decision.answer is Answer.ACCEPT
    assert not decision.release_slots


@pytest.mark.behaviour("ORCH-22")
@pytest.mark.parametrize("slots", [FULL, ZERO, SLOTS_GRANTED])
def test_a_running_run_that_starts_again_needs_no_further_slot(slots: SlotAnswer) -> None:
    run = task_run_in(RUNNING)
    run.holds_slots = True
    decision = ask_task(run, state(RUNNING), slots=slots)
    assert decision.answer is Answer.ACCEPT
    assert not decision.release_slots


@pytest.mark.behaviour("ORCH-23")
@pytest.mark.parametrize("left", [RUNNING, CANCELLING])
@pytest.mark.parametrize("entered", [SCHEDULED, PENDING, COMPLETED, FAILED, CANCELLED, CRASHED, PAUSED, CANCELLING])
def test_slots_go_back_when_running_and_cancelling_are_left(left: StateType, entered: StateType) -> None:
    run = task_run_in(left)
    run.holds_slots = True
    decision = move_task(run, state(entered))
    assert decision.release_slots == (run.state.type not in (RUNNING, CANCELLING))


@pytest.mark.behaviour("ORCH-23")
def test_slots_go_back_when_a_run_is_given_a_retry_instead_of_its_failure() -> None:
    run = task_run_in(RUNNING)
    run.holds_slots = True
    decision = ask_task(run, state(FAILED), TaskPolicy(retries=1))
    assert decision.answer is Answer.REJECT
    assert decision.release_slots


@pytest.mark.behaviour("ORCH-23")
def test_slots_stay_when_a_running_run_is_aborted() -> None:
    run = task_run_in(RUNNING)
    run.holds_slots = True
    decision = ask_task(run, state(RUNNING), flow_state_type=CANCELLED)
    assert decision.answer is Answer.ABORT
    assert not decision.release_slots


@pytest.mark.behaviour("ORCH-3", "ORCH-23")
def test_slots_granted_for_a_start_that_does_not_come_about_go_back() -> None:
    waiting = ask_task(task_run_in(SCHEDULED, scheduled_time=moment(START + 9)), state(RUNNING), slots=SLOTS_GRANTED)
    aborted = ask_task(task_run(), state(RUNNING), slots=SLOTS_GRANTED, flow_state_type=CANCELLED)
    paused = ask_task(task_run(), state(RUNNING), slots=SLOTS_GRANTED, flow_state_type=PAUSED)
    cached = ask_task(task_run(), state(RUNNING, cache_key="key"), slots=SLOTS_GRANTED, cached=cached_state())
    outdated = ask_task(task_run(), state(RUNNING), slots=SLOTS_GRANTED, execution=0)
    assert waiting.answer is Answer.WAIT
    assert [d.release_slots for d in (waiting, aborted, paused, cached, outdated)] == [True] * 5


@pytest.mark.behaviour("ORCH-3", "ORCH-23")
def test_a_forced_move_gives_slots_back_as_well() -> None:
    run = task_run_in(RUNNING)
    run.holds_slots = True
    assert ask_task(run, state(CRASHED), force=True).release_slots
    assert not ask_task(run, state(CANCELLING), force=True).release_slots


@pytest.mark.behaviour("ORCH-23")
def test_a_run_that_never_took_slots_gives_none_back() -> None:
    assert not ask_task(task_run_in(RUNNING), state(COMPLETED)).release_slots


# Retries --------------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("ORCH-8", "ORCH-9")
def test_a_failing_run_goes_through_a_retry_for_each_that_it_has() -> None:
    states = [state(RUNNING), state(FAILED)] * 3
    assert names(task_run(), *states, policy=TaskPolicy(retries=2)) == [
        "Pending", "Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Failed",
    ]  # fmt: skip


@pytest.mark.behaviour("ORCH-8")
def test_a_retry_that_succeeds_is_the_last() -> None:
    states = [state(RUNNING), state(FAILED), state(RUNNING), state(COMPLETED)]
    expected = ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]
    assert names(task_run(), *states, policy=TaskPolicy(retries=5)) == expected


@pytest.mark.behaviour("ORCH-8", "TASK-RETRY-10")
def test_the_state_of_a_run_that_awaits_its_retry_keeps_message_and_data_of_the_failure() -> None:
    run = task_run_in(RUNNING)
    error = ValueError("bad")
    failure = state(FAILED, "TimedOut", data=error, message="ValueError: bad")
    decision = move_task(run, failure, TaskPolicy(retries=1, retry_delays=(4.0,)), now=START + 3)
    assert decision.answer is Answer.REJECT
    assert (run.state.type, run.state.name, run.state.message) == (SCHEDULED, "AwaitingRetry", "ValueError: bad")
    assert run.state.data is error
    assert run.state.timestamp == moment(START + 3)
    assert run.state.state_details.scheduled_time == moment(START + 7)


@pytest.mark.behaviour("ORCH-8")
def test_a_retry_without_delay_is_due_at_once() -> None:
    run = task_run_in(RUNNING)
    # A time that microseconds cannot say exactly.
    now = START + 1 / 3
    move_task(run, state(FAILED), TaskPolicy(retries=1), now=now)
    assert ask_task(run, state(RUNNING), now=now).answer is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-4", "ORCH-8")
def test_a_retry_with_a_delay_does_not_start_before_it_is_due() -> None:
    run = task_run_in(RUNNING)
    move_task(run, state(FAILED), TaskPolicy(retries=1, retry_delays=(10.0,)))
    assert ask_task(run, state(RUNNING), now=START + 4).seconds == pytest.approx(6)
    assert ask_task(run, state(RUNNING), now=START + 10).answer is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-8")
@pytest.mark.parametrize("entered", [COMPLETED, CRASHED, CANCELLED])
def test_only_failures_are_retried(entered: StateType) -> None:
    assert ask_task(task_run_in(RUNNING), state(entered), TaskPolicy(retries=3)).answer is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-8")
@pytest.mark.parametrize("left", [PENDING, SCHEDULED, PAUSED, CANCELLING])
def test_a_run_that_fails_without_running_is_not_retried(left: StateType) -> None:
    assert ask_task(task_run_in(left), state(FAILED), TaskPolicy(retries=3)).answer is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-3", "ORCH-8")
def test_a_forced_failure_is_not_retried() -> None:
    assert ask_task(task_run_in(RUNNING), state(FAILED), TaskPolicy(retries=3), force=True).answer is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-8", "TASK-RETRY-5")
def test_the_delay_follows_the_attempt_and_the_last_one_repeats() -> None:
    def delays(*given: float) -> list[float]:
        policy = TaskPolicy(retries=4, retry_delays=given)
        return [retry_delay_seconds(policy, attempt, 0.9) for attempt in (1, 2, 3, 4)]

    assert delays() == [0, 0, 0, 0]
    assert delays(5) == [5, 5, 5, 5]
    assert delays(1, 2, 4) == [1, 2, 4, 4]


def test_a_delay_past_the_calendars_end_is_cut_there() -> None:
    run = task_run_in(RUNNING)
    move_task(run, state(FAILED), TaskPolicy(retries=1, retry_delays=(1e300,)))
    assert run.state.state_details.scheduled_time == moment(253402214400)


@pytest.mark.behaviour("TASK-RETRY-8")
@pytest.mark.parametrize("factor", [0.0, 0.1, 1.0, 2.5, 30.0])
@pytest.mark.parametrize("base", [0.0, 10.0])
def test_jitter_never_passes_its_bound_and_keeps_the_mean(factor: float, base: float) -> None:
    count = 20_000
    waits = [varied(base, factor, (number + 0.5) / count) for number in range(count)]
    assert min(waits) >= max(0, base * (1 - factor))
    assert max(waits) <= base * (1 + factor) * (1 + 1e-12)
    assert statistics.fmean(waits) == pytest.approx(base, rel=0.01)


@pytest.mark.behaviour("ORCH-8", "TASK-RETRY-8")
def test_jitter_applies_to_every_delay_of_a_list() -> None:
    policy = TaskPolicy(retries=3, retry_delays=(1.0, 100.0), retry_jitter_factor=0.5)
    assert [retry_delay_seconds(policy, attempt, 0.0) for attempt in (1, 2, 3)] == [0.5, 50, 50]
    run = task_run_in(RUNNING)
    move_task(run, state(FAILED), policy, jitter=0.75)
    assert run.state.state_details.scheduled_time == moment(START + 1.25)


# Running again --------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("ORCH-9")
def test_the_first_run_is_called_running_whatever_it_waited_for() -> None:
    for left in (PENDING, SCHEDULED):
        run = task_run_in(left)
        move_task(run, state(RUNNING))
        assert run.state.name == "Running"


@pytest.mark.behaviour("ORCH-9")
def test_a_run_that_starts_again_without_awaiting_a_retry_is_called_rerunning() -> None:
    for left in (RUNNING, PAUSED):
        run = task_run_in(left)
        move_task(run, state(RUNNING))
        assert (run.state.type, run.state.name) == (RUNNING, "Rerunning")


@pytest.mark.behaviour("ORCH-9")
def test_a_worker_lost_in_a_later_attempt_of_the_flow_makes_it_rerunning_too() -> None:
    run = task_run_in(RUNNING)
    move_task(run, state(RUNNING), flow_run_count=2)
    assert run.state.name == "Rerunning"


@pytest.mark.behaviour("ORCH-12", "ORCH-13")
@pytest.mark.parametrize("left", sorted(FINAL_TYPES))
@pytest.mark.parametrize(("attempt", "name"), [(1, "Rerunning"), (2, "Retrying")])
def test_a_finished_run_that_starts_again_is_named_by_the_attempt_of_the_flow(
    left: StateType, attempt: int, name: str
) -> None:
    run = task_run_in(left)
    move_task(run, state(RUNNING), flow_run_count=attempt)
    assert (run.state.name, run.run_count, run.flow_run_count, run.execution) == (name, 1, attempt, 2)


@pytest.mark.behaviour("ORCH-12")
def test_a_finished_run_that_waits_before_it_starts_again_is_named_alike() -> None:
    run = task_run_in(FAILED)
    move_task(run, state(PENDING), flow_run_count=2)
    assert run.run_count == 0
    move_task(run, state(RUNNING), flow_run_count=2)
    assert (run.state.name, run.run_count, run.execution) == ("Retrying", 1, 2)


@pytest.mark.behaviour("ORCH-12", "ORCH-13")
def test_a_run_that_starts_again_has_all_its_retries_anew() -> None:
    run = task_run()
    policy = TaskPolicy(retries=1)
    attempts = [state(RUNNING), state(FAILED)] * 2
    first = names(run, *attempts, policy=policy)
    assert first == ["Pending", "Running", "AwaitingRetry", "Retrying", "Failed"]
    again = names(run, *[state(RUNNING), state(FAILED)] * 2, policy=policy, flow_run_count=2)
    assert again == ["Failed", "Retrying", "AwaitingRetry", "Retrying", "Failed"]
    assert (run.run_count, run.execution, run.state._ordinal) == (2, 2, 9)


@pytest.mark.behaviour("ORCH-12")
def test_a_refused_start_renews_nothing() -> None:
    run = task_run_in(FAILED)
    before = fields_of(run)
    move_task(run, state(RUNNING), flow_state_type=CANCELLED)
    move_task(run, state(RUNNING), slots=FULL)
    assert fields_of(run) == before
    assert run.run_count == 1


@pytest.mark.behaviour("ORCH-11")
@pytest.mark.parametrize("entered", [SCHEDULED, PENDING, RUNNING])
@pytest.mark.parametrize(
    ("data", "answer"), [(StoredRecord(), Answer.REJECT), (LostRecord(), Answer.ACCEPT), (None, Answer.ACCEPT)]
)
def test_a_completed_run_runs_again_only_if_its_result_is_lost(entered: StateType, data: Any, answer: Answer) -> None:
    run = task_run_in(COMPLETED, data=data)
    decision = ask_task(run, state(entered))
    assert decision.answer is answer
    if answer is Answer.REJECT:
        assert decision.state is run.state


@pytest.mark.behaviour("ORCH-11")
def test_a_value_that_merely_looks_like_a_stored_record_is_none() -> None:
    class Lookalike:
        def __init__(self) -> None:
            self.stored = True

    assert ask_task(task_run_in(COMPLETED, data=Lookalike()), state(RUNNING)).answer is Answer.ACCEPT


@pytest.mark.behaviour("ORCH-11")
def test_a_failed_run_with_a_stored_exception_runs_again() -> None:
    assert ask_task(task_run_in(FAILED, data=StoredRecord()), state(RUNNING)).answer is Answer.ACCEPT


# Executions -----------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("D1", "I9")
@pytest.mark.parametrize("entered", list(StateType))
@pytest.mark.parametrize("force", [False, True])
def test_a_proposal_from_an_older_execution_changes_nothing(entered: StateType, force: bool) -> None:
    run = task_run_in(FAILED)
    move_task(run, state(RUNNING))
    assert run.execution == 2
    decision = ask_task(run, state(entered), execution=1, force=force)
    assert decision.answer is Answer.ABORT
    assert "execution 1" in str(decision.reason)
    assert "execution 2" in str(decision.reason)


@pytest.mark.behaviour("D1", "I9")
@pytest.mark.parametrize("entered", list(StateType))
@pytest.mark.parametrize("force", [False, True])
def test_a_finished_execution_is_neither_started_nor_ended_again_from_within(entered: StateType, force: bool) -> None:
    run = task_run_in(CRASHED)
    decision = ask_task(run, state(entered, cache_key="key"), execution=1, force=force, cached=cached_state())
    assert not decision.records
    assert (decision.answer is Answer.ABORT) == (entered in (CRASHED, PAUSED, CANCELLING))


@pytest.mark.behaviour("D1")
def test_a_proposal_from_the_present_execution_goes_on() -> None:
    run = task_run_in(RUNNING)
    assert ask_task(run, state(COMPLETED), execution=1).answer is Answer.ACCEPT


# Answers --------------------------------------------------------------------------------------------------------------


def test_an_accepted_state_comes_back_itself_with_id_and_time() -> None:
    run = task_run()
    proposed = state(RUNNING)
    decision = move_task(run, proposed, now=START + 2.5)
    assert decision.state is proposed is run.state
    assert proposed.timestamp == moment(START + 2.5)
    group = proposed._group
    assert group is not None
    assert proposed.id.int == group.run_id(1).int | 2


def test_a_recorded_state_that_is_proposed_again_stays_as_it_was() -> None:
    done = task_run_in(COMPLETED, data="value", cache_key="key").state
    before = content_of(done)
    run = task_run_in(RUNNING)
    decision = move_task(run, done, now=START + 2)
    assert decision.answer is Answer.ACCEPT
    assert run.state is not done
    assert (run.state.type, run.state.data, run.state.id != done.id) == (COMPLETED, "value", True)
    assert content_of(done) == before


def test_a_decision_says_itself() -> None:
    assert repr(ask_task(task_run(), state(RUNNING))) == "Decision(ACCEPT, Running())"
    assert repr(ask_task(task_run(), state(RUNNING), slots=FULL)).startswith("Decision(WAIT, 30 s, ")
