"""Attributes of the current flow run: ``id``, ``tags``, ``scheduled_start_time``, ``name``, ``flow_name``,
``parameters``, ``parent_flow_run_id``, ``parent_deployment_id``, ``run_count``."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from core_engine.concurrency.waiting import step
from core_engine.context import FlowRunContext, TaskRunContext
from core_engine.runtime.mocks import lookup
from core_engine.schemas.records import FlowRun

ID_VARIABLE = "CORE_ENGINE__FLOW_RUN_ID"


def __getattr__(name: str) -> Any:
    return lookup("flow_run", name, _FIELDS)


def __dir__() -> list[str]:
    return sorted(_FIELDS)


def _record() -> FlowRun | None:
    """Returns the current run's record: the context's, that of the task's flow run, or that of the environment's."""
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        return context.flow_run if context.run is None else context.run.snapshot()
    id = _id()
    return None if id is None else _read(_as_id(id))


def _run_of_worker() -> Any:
    """Returns what stands for the flow run where a task executes without it, on a worker in another process, where it
    must not be read from a database; None elsewhere."""
    if FlowRunContext.get() is not None:
        return None
    task_context = TaskRunContext.get()
    active = None if task_context is None else task_context.active
    return None if active is None else active.flow_run


def _read(id: UUID) -> FlowRun:
    from core_engine.client.embedded import get_client

    return step(get_client().read_flow_run(id))


def _as_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ValueError(f"The environment variable {ID_VARIABLE} must hold a flow run's id, not {text!r}.") from None


def _id() -> str | None:
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        return str(context.flow_run.id)
    task_context = TaskRunContext.get()
    if task_context is not None:
        return str(task_context.task_run.flow_run_id)
    return os.environ.get(ID_VARIABLE)


def _of_record(name: str, otherwise: Any) -> Any:
    def read() -> Any:
        record = _record()
        return otherwise() if record is None else getattr(record, name)

    return read


def _run_count() -> int:
    record = _record()
    return 0 if record is None else record.run_count


def _tags() -> list[str]:
    record = _record()
    return [] if record is None else sorted(record.tags)


def _parameters() -> dict[str, Any]:
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        return dict(context.parameters)
    record = _record()
    return {} if record is None else record.parameters


def _parent_flow_run_id() -> str | None:
    context = FlowRunContext.get()
    if context is not None and context.run is not None:
        return None if context.run.parent is None else str(context.run.parent.id)
    record = _record()
    if record is None or record.parent_task_run_id is None:
        return None
    from core_engine.client.embedded import get_client

    return str(step(get_client().read_task_run(record.parent_task_run_id)).flow_run_id)


def _parent_deployment_id() -> str | None:
    record = _record()
    return None if record is None or record.deployment_id is None else str(record.deployment_id)


def _on_worker(read: Callable[[Any], Any], elsewhere: Callable[[], Any]) -> Callable[[], Any]:
    """Reads a field of what travelled with the task, where that stands for the flow run."""

    def field() -> Any:
        run = _run_of_worker()
        return elsewhere() if run is None else read(run)

    return field


_FIELDS = {
    "id": _id,
    "tags": _on_worker(lambda run: list(run.facts.tags), _tags),
    "scheduled_start_time": _on_worker(
        lambda run: run.facts.scheduled_start_time, _of_record("expected_start_time", lambda: datetime.now(UTC))
    ),
    "name": _on_worker(lambda run: run.record.name, _of_record("name", lambda: None)),
    "flow_name": _on_worker(lambda run: run.record.flow_name, _of_record("flow_name", lambda: None)),
    "parameters": _on_worker(lambda run: run.facts.read_parameters(), _parameters),
    "parent_flow_run_id": _on_worker(lambda run: run.facts.parent_flow_run_id, _parent_flow_run_id),
    "parent_deployment_id": _on_worker(lambda run: run.facts.parent_deployment_id, _parent_deployment_id),
    "run_count": _on_worker(lambda run: run.progress.run_count, _run_count),
}
