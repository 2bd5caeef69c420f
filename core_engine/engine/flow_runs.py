"""A flow run on its way: created, begun, orchestrated to its final state.

The coroutines here suspend only on the engine's own latches: a sync flow's run is stepped by the thread that called
it, so that its function runs there; an async flow's run is awaited by the caller's loop.
"""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from core_engine import ids
from core_engine.backend.entries import FlowRunCreated, FlowRunUpdated
from core_engine.concurrency.waiting import run_blocking
from core_engine.context import FlowRunContext, TagsContext
from core_engine.engine.active import ActiveFlowRun, register, unregister
from core_engine.engine.cancellation import FlowRunCancelled, raise_stopping
from core_engine.engine.crashes import report_flow_run_crashes
from core_engine.engine.flow_functions import call_flow_function
from core_engine.engine.holds import pause_with_parent
from core_engine.engine.hooks import run_flow_hooks
from core_engine.engine.loading import entrypoint_of
from core_engine.engine.outcomes import (
    cancelled_state,
    flow_outcome,
    pause_as_asked,
    paused_on_the_way,
    timed_out_state,
)
from core_engine.engine.overdue import FlowTimedOut, end_overdue, limit_exceeded, seconds_left
from core_engine.engine.previous import PreviousRuns
from core_engine.engine.proposals import propose_flow_state
from core_engine.engine.reachable import check_api_reachable
from core_engine.engine.requests import watch_requests
from core_engine.engine.run_logs import call_text, end_level, log_rename, logger_of_flow_run
from core_engine.engine.run_names import make_run_name
from core_engine.engine.runners import RunnerSession
from core_engine.engine.stored_parameters import stored_parameters
from core_engine.engine.tracebacks import without_engine
from core_engine.exceptions import Abort, Pause, PausedRun, UpstreamTaskError, exception_text
from core_engine.lineage import link_handed_over
from core_engine.schemas.records import FlowRun
from core_engine.schemas.states import CANCELLING, FAILED, FINAL_TYPES, PAUSED, PENDING, RUNNING, State
from core_engine.settings import get_current_settings
from core_engine.states import exception_to_failed_state, fetch_state_result, read_state_result

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from core_engine.client.embedded import EmbeddedClient
    from core_engine.engine.flow_calls import UserThread
    from core_engine.flows import Flow


async def create_then_begin_flow_run(
    flow: Flow[..., Any],
    parameters: dict[str, Any],
    wait_for: Sequence[Any] | None,
    return_type: str,
    client: EmbeddedClient,
    user_thread: UserThread,
) -> Any:
    """Creates a root flow's run and takes it to its end.

    Bad parameters still create the run, in Failed, with the reason; nothing executes then.

    Parameters:
        flow: The flow.
        parameters: Bound to its signature.
        wait_for: None; only subflows wait.
        return_type: "state" or "result".
        client: Where the run is recorded.
        user_thread: The thread that called the flow.

    Raises:
        ValueError: `return_type` is neither.
        RuntimeError: The backend cannot be reached.
    """
    _check_return_type(return_type)
    await check_api_reachable(client, "Cannot create a flow run")
    run = new_flow_run(flow, parameters, client)
    logger = logger_of_flow_run(run)
    logger.info("Created flow run '%s' for flow '%s'", run.record.name, flow.name)
    async with report_flow_run_crashes(run, client, flow):
        state = await begin_with_valid_parameters(flow, run, parameters, client, user_thread)
    await client.journal_committed(state._position)
    return await returned(state, return_type, flow)


def _check_return_type(return_type: str) -> None:
    if return_type not in ("state", "result"):
        raise ValueError(f"return_type must be 'state' or 'result', not {return_type!r}.")


def _raise_fatal(run: ActiveFlowRun) -> None:
    """An interrupt or a system exit that ended a task ends the flow as well, and then the program (CRASH-2, 8)."""
    if run.fatal is not None:
        raise run.fatal


