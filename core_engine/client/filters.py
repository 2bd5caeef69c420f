"""By what runs and log lines can be asked for: the keywords that the clients' reads have in common with the store's."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypedDict
from uuid import UUID

from core_engine.backend.store import Order
from core_engine.schemas.states import StateType


class FlowRunFilters(TypedDict, total=False):
    """Which flow runs; see ``Store.read_flow_runs``."""

    name: str | None
    flow_name: str | None
    state_types: Collection[StateType] | None
    state_names: Collection[str] | None
    tags: Collection[str] | None
    parent_task_run_id: UUID | None
    order: Order
    limit: int | None
    offset: int


class TaskRunFilters(TypedDict, total=False):
    """Which task runs of a flow run; see ``Store.read_task_runs``."""

    task_name: str | None
    state_types: Collection[StateType] | None
    state_names: Collection[str] | None
    order: Order
    limit: int | None
    offset: int


class LogFilters(TypedDict, total=False):
    """Which log lines; see ``Store.read_logs``."""

    min_level: int | None
    after: int | None
    limit: int | None
