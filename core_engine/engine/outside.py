"""Proposals for runs by id: of this process, or recorded by any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from core_engine.concurrency.waiting import run_blocking
from core_engine.engine.active import ActiveFlowRun, ActiveTaskRun, active_flow_run
from core_engine.engine.proposals import propose_flow_state, propose_task_state
from core_engine.lineage import link_handed_over
from core_engine.schemas.states import State

if TYPE_CHECKING:
    from core_engine.client.embedded import EmbeddedClient
    from core_engine.schemas.records import TaskRunGroup


async def propose_for_recorded_run(
    client: EmbeddedClient, state: State, force: bool, task_run_id: UUID | None, flow_run_id: UUID | None
) -> State:
    """Proposes a state for the run of an id and returns the state that it is in then."""
    if flow_run_id is not None:
        answer = await propose_flow_state(await _flow_run(client, flow_run_id), state, force=force)
    else:
        assert task_run_id is not None
        answer = await propose_task_state(await _task_run(client, task_run_id), state, force=force)
    await client.journal_committed(answer._position)
    if answer.is_final() and answer._data is not None and getattr(answer._data, "has_cached_object", bool)():
        link_handed_over(answer, answer._data.read())
    return answer


async def _flow_run(client: EmbeddedClient, id: UUID) -> ActiveFlowRun:
    active = active_flow_run(id)
    if active is not None:
        return active
    record = await client.read_flow_run(id)
    return ActiveFlowRun(_UNKNOWN_FLOW, record, client)


async def _task_run(client: EmbeddedClient, id: UUID) -> ActiveTaskRun:
    record = await client.read_task_run(id)
    flow_run = await _flow_run(client, record.flow_run_id)
    for run_set in flow_run.open_sets():
        for run in list(run_set.active.values()):
            if run.id == id:
                return run
    groups = await run_blocking(client.store.read_task_groups, record.flow_run_id)
    from core_engine.engine.previous import PreviousRuns

    previous = PreviousRuns(groups, {record.id: record})
    for group in groups:
        for index in _index_in(group, id):
            return previous.activate(flow_run, group, index)
    raise AssertionError("a recorded task run belongs to a recorded group")


def _index_in(group: TaskRunGroup, id: UUID) -> list[int]:
    from core_engine.ids import split_id

    prefix, index, _ = split_id(id)
    return [index] if prefix == group.prefix else []


class _UnknownFlow:
    """Stands for the flow of a run that another process executes."""

    name = "unknown"


_UNKNOWN_FLOW: Any = _UnknownFlow()