async def returned(state: State, return_type: str, flow: Flow[..., Any]) -> Any:
    """Returns the state, or the value behind it, by `return_type`."""
    if return_type == "state":
        return state
    if flow.isasync:
        return await fetch_state_result(state)
    value = read_state_result(state)
    link_handed_over(state, value)
    return value


def new_flow_run(
    flow: Flow[..., Any],
    parameters: dict[str, Any],
    client: EmbeddedClient,
    parent: ActiveFlowRun | None = None,
    parent_task_run_id: UUID | None = None,
) -> ActiveFlowRun:
    """Makes a flow run, Pending, and records it."""
    from core_engine.orchestration.progress import record_flow_state
    from core_engine.utilities.names import generate_run_name

    now = datetime.now(UTC)
    record = FlowRun(
        id=ids.new_id(),
        name=generate_run_name(),
        flow_name=flow.name,
        flow_version=flow.version,
        parameters=stored_parameters(parameters),
        tags=set(TagsContext.get().current_tags),
        retries=flow.retries,
        retry_delay_seconds=flow.retry_delay_seconds,
        created=now,
        expected_start_time=now,
        parent_task_run_id=parent_task_run_id,
        task_runner=getattr(flow.task_runner, "name", type(flow.task_runner).__name__),
        owner=client.owner,
        entrypoint=entrypoint_of(flow),
    )
    run = ActiveFlowRun(flow, record, client, parent)
    if get_current_settings().resumable:
        from core_engine.engine.resumption import Resumption

        run.resumption = Resumption()
    record_flow_state(run.progress, State(PENDING))
    run.record = run.progress.to_record(record)
    client.journal.append(FlowRunCreated(run.record))
    return run


async def begin_with_valid_parameters(
    flow: Flow[..., Any],
    run: ActiveFlowRun,
    parameters: dict[str, Any],
    client: EmbeddedClient,
    user_thread: UserThread,
) -> State:
    """Validates the parameters if the flow wants it, and begins the run; bad ones fail it at once."""
    if flow.should_validate_parameters:
        try:
            parameters = await run_blocking(flow.validate_parameters, parameters)
        except Exception as error:
            message = f"Validation of flow parameters failed with error: {exception_text(error)}"
            state = State(FAILED, message=message, data=error)
            logger = logger_of_flow_run(run)
            logger.error("Received invalid parameters: %s", exception_text(error))
            return await propose_flow_state(run, state)
    return await begin_flow_run(flow, run, parameters, client, user_thread)


async def begin_flow_run(
    flow: Flow[..., Any],
    flow_run: ActiveFlowRun,
    parameters: dict[str, Any],
    client: EmbeddedClient,
    user_thread: UserThread,
    wait_for: Sequence[Any] | None = None,
    interruptible: bool = False,
) -> State:
    """Enters what a flow run needs (crash reports, task runner, result factory, captured prints) and orchestrates it.

    Parameters:
        flow, flow_run: The flow, and its run as this process executes it.
        parameters: Validated.
        client: Where the run is recorded.
        user_thread: The thread that called the flow.
        wait_for: Upstreams of a subflow without data; None: none.
        interruptible: Whether the parent's deadline must be able to end the function.

    Returns:
        The final state, or the paused one.
    """
    from core_engine.results import ResultFactory

    run = flow_run
    register(run)
    _follow_parent(run)
    logger = logger_of_flow_run(run)
    try:
        with watch_requests(run):
            try:
                async with report_flow_run_crashes(run, client, flow):
                    logger.debug(
                        "Starting %r; submitted tasks will be run by %s...",
                        type(flow.task_runner).__name__,
                        flow.task_runner,
                    )
                    run.session = RunnerSession(flow.task_runner, logger)
                    await run.session.start()
                    partial = {
                        "flow": flow,
                        "client": client,
                        "task_runner": run.session.runner,
                        "result_factory": ResultFactory.from_flow(flow),
                        "log_prints": _log_prints(flow),
                        "run": run,
                    }
                    state = await orchestrate_flow_run(
                        flow, run, parameters, wait_for, interruptible, client, partial, user_thread
                    )
            finally:
                if run.session is not None:
                    await run.session.stop()
    except Abort as abort:
        logger.info("Flow run was aborted: %s", abort)
        raise
    except Pause:
        await _leave_paused(run)
        raise
    finally:
        unregister(run)
    if state._type is PAUSED:
        await _leave_paused(run)
    _log_final_state(run, state)
    return state


