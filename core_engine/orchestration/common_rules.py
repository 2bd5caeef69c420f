"""Rules that hold for task runs and flow runs alike, and what both deciders do around their tables.

A rule looks at the run, the proposed state and the facts, and does one of three things: nothing; complete the
proposed state or set a flag of the decision; or answer, after which no further rule is asked. In every cell of the
tables the rules that may answer stand before those that complete, so that nothing ever has to be undone.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from core_engine.exceptions import IllegalTransition
from core_engine.orchestration.decisions import Decision
from core_engine.orchestration.facts import FlowFacts, TaskFacts
from core_engine.orchestration.progress import FlowRunProgress, TaskRunProgress, scheduled_seconds
from core_engine.orchestration.state_names import AWAITING_RETRY
from core_engine.schemas.records import TaskPolicy
from core_engine.schemas.states import (
    CANCELLING,
    CRASHED,
    FINAL_TYPES,
    PAUSED,
    SCHEDULED,
    State,
    StateDetails,
    StateType,
    make_state,
)

Progress = TaskRunProgress | FlowRunProgress
Facts = TaskFacts | FlowFacts

# Details keep times to the microsecond, rounded: a run due within less than that is due.
_RESOLUTION_SECONDS = 1e-6
_LAST_MOMENT = datetime(9999, 12, 31, tzinfo=UTC)
_NEVER_AFTER_END = frozenset({CANCELLING, CRASHED, PAUSED})


def abort_after_end(
    decision: Decision, progress: Progress, facts: Facts | None = None, policy: TaskPolicy | None = None
) -> None:
    """ORCH-10: what has ended cannot be cancelled, paused, or crash."""
    decision.abort(f"{_described(progress)} has ended, so it cannot become {decision.proposed._type.value}.")


def stay_final(
    decision: Decision, progress: Progress, facts: Facts | None = None, policy: TaskPolicy | None = None
) -> None:
    """I9: within an execution the first final state stands."""
    decision.stay(f"{_described(progress)} has ended already; its first final state stands.")


def keep_stored_result(decision: Decision, progress: Progress, facts: Facts, policy: TaskPolicy | None = None) -> None:
    """ORCH-11: a completed run whose result can be read back does not run again."""
    current = decision.current
    if current is not None and getattr(type(current._data), "stored", False) is True:
        decision.stay(f"{_described(progress)} has completed and its result is stored, so it does not run again.")


def stay_cancelling(
    decision: Decision, progress: Progress, facts: Facts | None = None, policy: TaskPolicy | None = None
) -> None:
    """ORCH-20: a run that is being cancelled does not turn back."""
    decision.stay(f"{_described(progress)} is being cancelled.")


def wait_until_scheduled(
    decision: Decision, progress: Progress, facts: Facts, policy: TaskPolicy | None = None
) -> None:
    """ORCH-4: a run does not start before it is due."""
    current = decision.current
    if current is None or current._details is None:
        return
    due = scheduled_seconds(current)
    if due is not None and due - facts.now >= _RESOLUTION_SECONDS:
        decision.wait(due - facts.now, f"{_described(progress)} is due in {due - facts.now:.3f} seconds.")


def copy_scheduled_time(decision: Decision, progress: Progress, facts: Facts, policy: TaskPolicy | None = None) -> None:
    """ORCH-4: Pending keeps when the run is due, unless it says so itself."""
    current, proposed = decision.current, decision.proposed
    if current is None or current._details is None or scheduled_seconds(proposed) is not None:
        return
    proposed._details = replace(proposed._details or StateDetails(), scheduled_time=current._details.scheduled_time)


def reject_with_retry(decision: Decision, facts: Facts, delay_seconds: float, reason: str) -> None:
    """Gives AwaitingRetry instead of a failure, with the failure's message and data (TASK-RETRY-10)."""
    failure = decision.proposed
    details = StateDetails(scheduled_time=_moment_after(facts.now, delay_seconds))
    retry = new_state(SCHEDULED, facts, name=AWAITING_RETRY, message=failure._message, details=details)
    retry._data = failure._data
    decision.reject(retry, reason)


def new_state(
    type: StateType, facts: Facts, name: str | None, message: str | None, details: StateDetails | None = None
) -> State:
    """Makes a state to be given instead of the proposed one."""
    return make_state(type, facts.now, None, 0, 0, name=name, message=message, details=details)


def copy_of(recorded: State, now: float, name: str | None = None) -> State:
    """Makes an unrecorded state like one that was recorded, which nothing may change any more."""
    details = recorded._details
    if details is not None:
        details = replace(details, flow_run_id=None, task_run_id=None)
    return make_state(
        recorded._type,
        now,
        None,
        0,
        0,
        name=name or recorded._name,
        message=recorded._message,
        data=recorded._data,
        details=details,
    )


def open_decision(progress: Progress, proposed: State, facts: Facts) -> Decision:
    """Begins a decision with the proposed state stamped with the time, or with a copy of it if it is recorded."""
    if proposed._ordinal:
        proposed = copy_of(proposed, facts.now)
    else:
        proposed._time = facts.now
    return Decision(progress.state, proposed)


def answer_if_over(decision: Decision, progress: Progress, execution: int) -> bool:
    """D1: answers a proposal from within an `execution` that is over, and tells whether it was one.

    One from an older execution changes nothing. One from the present execution, if that has ended, neither ends it
    otherwise nor starts it again, not even by force: only what comes from outside can open the next.
    """
    if execution < progress.execution:
        present = f"{_described(progress)} is in execution {progress.execution}"
        decision.abort(f"The proposal belongs to execution {execution}, but {present}.")
        return True
    if decision.current is None or decision.current._type not in FINAL_TYPES:
        return False
    if decision.proposed._type in _NEVER_AFTER_END:
        abort_after_end(decision, progress)
    else:
        stay_final(decision, progress)
    return True


def illegal_transition(progress: Progress, proposed: State) -> IllegalTransition:
    """Makes the error for a move that the table does not have."""
    state = progress.state
    if state is None:
        move = f"has no state yet, so it cannot begin as {proposed}"
    else:
        place = f"type {state._type.value}, state {state._ordinal} of its history, execution {progress.execution}"
        move = f"is in {state} ({place}), so it cannot become {proposed}"
    return IllegalTransition(f"{_described(progress)} {move}. To record the state all the same, use force=True.")


def _described(progress: Progress) -> str:
    if isinstance(progress, FlowRunProgress):
        return "The flow run" if progress.flow_run_id is None else f"Flow run {progress.flow_run_id}"
    group = progress.state._group
    return "The task run" if group is None else f"Task run {group.run_name(progress.state._index)}"


def _moment_after(now: float, seconds: float) -> datetime:
    # Fifty doubled delays reach past the calendar's end.
    moment = min(now + seconds, _LAST_MOMENT.timestamp())
    return datetime.fromtimestamp(moment, UTC)
