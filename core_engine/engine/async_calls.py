"""Async user functions: their deadline and cancellation are those of the event loop's task that they are part of."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.interrupts import await_user_code
from core_engine.engine.cancellation import ExecutingTask, TaskRunCancelled
from core_engine.engine.timeouts import Expired, TimedOut

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveTaskRun
    from core_engine.tasks import Task


async def call_async(run: ActiveTaskRun, task: Task[..., Any], args: Any, kwargs: Any) -> Any:
    """Awaits the task's function on the running loop.

    Raises:
        TimedOut: It did not end within the task's timeout.
        TaskRunCancelled: The run was cancelled.
        LeftBehind: The engine has ended the run meanwhile.
    """
    limit = task.timeout_seconds
    executing = ExecutingTask(None if limit is None else time.monotonic() + limit)
    run.executed_by(executing)
    try:
        if limit is None:
            return await await_user_code(task.fn, args, kwargs)
        assert executing.deadline is not None
        return await _in_time(await_user_code(task.fn, args, kwargs), limit, executing.deadline)
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if run.is_cancelled() and current is not None:
            current.uncancel()
            raise TaskRunCancelled from None
        raise
    finally:
        executing.ended()


async def _in_time(awaitable: Any, timeout_seconds: float, deadline: float) -> Any:
    limit = asyncio.timeout(timeout_seconds)
    try:
        async with limit:
            value = await awaitable
    except Expired:  # it held the loop, whose own timer could not come
        raise TimedOut(timeout_seconds, abandoned=False) from None
    except TimeoutError:
        if limit.expired():
            raise TimedOut(timeout_seconds, abandoned=False) from None
        raise
    if time.monotonic() >= deadline:  # it swallowed the cancellation, or held the loop
        raise TimedOut(timeout_seconds, abandoned=False)
    return value
