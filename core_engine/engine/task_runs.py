"""A task run on its way: what a runner executes, here or far away.

``begin_task_run`` enters what the run needs; ``orchestrate_task_run`` takes it through its states. Policies stand in
modules of their own: inputs, caching, run_names, timeouts, hooks, crashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.interrupts import call_interruptibly, current_section
from core_engine.context import TaskRunContext
from core_engine.engine.active import ActiveTaskRun
from core_engine.engine.caching import cache_key_of, find_cached, with_cache_key
from core_engine.engine.cancellation import LeftBehind, TaskRunCancelled
from core_engine.engine.crashes import report_task_run_crashes
from core_engine.engine.hooks import run_task_hooks
from core_engine.engine.inputs import resolve_inputs
from core_engine.engine.proposals import propose_task_state
from core_engine.engine.run_logs import (
    log_end,
    log_not_ready,
    log_rename,
    log_retry,
    log_start,
    logger_of_task_run,
    tells_details,
)
from core_engine.engine.run_names import make_run_name
from core_engine.engine.timeouts import TimedCall, TimedOut, call_in_time
from core_engine.engine.tracebacks import without_engine
from core_engine.exceptions import Abort, Pause, UpstreamTaskError
from core_engine.schemas.states import (
    CANCELLED,
    COMPLETED,
    FINAL_TYPES,
    PAUSED,
    PENDING,
    RUNNING,
    SCHEDULED,
    State,
    make_state,
)
from core_engine.settings import get_current_settings
from core_engine.states import exception_to_failed_state, return_value_to_state

if TYPE_CHECKING:
    from core_engine.client.embedded import EmbeddedClient
    from core_engine.results import ResultFactory
    from core_engine.settings import SettingsContext
    from core_engine.tasks import Task

RAISED = "Task run encountered an exception."


async def begin_task_run(
    task: Task[..., Any],
    task_run: ActiveTaskRun,
    parameters: dict[str, Any],
    wait_for: Sequence[Any] | None,
    result_factory: ResultFactory,
    log_prints: bool,
    settings: SettingsContext | None,
) -> State:
    """Executes a task run: what a runner calls, and in its own process.

    Parameters:
        task: The task.
        task_run: The run, with the permit under which its states are decided here.
        parameters: As given, futures and states still in them.
        wait_for: Upstreams without data; None means none.
        result_factory: Where results are kept.
        log_prints: Whether ``print`` logs.
        settings: The settings context that the flow was called with; entered if others are in force.

    Returns:
        The state that the run is in at the end: final, or one that says when it is due again.

    Raises:
        LeftBehind: The run was ended from outside while its code ran: whoever did that goes on with it.
        BaseException: What crashed the run; it is recorded as Crashed.
    """
    client = task_run.flow_run.client
    if settings is not None and get_current_settings() is not settings.settings:
        with settings.copy():
            return await begin_task_run(task, task_run, parameters, wait_for, result_factory, log_prints, None)
    interruptible = task.timeout_seconds is not None
    try:
        with report_task_run_crashes(task_run, client):
            return await orchestrate_task_run(
                task, task_run, parameters, wait_for, result_factory, log_prints, interruptible, client
            )
    except LeftBehind:
        raise
    except Abort as abort:
        return _after_abort(task_run, abort)
    except Pause as pause:
        return pause.state if pause.state is not None else task_run.state


def _after_abort(run: ActiveTaskRun, abort: Abort) -> State:
    """Orchestration ended this execution: what is recorded stands."""
    logger = logger_of_task_run(run)
    if run.state._type in FINAL_TYPES:
        logger.info("Task run '%s' already finished as %s.", run.run_name, run.state)
    else:
        logger.warning("Task run '%s' was aborted in state %s: %s", run.run_name, run.state, abort)
    return run.state


async def orchestrate_task_run(
    task: Task[..., Any],
    task_run: ActiveTaskRun,
    parameters: dict[str, Any],
    wait_for: Sequence[Any] | None,
    result_factory: ResultFactory,
    log_prints: bool,
    interruptible: bool,
    client: EmbeddedClient,
) -> State:
    """Takes a task run through its states: inputs, cache, Running, the function, its outcome, retries, hooks.

    Parameters as ``begin_task_run``; `interruptible` tells whether the function runs where a deadline can end it.

    Returns:
        The state that the run is in at the end. A retry that is not due yet ends the call (D13): the flow's process
        keeps the run and calls again when it is.
    """
    run = task_run
    opens_execution = run.reopens and run.state._type in FINAL_TYPES and not run.is_cancelled()
    if run.run_set is None or run.run_set.has_handles:
        try:
            if wait_for is not None:
                await resolve_inputs({"wait_for": list(wait_for)}, return_data=False)
            parameters = await resolve_inputs(parameters)
        except UpstreamTaskError as error:
            return await not_ready(run, error)
    if task.task_run_name is None and task.cache_key_fn is None:
        context = TaskRunContext.of(run, task, client, parameters, result_factory, log_prints)
        cached = None
        proposed = make_state(RUNNING, 0.0, None, 0, 0)
    else:
        context, cached, proposed = await _prepare(run, task, client, parameters, result_factory, log_prints)
    state = await propose_task_state(run, proposed, cached=cached, execution=None if opens_execution else run.execution)
    execution = run.execution
    if state._type is not RUNNING:
        return await _not_started(run, task, state, is_own=state is proposed)
    while state._type is RUNNING:
        outcome = await _execute(context, run, task, parameters, result_factory, log_prints)
        state = await propose_task_state(run, outcome, execution=execution)
        if state._type is SCHEDULED:
            log_retry(run, state)
            details = state._details
            assert details is not None
            assert details.scheduled_time is not None
            needs_slots = run.run_set is not None and run.run_set.gate is not None
            if needs_slots or details.scheduled_time.timestamp() > state._time:
                return state
        if state._type in FINAL_TYPES:
            if state is outcome:
                log_end(run, state)
                await run_task_hooks(run, task, state)
        elif state._type is not PAUSED:
            context = TaskRunContext.of(run, task, client, parameters, result_factory, log_prints)
            state = await propose_task_state(run, make_state(RUNNING, 0.0, None, 0, 0), execution=execution)
    return state


async def _not_started(run: ActiveTaskRun, task: Task[..., Any], state: State, is_own: bool) -> State:
    """A run did not become Running: it has ended, is given a stored state, or (`is_own`) failed over its cache key."""
    if is_own or state._type is COMPLETED:
        log_end(run, state)
    if is_own:
        await run_task_hooks(run, task, state)
    return state


async def not_ready(run: ActiveTaskRun, error: UpstreamTaskError) -> State:
    """An upstream did not complete: the run stays where it is and says which."""
    state = make_state(PENDING, 0.0, None, 0, 0, name="NotReady", message=str(error))
    state = await propose_task_state(run, state, force=run.state._type is PENDING)
    log_not_ready(run, state)
    return state


async def _prepare(
    run: ActiveTaskRun,
    task: Task[..., Any],
    client: EmbeddedClient,
    parameters: dict[str, Any],
    result_factory: ResultFactory,
    log_prints: bool,
) -> tuple[TaskRunContext, State | None, State]:
    """What only some tasks need before they run: a cache key, and what is stored under it.

    Returns:
        The run's context; the state that is stored, None if there is none; and the state to propose.
    """
    context = TaskRunContext.of(run, task, client, parameters, result_factory, log_prints)
    proposed = make_state(RUNNING, 0.0, None, 0, 0)
    if task.cache_key_fn is None:
        return context, None, proposed
    try:
        run.cache_key = cache_key_of(context, parameters)
    except Exception as error:
        _log_exception(run, without_engine(error))
        return context, None, exception_to_failed_state(error, "The cache key could not be made.", result_factory)
    if run.cache_key is None:
        return context, None, proposed
    refresh = run.group.policy.refresh_cache
    cached = None if refresh else await find_cached(run, run.cache_key)
    return context, cached, with_cache_key(proposed, run.cache_key, refresh)


async def _execute(
    context: TaskRunContext,
    run: ActiveTaskRun,
    task: Task[..., Any],
    parameters: dict[str, Any],
    result_factory: ResultFactory,
    log_prints: bool,
) -> State:
    """Calls the function once, in its context, and returns the state that comes of it."""
    token = TaskRunContext._variable.set(context)
    is_left_behind = False
    try:
        if task.task_run_name is not None and run.name is None:
            before = run.run_name
            run.name = make_run_name(task.task_run_name, "task_run_name", parameters)
            log_rename(logger_of_task_run(run), "task run", before, run.name)
            if run.run_set is not None:
                run.run_set.names[run.position] = run.name
            run.flow_run.client.rename_task_run(run)
        if tells_details():
            log_start(run, task.name, parameters)
        args, kwargs = task.signature.arguments(parameters)
        if log_prints:
            from core_engine.logging.prints import patch_print

            with patch_print():
                value = await _call(run, task, args, kwargs)
        else:
            value = await _call(run, task, args, kwargs)
        state = return_value_to_state(value, result_factory)
    except TimedOut as error:
        state = timed_out_state(run, error, context.result_factory)
    except TaskRunCancelled:
        return State(CANCELLED, message="The task run was cancelled while it ran.")
    except Exception as error:
        _log_exception(run, without_engine(error))
        state = exception_to_failed_state(error, RAISED, result_factory)
    except LeftBehind:
        is_left_behind = True
        raise
    finally:
        if not is_left_behind:  # what executes the run by now may be its next attempt
            run.executed_by(None)
        TaskRunContext._variable.reset(token)
    if run.cache_key is not None and state._type is COMPLETED:
        with_cache_key(state, run.cache_key, run.group.policy.refresh_cache)
    return state


async def _call(run: ActiveTaskRun, task: Task[..., Any], args: Any, kwargs: Any) -> Any:
    if task.isasync:
        from core_engine.engine.async_calls import call_async

        return await call_async(run, task, args, kwargs)
    if task.timeout_seconds is not None:
        call = TimedCall(task.fn, args, kwargs)
        run.executed_by(call)
        return call_in_time(call, task.timeout_seconds)
    section = current_section()
    run.executed_by(section)
    value = call_interruptibly(section, run, task.fn, args, kwargs)
    # A generator's body is the user's code as well: it runs here, where it can be interrupted and its prints caught.
    return value if type(value) is not GeneratorType else call_interruptibly(section, run, list, (value,), {})


def timed_out_state(run: ActiveTaskRun, error: TimedOut, result_factory: ResultFactory | None) -> State:
    """Returns the state of a run that exceeded its timeout, and logs that it did."""
    logger = logger_of_task_run(run)
    exceeded = TimeoutError(f"Task run exceeded its timeout of {error.timeout_seconds} seconds.")
    message = str(exceeded)
    if error.abandoned:
        logger.warning("%s Its code did not end with it; it is left behind, and its value will be dropped.", message)
    else:
        logger.error(message)
    state = exception_to_failed_state(exceeded, result_factory=result_factory, name="TimedOut")
    state._message = message
    return state


def _log_exception(run: ActiveTaskRun, error: Exception) -> None:
    logger = logger_of_task_run(run)
    logger.error("Encountered exception during execution:", exc_info=error)
