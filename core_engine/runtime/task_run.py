"""Attributes of the current task run: ``id``, ``tags``, ``name``, ``parameters``, ``run_count``, ``task_name``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core_engine.context import TaskRunContext
from core_engine.runtime.mocks import lookup


def __getattr__(name: str) -> Any:
    return lookup("task_run", name, _FIELDS)


def __dir__() -> list[str]:
    return sorted(_FIELDS)


def _of_context(read: Callable[[TaskRunContext], Any], otherwise: Callable[[], Any]) -> Callable[[], Any]:
    def value() -> Any:
        context = TaskRunContext.get()
        return otherwise() if context is None else read(context)

    return value


_FIELDS: dict[str, Callable[[], Any]] = {
    "id": _of_context(lambda context: str(context.task_run.id), lambda: None),
    "tags": _of_context(lambda context: sorted(context.task_run.tags), list),
    "name": _of_context(lambda context: context.task_run.name, lambda: None),
    "parameters": _of_context(lambda context: dict(context.parameters), dict),
    "run_count": _of_context(lambda context: context.task_run.run_count, lambda: 0),
    "task_name": _of_context(lambda context: context.task.name, lambda: None),
}