async def _leave_paused(run: ActiveFlowRun) -> None:
    """The run goes on in another process, if at all: this one is its owner no more."""
    state = run.progress.state
    if state is None or state._type is not PAUSED:
        return
    limit = state.state_details.pause_timeout
    until = "" if limit is None else f" before {limit.isoformat()}"
    logger_of_flow_run(run).info("Flow run is paused and leaves its process; it must be resumed%s to go on", until)
    run.record.owner = None
    run.client.journal.append(FlowRunUpdated(run.id, {"owner": None}))
    await run.client.journal_committed(run.client.journal.position)


def _follow_parent(run: ActiveFlowRun) -> None:
    """A subflow whose parent began to end before the subflow was known to it ends as well."""
    from core_engine.engine.cancellation import cancel_flow_run

    if run.parent is None or run.parent.stopping is None:
        return
    if run.parent.cancelling:
        cancel_flow_run(run)
    run.stop(run.parent.stopping)


def _log_prints(flow: Flow[..., Any]) -> bool:
    if flow.log_prints is not None:
        return flow.log_prints
    parent = FlowRunContext.get()
    return get_current_settings().logging_log_prints if parent is None else parent.log_prints


def _log_final_state(run: ActiveFlowRun, state: State) -> None:
    if state._type in FINAL_TYPES:
        shown = repr(state) if get_current_settings().debug_mode else str(state)
        logger_of_flow_run(run).log(end_level(state), "Finished in state %s", shown)


async def orchestrate_flow_run(
    flow: Flow[..., Any],
    flow_run: ActiveFlowRun,
    parameters: dict[str, Any],
    wait_for: Sequence[Any] | None,
    interruptible: bool,
    client: EmbeddedClient,
    partial_flow_run_context: dict[str, Any],
    user_thread: UserThread,
) -> State:
    """Takes a flow run through its states, retries included; parameters as ``begin_flow_run``."""
    from core_engine.engine.inputs import resolve_inputs

    run = flow_run
    if wait_for:
        try:
            await resolve_inputs({"wait_for": list(wait_for)}, return_data=False)
        except UpstreamTaskError as error:
            state = State(PENDING, name="NotReady", message=str(error))
            return await propose_flow_state(run, state, force=True)
    outcome: State | None = None
    state = await propose_flow_state(run, State(RUNNING))
    if run.parent is not None and run.parent.hold is not None:
        pause_with_parent(run, run.parent.hold)  # it was paused just as this one began
    while state._type is RUNNING:
        if run.attempt > 1 or run.goes_on:
            await client.journal_committed(client.journal.position)
            run.previous = await run_blocking(PreviousRuns.read, client.store, run.id)
            run.begin_attempt()
        outcome = await _execute(flow, run, parameters, partial_flow_run_context, user_thread)
        if outcome is run.progress.state:
            return outcome  # paused: the function was left because something in it could not start
        if run.cancelling:
            break
        outcome, state = run.ended_early or (outcome, await propose_flow_state(run, outcome))
        run.is_ending_runs = run.is_ending_runs and run.has_ended()
        if state._type in FINAL_TYPES or state is outcome:
            await run_flow_hooks(run, state)
        elif state._type not in (RUNNING, PAUSED, CANCELLING):
            state = await propose_flow_state(run, State(RUNNING))
        if run.resumption is not None:
            run.resumption = run.resumption.for_retry()
    if run.cancelling or (state._type is CANCELLING and state is not outcome):
        return await _end_as_cancelled(run)
    return state


