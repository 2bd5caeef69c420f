"""Pausing and resuming flow runs: in their own function, and by id from anywhere."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from core_engine import clock
from core_engine.client.embedded import get_client
from core_engine.concurrency.threads import service_threads
from core_engine.concurrency.waiting import Latch, run_blocking, step
from core_engine.context import FlowRunContext, TaskRunContext, in_async_code
from core_engine.engine.active import ActiveFlowRun, active_flow_run
from core_engine.engine.holds import (
    PAST_SECONDS,
    Hold,
    expire,
    never_resumed,
    pause,
    pause_below,
    paused_state,
    resume,
)
from core_engine.engine.run_logs import logger_of_flow_run
from core_engine.exceptions import FlowPauseTimeout, NotPausedError, Pause
from core_engine.option_checks import check_flag, check_id, check_text
from core_engine.orchestration.decisions import ABORT, ACCEPT
from core_engine.schemas.states import COMPLETED, FAILED, PAUSED, RUNNING, SCHEDULED, State, StateDetails

if TYPE_CHECKING:
    from core_engine.client.embedded import EmbeddedClient
    from core_engine.schemas.records import FlowRun

# How long the process of a flow run may take to answer, and how often is looked whether it has.
ANSWER_SECONDS = 10.0
LOOK_SECONDS = 0.05


def pause_flow_run(
    flow_run_id: UUID | str | None = None,
    timeout: float | None = 300,
    poll_interval: float = 10,
    reschedule: bool = False,
    key: str | None = None,
) -> Any:
    """Pauses a flow run. Task runs that have started go on; no other starts while it is paused.

    Called in a flow's function without an id it pauses that flow run, and blocks until somebody resumes it.

    By id it pauses a flow run from outside, which takes effect where the next of its task runs, or subflows, is to
    start. A flow run with a deployment then leaves its process, as with `reschedule`; one without waits there.

    Parameters:
        flow_run_id: The flow run; None: the one whose function calls.
        timeout: Seconds until the flow run fails if it has not been resumed; None: no limit.
        poll_interval: Seconds between two looks at the flow run while it blocks. A resume wakes it at once; this is
            only the longest wait.
        reschedule: Whether the flow run leaves its process and is run again, by another, when it is resumed: its
            function is called from the start, completed task runs whose results are stored are not executed again, and
            pauses that were passed are not repeated. Needs a flow run with a deployment. By id it says nothing.
        key: A flow run is paused only once under a key, also when its function is called again after a resume. None:
            the how manieth pause of its function this is.

    Returns:
        None; in async code an awaitable of it.

    Raises:
        FlowPauseTimeout: Nobody resumed the flow run in time. It has failed.
        Pause: With `reschedule`: the signal with which the function is left.
        RuntimeError: In a task, or outside of a flow, without an id; the flow run cannot be paused: not running,
            or `reschedule` without a deployment, or in a subflow.
        ObjectNotFound: There is no flow run of that id.
        TypeError: `reschedule` is neither True nor False, or `key` no text.
        ValueError: `timeout` or `poll_interval` is no such number, or `flow_run_id` no id.
    """
    _check_seconds("timeout", timeout, least=0.0)
    _check_seconds("poll_interval", poll_interval, least=0.001)
    check_flag(reschedule, "reschedule", may_be_none=False)
    check_text(key, "key")
    if flow_run_id is not None:
        return _now_or_later(_pause_from_outside(check_id(flow_run_id, "flow_run_id"), timeout, key))
    if TaskRunContext.get() is not None:
        raise RuntimeError("Tasks cannot be paused. Call pause_flow_run in the flow, or give it the flow run's id.")
    context = FlowRunContext.get()
    if context is None or context.run is None:
        raise RuntimeError("There is no flow run to pause here. Call pause_flow_run in a flow, or give it an id.")
    return _now_or_later(_pause_here(context.run, timeout, poll_interval, reschedule, key))


def resume_flow_run(flow_run_id: UUID | str) -> Any:
    """Has a paused flow run go on: where it waits, or as a run that another process is to execute.

    Parameters:
        flow_run_id: The flow run.

    Returns:
        None; in async code an awaitable of it. The flow run is Running then, or Scheduled, named Resuming, where it
        has left its process: execute it with ``python -m core_engine.engine <flow-run-id>``.

    Raises:
        NotPausedError: It is not paused.
        FlowPauseTimeout: The pause's deadline has passed. The flow run has failed.
        RuntimeError: It cannot go on for another reason, which the message says.
        ObjectNotFound: There is no flow run of that id.
    """
    return _now_or_later(_resume(check_id(flow_run_id, "flow_run_id")))


def _now_or_later(coroutine: Any) -> Any:
    return coroutine if in_async_code() else step(coroutine)


def _check_seconds(name: str, seconds: float | None, least: float) -> None:
    if seconds is None and name == "timeout":
        return
    if not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < least:
        raise ValueError(f"{name} must be a number of seconds of at least {least:g}, not {seconds!r}.")


# In the flow's own function -------------------------------------------------------------------------------------------


async def _pause_here(
    run: ActiveFlowRun, timeout: float | None, poll_interval: float, reschedule: bool, key: str | None
) -> None:
    from core_engine.engine.task_calls import _check_going_on

    _check_going_on(run)
    run.pauses += 1
    key = key or str(run.pauses)
    decision = pause(run, paused_state(timeout, reschedule, key), stays=not reschedule)
    if decision.answer is ABORT:
        raise RuntimeError(decision.reason)
    state = decision.state
    assert state is not None
    if state._type is RUNNING:
        return  # it was paused under this key before
    if state._type is not PAUSED:
        _check_going_on(run)
        raise RuntimeError(decision.reason)
    if run.hold is None:
        if decision.answer is ACCEPT:
            await _warn_of_repeated_runs(run)
        raise Pause("The flow run is paused and leaves its process.", state=state)
    await _stay(run, state, run.hold, timeout, poll_interval)


async def _stay(run: ActiveFlowRun, state: State, hold: Hold, timeout: float | None, poll_interval: float) -> None:
    """Waits until the flow run is resumed, or its time is over."""
    logger = logger_of_flow_run(run)
    limit = state.state_details.pause_timeout
    logger.info("Flow run is paused until it is resumed%s", "" if limit is None else f", at most until {limit}")
    first_seconds = poll_interval if timeout is None else min(timeout / 2, poll_interval)
    try:
        await _until_released(run, hold, first_seconds, poll_interval)
    except BaseException:
        # Interrupted, by a time limit for example: what comes of it is for the flow run, which is not paused then.
        if run.hold is hold and run.stopping is None:
            resume(run)
        raise
    if isinstance(run.stopping, FlowPauseTimeout):
        raise never_resumed(state)
    from core_engine.engine.task_calls import _check_going_on

    _check_going_on(run)
    logger.info("Flow run was resumed")


async def _until_released(run: ActiveFlowRun, hold: Hold, first_seconds: float, poll_interval: float) -> None:
    seconds = first_seconds
    while run.hold is hold and run.stopping is None:
        now = clock.now()
        if hold.is_over(now):
            expire(run, hold)
            return
        due = now + seconds
        if hold.deadline is not None:
            due = min(due, hold.deadline + PAST_SECONDS)
        await clock.current.wait_until(due, hold.released)
        seconds = poll_interval


async def _warn_of_repeated_runs(run: ActiveFlowRun) -> None:
    """Says which of the task runs so far will be executed again, because their results cannot be read back."""
    await run.client.journal_committed(run.client.journal.position)
    completed = await run_blocking(lambda: run.client.store.read_task_runs(run.id, state_types=[COMPLETED]))
    lost = sorted({one.task_name for one in completed if one.state is None or one.state._data is None})
    if lost:
        logger_of_flow_run(run).warning(
            "Results of these tasks are not stored, so they will be executed again after the resume: %s. "
            "Give them persist_result=True.",
            ", ".join(lost),
        )


# By id ----------------------------------------------------------------------------------------------------------------


async def _pause_from_outside(id: UUID, timeout: float | None, key: str | None) -> None:
    client = get_client()
    run = active_flow_run(id)
    found = await _read(client, id)
    if found.state_type is not RUNNING:
        raise RuntimeError(f"Flow run {found.name!r} is in state {found.state}, and only a running one can be paused.")
    if run is not None:
        pause_on_request(run, {"timeout": timeout, "key": key})
    else:
        await _ask(client, "pause", id, {"timeout": timeout, "key": key})
    found = await _read(client, id)
    if found.state_type is not PAUSED and not (found.state_type is RUNNING and key in found.pause_keys):
        raise RuntimeError(f"Flow run {found.name!r} was not paused: it is in state {found.state}.")


def pause_on_request(run: ActiveFlowRun, payload: dict[str, Any]) -> None:
    """Pauses a flow run of this process because somebody outside of its function asked for it. Any thread."""
    leaves = run.progress.has_deployment and not run.progress.is_subflow
    state = run.progress.state
    if state is None or state._type is not RUNNING:
        return
    decision = pause(run, paused_state(payload.get("timeout"), leaves, payload.get("key")), stays=not leaves)
    hold = run.hold
    if decision.answer is not ACCEPT:
        return
    logger_of_flow_run(run).info("Flow run was paused from outside; nothing new starts until it is resumed")
    if hold is not None:
        pause_below(run, hold)
    if hold is not None and hold.deadline is not None:
        clock.current.call_at(hold.deadline + PAST_SECONDS, lambda: service_threads.submit(expire, run, hold))


def resume_on_request(run: ActiveFlowRun) -> None:
    """Resumes a flow run of this process because somebody asked for it. Any thread."""
    state, hold = run.progress.state, run.hold
    if state is None or state._type is not PAUSED:
        return
    if hold is not None and hold.is_over(clock.now()):
        expire(run, hold)
    else:
        resume(run)


async def _resume(id: UUID) -> None:
    client = get_client()
    run = active_flow_run(id)
    found = await _read(client, id)
    paused = found.state
    if paused is None or paused._type is not PAUSED:
        raise NotPausedError(f"Flow run {found.name!r} is not paused, but in state {paused}.")
    if run is not None:
        resume_on_request(run)
    elif found.owner is not None:
        await _ask(client, "resume", id, {})
    found = await _unless_it_leaves(client, id)
    if found.state_type is PAUSED:
        found = await _schedule_again(client, found)
    if found.state_type is FAILED and _is_past(paused):
        raise never_resumed(paused)


async def _unless_it_leaves(client: EmbeddedClient, id: UUID) -> FlowRun:
    """Returns the flow run when it goes on, or else when it has left its process."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        found = await _read(client, id)
        if found.state_type is not PAUSED or found.owner is None:
            return found
        if time.monotonic() > deadline:
            raise RuntimeError(f"Flow run {found.name!r} is on its way out of its process. Resume it when it has left.")
        await Latch().arrive(LOOK_SECONDS)


