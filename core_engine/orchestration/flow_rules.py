"""What a flow run may do: the rules, the table that names them for each move, and the function that asks it.

Order of the rules: ORCH-2. A rule's docstring names the line that it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from core_engine.orchestration.common_rules import (
    abort_after_end,
    answer_if_over,
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
from core_engine.orchestration.facts import FlowFacts
from core_engine.orchestration.progress import FlowRunProgress
from core_engine.schemas.states import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    CRASHED,
    FAILED,
    PAUSED,
    PENDING,
    RUNNING,
    SCHEDULED,
    State,
    StateDetails,
    StateType,
)

FlowRule = Callable[[Decision, FlowRunProgress, FlowFacts], None]


def require_deployment(decision: Decision, progress: FlowRunProgress, facts: FlowFacts) -> None:
    """ORCH-14: only a flow that another process can load is scheduled anew."""
    if not progress.has_deployment:
        decision.abort("The flow run has no deployment, so no process could load its flow and run it again.")


def cancel_without_process(decision: Decision, progress: FlowRunProgress, facts: FlowFacts) -> None:
    """ORCH-21: a scheduled run that no process looks after is cancelled at once, since none could confirm it."""
    if not facts.has_process:
        message = "The flow run was cancelled before it started."
        decision.reject(new_state(CANCELLED, facts, None, message), message)


def abort_second_submission(decision: Decision, progress: FlowRunProgress, facts: FlowFacts) -> None:
    """ORCH-16: a run that was submitted is not submitted again."""
    assert decision.current is not None
    decision.abort(
        f"The flow run is {decision.current._type.value}, so it was submitted before; it is not submitted twice."
    )


def abort_pause_before_start(decision: Decision, progress: FlowRunProgress, facts: FlowFacts) -> None:
    """ORCH-18: what has no state cannot be paused."""
    decision.abort("The flow run has no state yet, so it cannot be paused.")


def stay_unpaused(decision: Decision, progress: FlowRunProgress, facts: FlowFacts) -> None:
    """ORCH-18: only a running flow is paused."""
    assert decision.current is not None
    decision.stay(f"The flow run is {decision.current._type.value}, and only a RUNNING one can be paused.")


def pause(decision: Decision, progress: FlowRunProgress, facts: FlowFacts) -> None:
    """ORCH-18: a key pauses a run once; a pause in which the process leaves needs another one to go on."""
    details = decision.proposed._details or StateDetails()
    if details.pause_key is not None and details.pause_key in progress.pause_keys:
        decision.stay(f"The flow run was paused under the key {details.pause_key!r} before.")
    elif details.pause_reschedule and progress.is_subflow:
        decision.abort("A subflow runs in its parent's process, so it cannot be paused with reschedule=True.")
    elif details.pause_reschedule and not progress.has_deployment:
        decision.abort("Pausing with reschedule=True needs a flow run with a deployment, from which it can go on.")
    elif details.pause_key is None:
        decision.proposed._details = replace(details, pause_key=facts.new_pause_key)


def stay_paused(decision: Decision, progress: FlowRunProgress, facts: FlowFacts) -> None:
    """ORCH-19: from a pause a run goes on or ends, nothing else."""
    decision.stay(f"The flow run is paused. It can go on or end, but not become {decision.proposed._type.value}.")


def resume(decision: Decision, progress: FlowRunProgress, facts: FlowFacts) -> None:
    """ORCH-19: going on is possible until the deadline, and where somebody can."""
    assert decision.current is not None
    details = decision.current._details or StateDetails()
    if details.pause_reschedule and not progress.has_deployment:
        decision.stay("The flow run left its process and has no deployment from which it could go on.")
    elif details.pause_timeout is not None and details.pause_timeout.timestamp() < facts.now:
        message = f"The flow run was paused and never resumed before the deadline, {details.pause_timeout.isoformat()}."
        decision.reject(new_state(FAILED, facts, None, message), message)


def retry_failed(decision: Decision, progress: FlowRunProgress, facts: FlowFacts) -> None:
    """ORCH-7: a failed run with retries left is tried again."""
    retries = progress.retries or 0
    if progress.run_count <= retries:
        reason = f"The flow run failed and is tried again (retry {progress.run_count} of {retries})."
        reject_with_retry(decision, facts, progress.retry_delay_seconds or 0.0, reason)


# Every move that a flow run may propose, and the rules that it meets, in the order of ORCH-2. A move that is not here
# is illegal: nothing completes that did not run, and a run begins as waiting or, never to start, as failed.
FLOW_RULES: dict[tuple[StateType | None, StateType], tuple[FlowRule, ...]] = {
    (None, SCHEDULED): (),
    (None, PENDING): (),
    (None, FAILED): (),
    (None, PAUSED): (abort_pause_before_start,),
    #
    (SCHEDULED, SCHEDULED): (),
    (SCHEDULED, PENDING): (copy_scheduled_time,),
    (SCHEDULED, RUNNING): (wait_until_scheduled,),
    (SCHEDULED, FAILED): (),
    (SCHEDULED, CANCELLED): (),
    (SCHEDULED, CRASHED): (),
    (SCHEDULED, PAUSED): (stay_unpaused,),
    (SCHEDULED, CANCELLING): (cancel_without_process,),
    #
    (PENDING, SCHEDULED): (),
    (PENDING, PENDING): (abort_second_submission,),
    (PENDING, RUNNING): (wait_until_scheduled,),
    (PENDING, FAILED): (),
    (PENDING, CANCELLED): (),
    (PENDING, CRASHED): (),
    (PENDING, PAUSED): (stay_unpaused,),
    (PENDING, CANCELLING): (),
    #
    (RUNNING, SCHEDULED): (),
    (RUNNING, PENDING): (abort_second_submission,),
    (RUNNING, RUNNING): (),
    (RUNNING, COMPLETED): (),
    (RUNNING, FAILED): (retry_failed,),
    (RUNNING, CANCELLED): (),
    (RUNNING, CRASHED): (),
    (RUNNING, PAUSED): (pause,),
    (RUNNING, CANCELLING): (),
    #
    (PAUSED, SCHEDULED): (resume,),
    (PAUSED, PENDING): (stay_paused,),
    (PAUSED, RUNNING): (resume,),
    (PAUSED, COMPLETED): (),
    (PAUSED, FAILED): (),
    (PAUSED, CANCELLED): (),
    (PAUSED, CRASHED): (),
    (PAUSED, PAUSED): (stay_unpaused,),
    (PAUSED, CANCELLING): (stay_paused,),
    # A cancellation that has begun can only be completed.
    (CANCELLING, SCHEDULED): (stay_cancelling,),
    (CANCELLING, PENDING): (abort_second_submission,),
    (CANCELLING, RUNNING): (stay_cancelling,),
    (CANCELLING, COMPLETED): (stay_cancelling,),
    (CANCELLING, FAILED): (stay_cancelling,),
    (CANCELLING, CANCELLED): (),
    (CANCELLING, CRASHED): (stay_cancelling,),
    (CANCELLING, PAUSED): (stay_cancelling,),
    (CANCELLING, CANCELLING): (stay_cancelling,),
    # Leaving a final state opens the next execution. A cancelled run is not run again.
    (CANCELLED, SCHEDULED): (require_deployment, stay_final),
    (CANCELLED, PENDING): (abort_second_submission,),
    (CANCELLED, RUNNING): (stay_final,),
    (CANCELLED, COMPLETED): (stay_final,),
    (CANCELLED, FAILED): (stay_final,),
    (CANCELLED, CANCELLED): (stay_final,),
    (CANCELLED, CRASHED): (abort_after_end,),
    (CANCELLED, PAUSED): (abort_after_end,),
    (CANCELLED, CANCELLING): (abort_after_end,),
    #
    (COMPLETED, SCHEDULED): (keep_stored_result, require_deployment),
    (COMPLETED, PENDING): (keep_stored_result,),
    (COMPLETED, RUNNING): (keep_stored_result,),
    (COMPLETED, COMPLETED): (stay_final,),
    (COMPLETED, FAILED): (stay_final,),
    (COMPLETED, CANCELLED): (stay_final,),
    (COMPLETED, CRASHED): (abort_after_end,),
    (COMPLETED, PAUSED): (abort_after_end,),
    (COMPLETED, CANCELLING): (abort_after_end,),
    #
    (FAILED, SCHEDULED): (require_deployment,),
    (FAILED, PENDING): (),
    (FAILED, RUNNING): (),
    (FAILED, COMPLETED): (stay_final,),
    (FAILED, FAILED): (stay_final,),
    (FAILED, CANCELLED): (stay_final,),
    (FAILED, CRASHED): (abort_after_end,),
    (FAILED, PAUSED): (abort_after_end,),
    (FAILED, CANCELLING): (abort_after_end,),
    #
    (CRASHED, SCHEDULED): (require_deployment,),
    (CRASHED, PENDING): (),
    (CRASHED, RUNNING): (),
    (CRASHED, COMPLETED): (stay_final,),
    (CRASHED, FAILED): (stay_final,),
    (CRASHED, CANCELLED): (stay_final,),
    (CRASHED, CRASHED): (abort_after_end,),
    (CRASHED, PAUSED): (abort_after_end,),
    (CRASHED, CANCELLING): (abort_after_end,),
}


def decide_flow_run(progress: FlowRunProgress, proposed: State, facts: FlowFacts, force: bool = False) -> Decision:
    """Decides what comes of a state that is proposed for a flow run. Changes the run in nothing.

    Parameters:
        progress: Where the run stands, with its retries.
        proposed: The state that it wants to be in. On ACCEPT the same object comes back in the decision, completed,
            unless it was recorded before: then a copy does.
        facts: What else is known.
        force: Skips the table (ORCH-3); an older execution changes nothing all the same.

    Returns:
        The decision. If it ``records``, pass its state to ``record_flow_state``.

    Raises:
        IllegalTransition: The table does not have this move.
    """
    decision = open_decision(progress, proposed, facts)
    execution = facts.execution
    if (execution is not None and answer_if_over(decision, progress, execution)) or force:
        return decision
    current = progress.state
    rules = FLOW_RULES.get((None if current is None else current._type, proposed._type))
    if rules is None:
        raise illegal_transition(progress, proposed)
    for rule in rules:
        rule(decision, progress, facts)
        if decision.answer is not ACCEPT:
            break
    return decision
