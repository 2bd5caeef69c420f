"""What type checkers must make of futures in bulk, annotations, contexts and the client. Read by them, never run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import assert_type
from uuid import UUID

from core_engine import State, TaskFuture, as_completed, get_client, tags, task, unmapped
from core_engine.backend.store import StoredLog
from core_engine.client import Explanation
from core_engine.context import FlowRunContext, TaskRunContext
from core_engine.futures import AsyncTaskFuture
from core_engine.schemas.records import Event, FlowRun, TaskRun
from core_engine.schemas.states import StateType


@task
def double(x: int) -> int:
    return 2 * x


@task
async def fetch(url: str) -> bytes:
    return url.encode()


def futures_come_back_as_they_complete() -> None:
    for future in as_completed(double.map([1, 2]), timeout=10):
        assert_type(future, TaskFuture[int])
        assert_type(future.result(), int)


async def futures_of_async_tasks_come_back_to_be_awaited() -> None:
    async for future in as_completed(await fetch.map(["a"])):
        assert_type(future, AsyncTaskFuture[bytes])
        assert_type(await future.result(), bytes)


def an_annotation_knows_what_it_holds() -> None:
    assert_type(unmapped([1]).unwrap(), list[int])


def tags_are_a_set() -> None:
    with tags("a", "b") as current:
        assert_type(current, set[str])


def contexts_may_be_missing() -> None:
    flow_context = FlowRunContext.get()
    assert_type(flow_context, FlowRunContext | None)
    task_context = TaskRunContext.get()
    if task_context is not None:
        assert_type(task_context.task_run, TaskRun)


async def the_client_reads_records(id: UUID) -> None:
    async with get_client() as client:
        assert_type(await client.read_flow_run(id), FlowRun)
        since = datetime(2026, 1, 1, tzinfo=UTC)
        runs = await client.read_flow_runs(since=since, state_types=[StateType.FAILED], order="asc", limit=1)
        assert_type(runs, list[FlowRun])
        assert_type(await client.read_task_run(id), TaskRun)
        assert_type(await client.read_task_runs(id, task_name="double"), list[TaskRun])
        assert_type(await client.read_states(id), list[State])
        assert_type(await client.read_events(id), list[Event])
        assert_type(await client.read_logs(flow_run_id=id, min_level=30), list[StoredLog])
        await client.read_flow_runs(since=0.0)  # type: ignore[arg-type]
        await client.read_task_runs(id, flow_name="double")  # type: ignore[call-arg]
        explanation = await client.why(id)
        assert_type(explanation, Explanation)
        assert_type(explanation.reason, str)
        deployment_id = await client.create_deployment("nightly", "crawl", "flows.py:crawl", {"limit": 1})
        assert_type(deployment_id, UUID)
        assert_type(await client.create_flow_run_from_deployment(deployment_id), FlowRun)
