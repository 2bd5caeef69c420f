"""Resuming: a flow run that has ended, or whose process died, is executed again as the same run, and no task run whose
stored result still fits is executed twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from core_engine import clock
from core_engine.client.embedded import get_client
from core_engine.concurrency.waiting import run_blocking, step
from core_engine.context import FlowRunContext, TaskRunContext, tags
from core_engine.engine.active import ActiveFlowRun
from core_engine.engine.flow_calls import UserThread
from core_engine.engine.flow_runs import begin_with_valid_parameters, returned
from core_engine.engine.loading import entrypoint_of
from core_engine.engine.proposals import propose_flow_state
from core_engine.engine.reachable import check_api_reachable
from core_engine.engine.resumption import ResumeTotals, Resumption
from core_engine.engine.run_logs import logger_of_flow_run
from core_engine.engine.signals import await_with_signals, flow_signals
from core_engine.engine.stored_parameters import cannot_be_restored, stored_parameters
from core_engine.exceptions import ParameterBindError
from core_engine.logging import setup_logging
from core_engine.schemas.states import COMPLETED, FINAL_TYPES, PAUSED, PENDING, State
from core_engine.settings import temporary_settings

if TYPE_CHECKING:
    from core_engine.backend.store import Store
    from core_engine.client.embedded import EmbeddedClient
    from core_engine.flows import Flow
    from core_engine.schemas.records import FlowRun


class Resume:
    """A flow run that this process has taken up again, ready to be executed.

    Attributes:
        flow, run: The flow, and its run as this process executes it.
        totals: What has been used again so far.
    """

    def __init__(self, flow: Flow[..., Any], run: ActiveFlowRun, parameters: dict[str, Any]) -> None:
        self.flow = flow
        self.run = run
        self.totals = ResumeTotals()
        self._parameters = parameters

    def begin(self, return_type: str) -> Any:
        """Executes the run and returns its state or result, by `return_type`; an awaitable if the flow is async."""
        begin = self._begin(return_type)
        if self.flow.isasync:
            return await_with_signals(begin)
        with flow_signals():
            return step(begin)

    async def _begin(self, return_type: str) -> Any:
        run, client = self.run, self.run.client
        digests = await run_blocking(client.store.read_input_digests, run.id)
        run.resumption = Resumption(digests, self.totals)
        with tags(*run.record.tags), temporary_settings({"RESUMABLE": True}):
            await propose_flow_state(run, State(PENDING, message="The flow run is resumed."), force=True)
            logger = logger_of_flow_run(run)
            stored, completed = await run_blocking(count_stored_results, client.store, run.id)
            logger.info("Resuming: %s of %s completed task runs have a stored result", f"{stored:,}", f"{completed:,}")
            state = await begin_with_valid_parameters(
                self.flow, run, self._parameters, client, UserThread(runs_function=True)
            )
        for line in self.totals.lines():
            logger.info("Resumed: %s", line)
        await client.journal_committed(client.journal.position)
        if run.fatal is not None:
            raise run.fatal
        return await returned(state, return_type, self.flow)


def enter_flow_run_engine_from_resume(
    flow: Flow[..., Any], flow_run_id: UUID, parameters: Mapping[str, Any] | None, return_type: str
) -> Any:
    """What ``Flow.resume`` does.

    Parameters:
        flow: The flow of the run.
        flow_run_id: The run.
        parameters: Those that cannot be restored from its record, or are to be others; None: none.
        return_type: "state" or "result".

    Returns:
        What `return_type` says; an awaitable of it if the flow is async.

    Raises:
        RuntimeError: In a flow or task; the run has not ended, has completed, or is a subflow's.
        ParameterBindError: A parameter cannot be restored and is not given, or is none of the flow's.
        ObjectNotFound: There is no such flow run.
    """
    if FlowRunContext.get() is not None or TaskRunContext.get() is not None:
        raise RuntimeError("A flow run is resumed outside of flows and tasks: there it would be a part of another one.")
    if not flow.isasync:
        return step(take_up(flow, flow_run_id, parameters)).begin(return_type)

    async def take_up_and_begin() -> Any:
        return await (await take_up(flow, flow_run_id, parameters)).begin(return_type)

    return take_up_and_begin()


async def take_up(flow: Flow[..., Any], id: UUID, parameters: Mapping[str, Any] | None) -> Resume:
    """Makes this process the owner of a flow run that has ended; raises as ``enter_flow_run_engine_from_resume``."""
    setup_logging()
    client = get_client()
    await check_api_reachable(client, "Cannot resume a flow run")
    await run_blocking(client.store.reconcile, clock.now())
    record = await client.read_flow_run(id)
    check_can_resume(record)
    bound = _restored(flow, record, parameters or {})
    if not await run_blocking(client.store.claim_flow_run, id, client.owner, record.owner):
        raise RuntimeError(f"Flow run {record.name!r} was taken by another process.")
    run = ActiveFlowRun(flow, record_for(flow, record, bound, client), client)
    run.goes_on = run.named = record.start_time is not None
    return Resume(flow, run, bound)


def check_can_resume(record: FlowRun) -> None:
    """Checks that a flow run has ended, and not well.

    Raises:
        RuntimeError: It has not, or it is a subflow's.
    """
    state = record.state
    if record.parent_task_run_id is not None:
        raise RuntimeError(
            f"Flow run {record.name!r} is that of a subflow. Resume the flow run that called it, which resumes it too."
        )
    if state is None or state._type not in FINAL_TYPES:
        hint = " Its pause ends with: core-engine resume." if state is not None and state._type is PAUSED else ""
        raise RuntimeError(f"Flow run {record.name!r} has not ended: it is in state {state}.{hint}")
    if state._type is COMPLETED:
        raise RuntimeError(f"Flow run {record.name!r} has completed, so there is nothing to resume.")


def record_for(flow: Flow[..., Any], record: FlowRun, parameters: dict[str, Any], client: EmbeddedClient) -> FlowRun:
    """Returns the record of a flow run that this process executes once more."""
    return replace(
        record,
        flow_version=flow.version,
        parameters=stored_parameters(parameters),
        task_runner=getattr(flow.task_runner, "name", type(flow.task_runner).__name__),
        owner=client.owner,
        entrypoint=entrypoint_of(flow) or record.entrypoint,
    )


def _restored(flow: Flow[..., Any], record: FlowRun, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters of a recorded run, of which `given` replaces some."""
    lost = [name for name, value in record.parameters.items() if name not in given and cannot_be_restored(name, value)]
    if lost:
        raise ParameterBindError(
            f"The record of flow run {record.name!r} does not hold the values of {', '.join(lost)}: secrets and what "
            "JSON cannot say are not stored. Give them again: flow.resume(id, parameters={...}), or -p name=value."
        )
    signature = flow.signature
    values = {**record.parameters, **given}
    positional = tuple(values.pop(signature.var_positional or "", ()))
    named = values.pop(signature.var_keyword or "", {})
    bound = signature.bind((), {**values, **named})
    if signature.var_positional is not None:
        bound[signature.var_positional] = positional
    return bound


def count_stored_results(store: Store, flow_run_id: UUID) -> tuple[int, int]:
    """Returns how many task runs of a flow run and its subflows have a stored result, and how many completed."""
    stored = completed = 0
    for id in _family(store, flow_run_id):
        for run in store.read_task_runs(id, state_types=[COMPLETED]):
            if not run.is_subflow:
                completed += 1
                stored += run.state is not None and getattr(type(run.state._data), "stored", False) is True
    return stored, completed


def _family(store: Store, flow_run_id: UUID) -> Iterator[UUID]:
    """Yields a flow run and those of its subflows."""
    yield flow_run_id
    for group in store.read_task_groups(flow_run_id):
        if group.kind == "subflow":
            for child in store.read_flow_runs(parent_task_run_id=group.run_id(0)):
                yield from _family(store, child.id)
