"""What a task run may do: the rules, the table that names them for each move, and the function that asks it.

Order of the rules: ORCH-1. A rule's docstring names the line that it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from core_engine.exceptions import ObjectNotFound
from core_engine.orchestration.common_rules import (
    abort_after_end,
    answer_if_over,
    copy_of,
    copy_scheduled_time,
    illegal_transition,
    keep_stored_result,
    new_state,
    open_decision,
    reject_with_retry,
    stay_cancelling,
    stay_final,
    wait_until_scheduled,
)
from core_engine.orchestration.decisions import ACCEPT, Decision
from core_engine.orchestration.facts import SlotOutcome, TaskFacts
from core_engine.orchestration.progress import TaskRunProgress
from core_engine.orchestration.state_names import AWAITING_RETRY, CACHED, NOT_READY, RERUNNING, RETRYING
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
    StateDetails,
    StateType,
)

SLOT_WAIT_SECONDS = 30.0

TaskRule = Callable[[Decision, TaskRunProgress, TaskFacts, TaskPolicy], None]


def use_cached_state(decision: Decision, progress: TaskRunProgress, facts: TaskFacts, policy: TaskPolicy) -> None:
    """ORCH-5: a valid stored state is given instead of running."""
    cached = facts.cached
    if cached is None or decision.proposed._details is None:
        return
    details = decision.proposed._details
    refresh = policy.refresh_cache if details.refresh_cache is None else details.refresh_cache
    if details.cache_key is None or refresh or _is_expired(cached, facts.now):
        return
    given = copy_of(cached, facts.now, name=CACHED)
    given._details = replace(given._details or StateDetails(cache_key=details.cache_key), cached_from=_run_of(cached))
    decision.reject(given, "A result is stored for the run's cache key.")


def _run_of(recorded: State) -> UUID | None:
    """The task run that a state belongs to; ``state_details`` would fill it in, and nothing here changes a state."""
    if recorded._details is not None and recorded._details.task_run_id is not None:
        return recorded._details.task_run_id
    return None if recorded._group is None else recorded._group.run_id(recorded._index)


def _is_expired(cached: State, now: float) -> bool:
    details = cached._details
    if details is None or details.cache_expiration is None:
        return False
    return details.cache_expiration.timestamp() <= now


def require_running_flow(decision: Decision, progress: TaskRunProgress, facts: TaskFacts, policy: TaskPolicy) -> None:
    """ORCH-15, 17: a task run starts only while its flow run exists and is RUNNING."""
    flow_type = facts.flow_state_type
    if flow_type is RUNNING:
        return
    if not facts.flow_run_found:
        raise ObjectNotFound("The flow run of this task run does not exist any more, so the task run cannot start.")
    if flow_type is PAUSED:
        message = "The flow run is paused. The task run can start when it is resumed."
        decision.reject(new_state(PAUSED, facts, NOT_READY, message), message)
    elif flow_type is not None:
        decision.abort(f"The flow run is {flow_type.value}, and task runs start only while it is RUNNING.")


def require_slots(decision: Decision, progress: TaskRunProgress, facts: TaskFacts, policy: TaskPolicy) -> None:
    """ORCH-22: a run with limited tags starts only with a slot of each."""
    slots = facts.slots
    if slots is None or slots.outcome is SlotOutcome.GRANTED:
        return
    if slots.outcome is SlotOutcome.ZERO:
        decision.abort(f"The concurrency limit of tag {slots.tag!r} is 0, so no run with this tag can start.")
    else:
        decision.wait(SLOT_WAIT_SECONDS, f"All concurrency slots of tag {slots.tag!r} are taken.")


def retry_failed(decision: Decision, progress: TaskRunProgress, facts: TaskFacts, policy: TaskPolicy) -> None:
    """ORCH-8: a failed run with retries left is tried again."""
    if progress.run_count > policy.retries:
        return
    delay = retry_delay_seconds(policy, progress.run_count, facts.jitter)
    reason = f"The run failed and is tried again (retry {progress.run_count} of {policy.retries})."
    reject_with_retry(decision, facts, delay, reason)


def retry_delay_seconds(policy: TaskPolicy, attempt: int, jitter: float) -> float:
    """Returns how long to wait before a retry.

    Parameters:
        policy: Has the delays; the last one repeats.
        attempt: How many attempts failed so far, from 1.
        jitter: A uniform random number in [0, 1).
    """
    delays = policy.retry_delays
    if not delays:
        return 0.0
    delay = delays[min(attempt, len(delays)) - 1]
    factor = policy.retry_jitter_factor
    return delay if factor is None else varied(delay, factor, jitter)


def varied(base: float, factor: float, uniform: float) -> float:
    """Varies a delay at random: never above base * (1 + factor), never below 0, and `base` on average (TASK-RETRY-8).

    Up to a factor of 1 it is uniform within base * (1 ± factor). Beyond, that would become negative, and it is
    base * (1 + factor) * uniform ** factor, whose average is `base` as well; both are the same at 1.
    """
    if factor <= 1.0:
        return base * (1.0 + factor * (2.0 * uniform - 1.0))
    return base * (1.0 + factor) * float(uniform**factor)


def name_rerun(decision: Decision, progress: TaskRunProgress, facts: TaskFacts, policy: TaskPolicy) -> None:
    """ORCH-9, 12: RUNNING of a run that ran before says why it runs again."""
    if progress.start_time is None:
        return
    current = progress.state
    is_new_execution = progress.run_count == 0 or current._type in FINAL_TYPES
    if current._name == AWAITING_RETRY or (is_new_execution and facts.flow_run_count > progress.flow_run_count):
        decision.proposed._name = RETRYING
    else:
        decision.proposed._name = RERUNNING


def store_cache(decision: Decision, progress: TaskRunProgress, facts: TaskFacts, policy: TaskPolicy) -> None:
    """ORCH-6, CACHE-5: a completed state with a cache key is kept for others; its expiry counts from now."""
    details = decision.proposed._details
    if details is None or details.cache_key is None:
        return
    decision.store_cache = True
    if details.cache_expiration is None and policy.cache_expiration_seconds is not None:
        expires = datetime.fromtimestamp(facts.now + policy.cache_expiration_seconds, UTC)
        decision.proposed._details = replace(details, cache_expiration=expires)


# Every move that a task run may propose, and the rules that it meets, in the order of ORCH-1. A move that is not here
# is illegal: nothing completes that is not running. Slots are given back after every move, whatever the table says.
TASK_RULES: dict[tuple[StateType, StateType], tuple[TaskRule, ...]] = {
    (SCHEDULED, SCHEDULED): (),
    (SCHEDULED, PENDING): (copy_scheduled_time,),
    (SCHEDULED, RUNNING): (use_cached_state, require_running_flow, require_slots, wait_until_scheduled, name_rerun),
    (SCHEDULED, FAILED): (),
    (SCHEDULED, CANCELLED): (),
    (SCHEDULED, CRASHED): (),
    (SCHEDULED, PAUSED): (),
    (SCHEDULED, CANCELLING): (),
    #
    (PENDING, SCHEDULED): (),
    (PENDING, PENDING): (),
    (PENDING, RUNNING): (use_cached_state, require_running_flow, require_slots, wait_until_scheduled, name_rerun),
    (PENDING, FAILED): (),
    (PENDING, CANCELLED): (),
    (PENDING, CRASHED): (),
    (PENDING, PAUSED): (),
    (PENDING, CANCELLING): (),
    # A run that is started again while it runs (its worker was lost) keeps its slots and takes no more.
    (RUNNING, SCHEDULED): (),
    (RUNNING, PENDING): (),
    (RUNNING, RUNNING): (use_cached_state, require_running_flow, name_rerun),
    (RUNNING, COMPLETED): (store_cache,),
    (RUNNING, FAILED): (retry_failed,),
    (RUNNING, CANCELLED): (),
    (RUNNING, CRASHED): (),
    (RUNNING, PAUSED): (),
    (RUNNING, CANCELLING): (),
    #
    (PAUSED, SCHEDULED): (),
    (PAUSED, PENDING): (),
    (PAUSED, RUNNING): (use_cached_state, require_running_flow, require_slots, name_rerun),
    (PAUSED, FAILED): (),
    (PAUSED, CANCELLED): (),
    (PAUSED, CRASHED): (),
    (PAUSED, PAUSED): (),
    (PAUSED, CANCELLING): (),
    # A run may end by itself before its cancellation reaches it; it is not tried again then.
    (CANCELLING, SCHEDULED): (stay_cancelling,),
    (CANCELLING, PENDING): (stay_cancelling,),
    (CANCELLING, RUNNING): (stay_cancelling,),
    (CANCELLING, COMPLETED): (store_cache,),
    (CANCELLING, FAILED): (),
    (CANCELLING, CANCELLED): (),
    (CANCELLING, CRASHED): (),
    (CANCELLING, PAUSED): (stay_cancelling,),
    (CANCELLING, CANCELLING): (stay_cancelling,),
    # Leaving a final state for one that is not final opens the next execution.
    (COMPLETED, SCHEDULED): (keep_stored_result,),
    (COMPLETED, PENDING): (keep_stored_result,),
    (COMPLETED, RUNNING): (use_cached_state, keep_stored_result, require_running_flow, require_slots, name_rerun),
    (COMPLETED, COMPLETED): (stay_final,),
    (COMPLETED, FAILED): (stay_final,),
    (COMPLETED, CANCELLED): (stay_final,),
    (COMPLETED, CRASHED): (abort_after_end,),
    (COMPLETED, PAUSED): (abort_after_end,),
    (COMPLETED, CANCELLING): (abort_after_end,),
    #
    (FAILED, SCHEDULED): (),
    (FAILED, PENDING): (),
    (FAILED, RUNNING): (use_cached_state, require_running_flow, require_slots, name_rerun),
    (FAILED, COMPLETED): (stay_final,),
    (FAILED, FAILED): (stay_final,),
    (FAILED, CANCELLED): (stay_final,),
    (FAILED, CRASHED): (abort_after_end,),
    (FAILED, PAUSED): (abort_after_end,),
    (FAILED, CANCELLING): (abort_after_end,),
    #
    (CANCELLED, SCHEDULED): (),
    (CANCELLED, PENDING): (),
    (CANCELLED, RUNNING): (use_cached_state, require_running_flow, require_slots, name_rerun),
    (CANCELLED, COMPLETED): (stay_final,),
    (CANCELLED, FAILED): (stay_final,),
    (CANCELLED, CANCELLED): (stay_final,),
    (CANCELLED, CRASHED): (abort_after_end,),
    (CANCELLED, PAUSED): (abort_after_end,),
    (CANCELLED, CANCELLING): (abort_after_end,),
    #
    (CRASHED, SCHEDULED): (),
    (CRASHED, PENDING): (),
    (CRASHED, RUNNING): (use_cached_state, require_running_flow, require_slots, name_rerun),
    (CRASHED, COMPLETED): (stay_final,),
    (CRASHED, FAILED): (stay_final,),
    (CRASHED, CANCELLED): (stay_final,),
    (CRASHED, CRASHED): (abort_after_end,),
    (CRASHED, PAUSED): (abort_after_end,),
    (CRASHED, CANCELLING): (abort_after_end,),
}


def decide_task_run(
    progress: TaskRunProgress, proposed: State, policy: TaskPolicy, facts: TaskFacts, force: bool = False
) -> Decision:
    """Decides what comes of a state that is proposed for a task run. Changes the run in nothing.

    Parameters:
        progress: Where the run stands.
        proposed: The state that it wants to be in. On ACCEPT the same object comes back in the decision, completed,
            unless it was recorded before: then a copy does.
        policy: What the task says about retries and caching.
        facts: What else is known.
        force: Skips the table (ORCH-3); slots are given back all the same, and an older execution changes nothing.

    Returns:
        The decision. If it ``records``, pass its state to ``record_task_state`` together with ``facts.flow_run_count``.

    Raises:
        IllegalTransition: The table does not have this move.
        ObjectNotFound: The run is to start, and its flow run does not exist any more.
    """
    decision = open_decision(progress, proposed, facts)
    execution = facts.execution
    is_over = execution is not None and answer_if_over(decision, progress, execution)
    if not is_over and not force:
        rules = TASK_RULES.get((progress.state._type, proposed._type))
        if rules is None:
            raise illegal_transition(progress, proposed)
        for rule in rules:
            rule(decision, progress, facts, policy)
            if decision.answer is not ACCEPT:
                break
    slots = facts.slots
    if progress.holds_slots or (slots is not None and slots.outcome is SlotOutcome.GRANTED):
        decision.release_slots = not _keeps_slots(decision)
    return decision


def _keeps_slots(decision: Decision) -> bool:
    """ORCH-23: slots belong to runs that are RUNNING or CANCELLING; after WAIT and ABORT that is the current state."""
    state = decision.state or decision.current
    return state is not None and (state._type is RUNNING or state._type is CANCELLING)