async def _end_as_cancelled(run: ActiveFlowRun) -> State:
    """Ends a cancelled run whose function has ended, or waits for whoever did that before."""
    if run.ended_elsewhere is not None:
        await run.ended_elsewhere
    return await end_as_cancelled(run)


async def end_as_cancelled(run: ActiveFlowRun) -> State:
    """Calls the hooks of the cancellation, and ends the run, unless it ended before it could be cancelled."""
    state = run.progress.state
    assert state is not None
    if state._type in FINAL_TYPES:
        return state
    await run_flow_hooks(run, state if state._type is CANCELLING else State(CANCELLING))
    return await propose_flow_state(run, cancelled_state())


async def _execute(
    flow: Flow[..., Any],
    run: ActiveFlowRun,
    parameters: dict[str, Any],
    partial_flow_run_context: dict[str, Any],
    user_thread: UserThread,
) -> State:
    """Calls the function once, waits for all task runs, and returns the state that comes of it."""
    context = FlowRunContext(**partial_flow_run_context, flow_run=run.snapshot(), parameters=parameters)
    logger = logger_of_flow_run(run)
    factory = context.result_factory
    run.ended_early = None
    run.deadline = None if flow.timeout_seconds is None else time.monotonic() + flow.timeout_seconds
    try:
        with context, _captured_prints(context):
            _name_once(flow, run, parameters, context)
            shown = call_text(flow.name, parameters) if get_current_settings().debug_mode else f"flow '{flow.name}'"
            logger.debug("Executing %s for flow run '%s'...", shown, run.record.name)
            try:
                value = await call_flow_function(flow, run, parameters, user_thread)
            except FlowTimedOut as error:
                await end_overdue(run, error.timeout_seconds)
                raise
            except FlowRunCancelled:
                run.is_ending_runs = True
                await _wait_for_task_runs(run)
                raise
            except (Exception, Abort, Pause):
                await _wait_for_task_runs(run)
                raise
            await _wait_for_task_runs(run)
            return paused_on_the_way(run) or await flow_outcome(run, value, factory)
    except FlowTimedOut as error:
        if run.ended_early is None:
            logger.error("Flow run exceeded its timeout of %s seconds", error.timeout_seconds)
        return timed_out_state(error.timeout_seconds)
    except Exception as error:
        paused = paused_on_the_way(run) or (pause_as_asked(run, error) if isinstance(error, PausedRun) else None)
        if paused is not None:
            return paused
        logger.error("Encountered exception during execution:", exc_info=without_engine(error))
        return await run_blocking(exception_to_failed_state, error, "Flow run encountered an exception.", factory)
    except BaseException as error:
        if run.cancelling and not isinstance(error, (Abort, Pause)):
            return cancelled_state()
        raise


async def _wait_for_task_runs(run: ActiveFlowRun) -> None:
    """Waits until all task runs of a flow have ended, also when its function raised; a crash is reported without.

    Raises:
        FlowTimedOut: They did not end in time, and were cancelled.
    """
    if not await run.end_attempt(seconds_left(run)) and not run.cancelling:
        limit = limit_exceeded(run)
        assert limit is not None
        await end_overdue(run, limit)
        raise FlowTimedOut(limit)
    await run.end_attempt()
    raise_stopping(run)
    _raise_fatal(run)


def _name_once(flow: Flow[..., Any], run: ActiveFlowRun, parameters: dict[str, Any], context: FlowRunContext) -> None:
    """Names the run from the flow's template, in its first attempt."""
    if flow.flow_run_name is None or run.named:
        return
    before = run.record.name
    run.record.name = make_run_name(flow.flow_run_name, "flow_run_name", parameters)
    log_rename(logger_of_flow_run(run), "flow run", before, run.record.name)
    run.named = True
    assert context.flow_run is not None
    context.flow_run.name = run.record.name
    run.client.journal.append(FlowRunUpdated(run.id, {"name": run.record.name}))


def _captured_prints(context: FlowRunContext) -> Any:
    if not context.log_prints:
        return contextlib.nullcontext()
    from core_engine.logging.prints import patch_print

    return patch_print()
