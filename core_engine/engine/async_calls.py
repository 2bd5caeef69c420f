"""Async user functions: their deadline and cancellation are those of the event loop's task that they are part of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.interrupts import await_user_code
from core_engine.engine.cancellation import ExecutingTask, TaskRunCancelled
from core_engine.engine.timeouts import TimedOut

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveTaskRun
    from core_engine.tasks import Task


async def call_async(run: ActiveTaskRun, task: Task[..., Any], args: Any, kwargs: Any) -> Any:
    """Awaits the task's function on the running loop.

    Raises:
        TimedOut: It did not end within the task's timeout.
        TaskRunCancelled: The run was cancelled.
    """
    executing = ExecutingTask()
    run.executed_by(executing)
    try:
        if task.timeout_seconds is None:
            return await await_user_code(task.fn, args, kwargs)
        return await _in_time(await_user_code(task.fn, args, kwargs), task.timeout_seconds)
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if run.is_cancelled() and current is not None:
            current.uncancel()
            raise TaskRunCancelled from None
        raise
    finally:
        executing.ended()


async def _in_time(awaitable: Any, timeout_seconds: float) -> Any:
    limit = asyncio.timeout(timeout_seconds)
    try:
        async with limit:
            return await awaitable
    except TimeoutError:
        if limit.expired():
            raise TimedOut(timeout_seconds, abandoned=False) from None
        raise
