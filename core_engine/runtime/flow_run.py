"""Attributes of the current flow run: ``id``, ``tags``, ``scheduled_start_time``, ``name``, ``flow_name``,
``parameters``, ``parent_flow_run_id``, ``parent_deployment_id``, ``run_count``."""

from __future__ import annotations

import os
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
    id = _id_from_elsewhere()
    return None if id is None else _read(UUID(id))


def _read(id: UUID) -> FlowRun:
    from core_engine.client.embedded import get_client

    return step(get_client().read_flow_run(id))


def _id_from_elsewhere() -> str | None:
    task_context = TaskRunContext.get()
    if task_context is not None:
        return str(task_context.task_run.flow_run_id)
    return os.environ.get(ID_VARIABLE)


def _id() -> str | None:
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        return str(context.flow_run.id)
    return _id_from_elsewhere()


def _of_record(name: str, otherwise: Any) -> Any:
    def read() -> Any:
        record = _record()
        return otherwise() if record is None else getattr(record, name)

    return read


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


_FIELDS = {
    "id": _id,
    "tags": _tags,
    "scheduled_start_time": _of_record("expected_start_time", lambda: datetime.now(UTC)),
    "name": _of_record("name", lambda: None),
    "flow_name": _of_record("flow_name", lambda: None),
    "parameters": _parameters,
    "parent_flow_run_id": _parent_flow_run_id,
    "parent_deployment_id": _parent_deployment_id,
    "run_count": _of_record("run_count", lambda: 0),
}
