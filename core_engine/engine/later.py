"""Runs that were created for later: taken by this process, loaded from their deployment, and executed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from core_engine import clock
from core_engine.backend.entries import FlowRunUpdated
from core_engine.client.embedded import get_client
from core_engine.concurrency.threads import service_threads
from core_engine.concurrency.waiting import drives_loop, run_blocking, step
from core_engine.context import tags
from core_engine.engine.active import ActiveFlowRun
from core_engine.engine.flow_calls import UserThread
from core_engine.engine.flow_runs import begin_with_valid_parameters
from core_engine.engine.loading import entrypoint_of, load_flow_from_entrypoint
from core_engine.engine.outside import _UNKNOWN_FLOW
from core_engine.engine.proposals import propose_flow_state
from core_engine.engine.reachable import check_api_reachable
from core_engine.engine.run_logs import logger_of_flow_run
from core_engine.engine.signals import await_with_signals, flow_signals
from core_engine.engine.stored_parameters import stored_parameters
from core_engine.exceptions import Abort, MissingFlowError, Pause, exception_text
from core_engine.logging import setup_logging
from core_engine.schemas.states import FAILED, PENDING, State

if TYPE_CHECKING:
    from core_engine.client.embedded import EmbeddedClient
    from core_engine.flows import Flow
    from core_engine.schemas.records import FlowRun


class _Ready(NamedTuple):
    """A run that this process has taken, with its flow and the parameters as they were stored, defaults added."""

    flow: Flow[..., Any]
    run: ActiveFlowRun
    parameters: dict[str, Any]


def enter_flow_run_engine_from_subprocess(flow_run_id: UUID) -> State:
    """Executes a run that was created for later; what ``python -m core_engine.engine <flow-run-id>`` does.

    Parameters:
        flow_run_id: The run.

    Returns:
        The state that it is in at the end: final, or Paused.

    Raises:
        Abort: The run is not to be executed: it was submitted before, or has ended.
        Pause: Its function left, to be called again when the run is resumed.
        ObjectNotFound: There is no such run.
    """
    setup_logging()
    client = get_client()
    try:
        ready = step(_retrieve(flow_run_id, client))
        if isinstance(ready, State):
            return ready
        if ready.flow.isasync:
            state: State = asyncio.run(await_with_signals(_begin(ready, client, UserThread(runs_function=True))))
            return state
        with flow_signals():
            return step(_begin(ready, client, UserThread(runs_function=True)))
    finally:
        client.journal.flush(client.grace_seconds)


async def retrieve_flow_then_begin_flow_run(
    flow_run_id: UUID, client: EmbeddedClient, user_thread: UserThread
) -> State:
    """Takes a run that was created for later, loads its flow, and takes the run to its end.

    Parameters:
        flow_run_id: The run.
        client: Where it is recorded.
        user_thread: The thread that executes it.

    Returns:
        The state that it is in at the end. The run fails if its flow cannot be loaded, or its parameters do not fit.

    Raises:
        Abort, Pause, ObjectNotFound: As ``enter_flow_run_engine_from_subprocess``.
    """
    ready = await _retrieve(flow_run_id, client)
    if isinstance(ready, State):
        return ready
    if drives_loop() and not ready.flow.isasync:
        # In a thread of its own: a sync function must not find a loop running in its.
        begin = _begin(ready, client, user_thread)
        return await service_threads.submit(lambda: step(begin)).arrive_result()
    return await _begin(ready, client, user_thread)


async def _begin(ready: _Ready, client: EmbeddedClient, user_thread: UserThread) -> State:
    with tags(*ready.run.record.tags):
        state = await begin_with_valid_parameters(ready.flow, ready.run, ready.parameters, client, user_thread)
    if state.is_final():
        # Whoever schedules it anew needs it to be nobody's.
        state._position = client.journal.append(FlowRunUpdated(ready.run.id, {"owner": None}))
    await client.journal_committed(state._position)
    if ready.run.fatal is not None:
        raise ready.run.fatal
    return state


async def _retrieve(id: UUID, client: EmbeddedClient) -> _Ready | State:
    """Returns the run, ready to begin; or the state that it is in, if it is not to begin here."""
    await check_api_reachable(client, "Cannot retrieve a flow run")
    record = await _claim(id, client)
    try:
        flow = await run_blocking(_load, record, client)
        parameters = flow.signature.bind((), record.parameters)
    except Exception as error:
        return await _cannot_begin(ActiveFlowRun(_UNKNOWN_FLOW, record, client), error)
    run = ActiveFlowRun(flow, _filled(record, flow, parameters), client)
    run.goes_on = run.named = record.start_time is not None
    try:
        state = await propose_flow_state(run, State(PENDING))
    except (Abort, Pause):
        client.journal.append(FlowRunUpdated(id, {"owner": None}))
        raise
    if state._type is not PENDING:
        client.journal.append(FlowRunUpdated(id, {"owner": None}))
        return state
    return _Ready(flow, run, parameters)


async def _claim(id: UUID, client: EmbeddedClient) -> FlowRun:
    """Makes this process the run's owner.

    Raises:
        Abort: Another process is, or the run does not wait for one.
    """
    await run_blocking(client.store.reconcile, clock.now())
    record = await client.read_flow_run(id)
    if record.state is not None and record.state.is_final():
        raise Abort(f"Flow run {record.name!r} has ended in state {record.state}. To run it again, schedule it anew.")
    if record.owner is not None:
        raise Abort(f"Flow run {record.name!r} is being executed by a process, so it is not executed by another.")
    if not await run_blocking(client.store.claim_flow_run, id, client.owner, record.owner):
        raise Abort(f"Flow run {record.name!r} was taken by another process.")
    return replace(await client.read_flow_run(id), owner=client.owner)


def _load(record: FlowRun, client: EmbeddedClient) -> Flow[..., Any]:
    deployment = None if record.deployment_id is None else client.store.read_deployment(record.deployment_id)
    if deployment is None:
        raise MissingFlowError(f"Flow run {record.name!r} has no deployment, which would say where its flow is.")
    return load_flow_from_entrypoint(deployment.entrypoint)


def _filled(record: FlowRun, flow: Flow[..., Any], parameters: dict[str, Any]) -> FlowRun:
    """Adds to the record what only the flow knows."""
    return replace(
        record,
        flow_name=flow.name,
        flow_version=flow.version,
        parameters=stored_parameters(parameters),
        retries=flow.retries if record.retries is None else record.retries,
        retry_delay_seconds=(
            flow.retry_delay_seconds if record.retry_delay_seconds is None else record.retry_delay_seconds
        ),
        task_runner=getattr(flow.task_runner, "name", type(flow.task_runner).__name__),
        entrypoint=record.entrypoint or entrypoint_of(flow),
    )


async def _cannot_begin(run: ActiveFlowRun, error: Exception) -> State:
    """Fails a run whose flow cannot be loaded, or whose parameters are not the flow's."""
    from core_engine.exceptions import ParameterBindError

    if isinstance(error, ParameterBindError):
        message = f"Validation of flow parameters failed with error: {exception_text(error)}"
    else:
        message = f"The flow could not be loaded. {exception_text(error)}"
    logger_of_flow_run(run).error(message, exc_info=error)
    state = await propose_flow_state(run, State(FAILED, message=message, data=error), force=True)
    await run.client.journal_committed(state._position)
    return state
