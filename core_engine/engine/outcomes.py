"""What a flow run comes to: from what its function returned, and from the runs below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core_engine.concurrency.waiting import run_blocking
from core_engine.engine.holds import pause
from core_engine.engine.inputs import futures_ended, holds_handles, unsettled_futures
from core_engine.engine.run_logs import logger_of_flow_run
from core_engine.futures import TaskFuture
from core_engine.lazy_states import StateSequence
from core_engine.orchestration.aggregate import aggregate_states
from core_engine.orchestration.decisions import ACCEPT
from core_engine.schemas.states import CANCELLED, FAILED, PAUSED, State, StateDetails
from core_engine.states import return_value_to_state
from core_engine.utilities.handles import resolve

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveFlowRun
    from core_engine.exceptions import PausedRun
    from core_engine.results import ResultFactory


async def flow_outcome(run: ActiveFlowRun, value: Any, result_factory: ResultFactory) -> State:
    """Returns the final state to propose.

    Nothing returned: judged over all task runs and subflows, Completed if there are none. Futures, also nested ones,
    are replaced by their states; a plain value is the result.
    """
    if value is None:
        return await run_blocking(_judge_all, run, result_factory)
    if holds_handles(value):
        await futures_ended(unsettled_futures([value]))
        value = resolve(value, (TaskFuture,), _state_of, keep_annotations=True)
    return await run_blocking(return_value_to_state, value, result_factory)


def _state_of(future: TaskFuture[Any], annotations: object) -> State | None:
    return future._run_set.states[future._index]


def _judge_all(run: ActiveFlowRun, result_factory: ResultFactory) -> State:
    states = StateSequence.of(run)
    if not len(states):
        return State("COMPLETED", data=result_factory.create_result(None))
    type, message = aggregate_states(states.counts())
    return State(type, message=message, data=result_factory.create_result(states))


def paused_on_the_way(run: ActiveFlowRun) -> State | None:
    """Returns the flow run's state if it was paused from outside and something could not start because of it.

    What its function came to does not count then: it is called again when the flow run is resumed.
    """
    state = run.progress.state
    is_leaving = run.hold is None and run.refused_start and not run.cancelling
    if state is not None and state._type is PAUSED and is_leaving:
        return state
    return None


def pause_as_asked(run: ActiveFlowRun, error: PausedRun) -> State | None:
    """Returns the paused state that a flow run gets because a run below it paused; None if it cannot be paused so.

    Its limit, key and mode are those of the run below (PAUSE-12).
    """
    asked = error.state
    if asked is None:
        return None
    details = asked.state_details
    limit, reschedule, key = details.pause_timeout, details.pause_reschedule, details.pause_key
    own = StateDetails(pause_timeout=limit, pause_reschedule=reschedule, pause_key=key)
    decision = pause(run, State(PAUSED, message=asked._message, state_details=own), stays=False)
    if decision.answer is not ACCEPT:
        logger_of_flow_run(run).warning("A run below is paused, but the flow run cannot be: %s", decision.reason)
        return None
    return decision.state


def timed_out_state(timeout_seconds: float) -> State:
    """Returns the state of a flow run whose time was over."""
    message = f"Flow run exceeded its timeout of {timeout_seconds} seconds."
    return State(FAILED, name="TimedOut", message=message, data=TimeoutError(message))


def cancelled_state() -> State:
    """Returns the state of a flow run that was asked to cancel."""
    return State(CANCELLED, message="The flow run was cancelled.")
