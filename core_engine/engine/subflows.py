"""Subflows: a flow called in a flow is a flow run of its own, and a task run that stands for it in its parent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from core_engine import clock, ids
from core_engine.backend.entries import TaskRunsCreated, TaskRunUpdated
from core_engine.concurrency.waiting import run_blocking
from core_engine.context import FlowRunContext, TagsContext
from core_engine.engine.active import ActiveFlowRun, ActiveTaskRun
from core_engine.engine.crashes import report_flow_run_crashes
from core_engine.engine.flow_runs import begin_with_valid_parameters, new_flow_run, returned
from core_engine.engine.holds import until_it_may_start
from core_engine.engine.inputs import inputs_by_parameter, resolve_inputs
from core_engine.engine.proposals import propose_flow_state
from core_engine.exceptions import UpstreamTaskError
from core_engine.logging import get_run_logger
from core_engine.schemas.records import TaskPolicy, TaskRunGroup
from core_engine.schemas.states import COMPLETED, PENDING, State
from core_engine.utilities.importing import lasting_module_name

if TYPE_CHECKING:
    from core_engine.client.embedded import EmbeddedClient
    from core_engine.engine.flow_calls import UserThread
    from core_engine.flows import Flow


async def create_and_begin_subflow_run(
    flow: Flow[..., Any],
    parameters: dict[str, Any],
    wait_for: Sequence[Any] | None,
    return_type: str,
    client: EmbeddedClient,
    user_thread: UserThread,
) -> Any:
    """Creates a subflow's run and takes it to its end; its state counts for what the parent comes to.

    Parameters and errors as ``create_then_begin_flow_run``; an upstream in the parameters that did not complete
    raises to the parent.
    """
    context = FlowRunContext.get()
    assert context is not None
    parent = context.run
    assert parent is not None
    await until_it_may_start(parent)
    inputs = inputs_by_parameter(parameters, wait_for)
    given, parameters = parameters, await resolve_inputs(parameters)
    stand_in = _stand_in(flow, parent, inputs)
    reused = await _reusable(parent, stand_in) if await _may_be_reused(flow, parent, stand_in, given) else None
    if reused is not None:
        parent.subflow_states.append(reused)
        return await returned(reused, return_type, flow)
    run = await _resumed(flow, parameters, client, parent, stand_in)
    if run is None:
        run = new_flow_run(flow, parameters, client, parent, stand_in.id)
        run.stand_in = stand_in
        client.journal.append(TaskRunUpdated(stand_in.group, stand_in.index, {"child_flow_run_id": run.id}))
        get_run_logger().info("Created subflow run '%s' for flow '%s'", run.record.name, flow.name)
    try:
        async with report_flow_run_crashes(run, client, flow):
            state = await _begin(flow, run, parameters, wait_for, client, user_thread)
    finally:
        # Counts for the parent also when it crashed, and the parent's function goes on all the same.
        assert run.progress.state is not None
        parent.subflow_states.append(run.progress.state)
    await client.journal_committed(state._position)
    return await returned(state, return_type, flow)


async def _begin(
    flow: Flow[..., Any],
    run: ActiveFlowRun,
    parameters: dict[str, Any],
    wait_for: Sequence[Any] | None,
    client: EmbeddedClient,
    user_thread: UserThread,
) -> State:
    if wait_for:
        try:
            await resolve_inputs({"wait_for": list(wait_for)}, return_data=False)
        except UpstreamTaskError as error:
            return await propose_flow_state(run, State(PENDING, name="NotReady", message=str(error)), force=True)
    return await begin_with_valid_parameters(flow, run, parameters, client, user_thread)


def _stand_in(flow: Flow[..., Any], parent: ActiveFlowRun, inputs: dict[str, Any]) -> ActiveTaskRun:
    """Makes the task run that stands for the child in its parent, or takes up the one of an earlier attempt."""
    task_key = f"{lasting_module_name(flow.fn.__module__)}.{getattr(flow.fn, '__qualname__', flow.name)}"
    group = TaskRunGroup(
        prefix=ids.new_prefix(),
        flow_run_id=parent.id,
        task_key=task_key,
        task_name=flow.name,
        created=clock.now(),
        first_index=parent.reserve(task_key, 1),
        kind="subflow",
        task_version=flow.version,
        tags=frozenset(TagsContext.get().current_tags),
        policy=TaskPolicy(),
        task_inputs=inputs,
    )
    if parent.previous is not None:
        origins, _ = parent.previous.origins(group)
        if origins is not None:
            return parent.previous.activate(parent, *origins[0])
    parent.client.journal.append(TaskRunsCreated(group))
    return ActiveTaskRun(parent, group, 0, group.first_state(0))


async def _may_be_reused(
    flow: Flow[..., Any], parent: ActiveFlowRun, stand_in: ActiveTaskRun, parameters: dict[str, Any]
) -> bool:
    """Returns whether a child of the parent's earlier attempt may stand for this call: in a resumed flow run, whether
    it was made of the same."""
    resumption = parent.resumption
    if resumption is None:
        return True
    is_known = await run_blocking(resumption.admit_subflow, flow.fn, parameters, stand_in, parent.previous)
    return is_known or not resumption.reuses


async def _resumed(
    flow: Flow[..., Any],
    parameters: dict[str, Any],
    client: EmbeddedClient,
    parent: ActiveFlowRun,
    stand_in: ActiveTaskRun,
) -> ActiveFlowRun | None:
    """Returns the run of a child that ended before its resumed parent did, to go on; None if there is none."""
    from core_engine.engine.resuming import record_for

    resumption = parent.resumption
    before = None if parent.previous is None else parent.previous.find(stand_in.group, stand_in.index)
    if resumption is None or not resumption.reuses or before is None or before.child_flow_run_id is None:
        return None
    store = client.store
    record = await run_blocking(store.read_flow_run, before.child_flow_run_id)
    if record is None or record.state is None or not record.state.is_final():
        return None
    run = ActiveFlowRun(flow, record_for(flow, record, parameters, client), client, parent)
    run.stand_in = stand_in
    run.goes_on = run.named = record.start_time is not None
    run.resumption = resumption.for_child(await run_blocking(store.read_input_digests, record.id))
    await propose_flow_state(run, State(PENDING, message="The flow run is resumed."), force=True)
    get_run_logger().info("Resuming subflow run '%s' of flow '%s'", record.name, flow.name)
    return run


async def _reusable(parent: ActiveFlowRun, stand_in: ActiveTaskRun) -> State | None:
    """Returns the final state of the child that an earlier attempt ran, if it completed and its value can be had."""
    if parent.previous is None or stand_in.state._type is not COMPLETED:
        return None
    record = parent.previous.find(stand_in.group, stand_in.index)
    if record is None or record.child_flow_run_id is None:
        return None
    child = await run_blocking(parent.client.store.read_flow_run, record.child_flow_run_id)
    if child is None or child.state is None or not getattr(type(child.state._data), "stored", False):
        return None
    state: State = child.state
    return state