async def _schedule_again(client: EmbeddedClient, found: FlowRun) -> FlowRun:
    """Has a flow run that has left its process executed by another."""
    if found.deployment_id is None:
        raise RuntimeError(
            f"Flow run {found.name!r} has left its process and has no deployment from which another could go on."
        )
    details = StateDetails(scheduled_time=datetime.fromtimestamp(clock.now(), UTC))
    await client.propose(State(SCHEDULED, name="Resuming", state_details=details), flow_run_id=found.id)
    return await client.read_flow_run(found.id)


def _is_past(paused: State) -> bool:
    limit = paused.state_details.pause_timeout
    return limit is not None and limit.timestamp() < clock.now()


async def _read(client: EmbeddedClient, id: UUID) -> FlowRun:
    """Reads a flow run; one whose process is gone is recorded as Crashed first."""
    found = await client.read_flow_run(id)
    if found.owner is None or found.owner == client.owner:
        return found
    await run_blocking(client.store.reconcile, clock.now())
    return await client.read_flow_run(id)


async def _ask(client: EmbeddedClient, kind: str, id: UUID, payload: dict[str, Any]) -> None:
    """Asks the process that executes a flow run, and waits until it has answered, or is gone."""
    request = await run_blocking(client.store.write_request, kind, id, payload)
    deadline = time.monotonic() + ANSWER_SECONDS
    while await run_blocking(client.store.is_request_open, request):
        if (await _read(client, id)).owner is None:
            return
        if time.monotonic() > deadline:
            await run_blocking(client.store.finish_request, request)
            raise RuntimeError(
                f"The process of flow run {id} did not answer within {ANSWER_SECONDS:g} s. Is it stopped?"
            )
        await Latch().arrive(LOOK_SECONDS)
