"""Hooks: the user's functions that are called once a final state is recorded and committed (D3)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.threads import service_threads
from core_engine.concurrency.waiting import drives_loop, run_blocking
from core_engine.definitions import is_async
from core_engine.logging import flow_run_logger, task_run_logger
from core_engine.schemas.states import CANCELLING, COMPLETED, CRASHED, FAILED, State

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveFlowRun, ActiveTaskRun
    from core_engine.logging.run_loggers import RunLogger
    from core_engine.tasks import Task


def task_hooks(run: ActiveTaskRun, task: Task[..., Any], state: State) -> Sequence[Callable[..., Any]]:
    """Returns the hooks that a task's final state calls for."""
    if state._type is COMPLETED and state._name != "Cached":
        return task.on_completion or ()
    if state._type is FAILED:
        return task.on_failure or ()
    return ()


async def run_task_hooks(run: ActiveTaskRun, task: Task[..., Any], state: State) -> None:
    """Calls the hooks of a task run in order; an exception in one is logged and changes nothing."""
    hooks = task_hooks(run, task, state)
    if not hooks:
        return
    await run.flow_run.client.journal_committed(state._position)
    snapshot = run.snapshot()
    logger = task_run_logger(snapshot, task=task, log_sink=run.flow_run.client.log_sink)
    for hook in hooks:
        await _run_hook(hook, logger, state, {"task": task, "task_run": snapshot, "state": state})


async def run_flow_hooks(run: ActiveFlowRun, state: State) -> None:
    """Calls the hooks of a flow run that its state calls for, in order; an exception in one is logged."""
    flow = run.flow
    by_type = {
        COMPLETED: flow.on_completion,
        FAILED: flow.on_failure,
        CANCELLING: flow.on_cancellation,
        CRASHED: flow.on_crashed,
    }
    hooks = by_type.get(state._type)
    if not hooks:
        return
    await run.client.journal_committed(state._position)
    snapshot = run.snapshot()
    logger = flow_run_logger(snapshot, flow=flow, log_sink=run.client.log_sink)
    for hook in hooks:
        await _run_hook(hook, logger, state, {"flow": flow, "flow_run": snapshot, "state": state})


async def _run_hook(hook: Callable[..., Any], logger: RunLogger, state: State, arguments: dict[str, Any]) -> None:
    name = getattr(hook, "__name__", type(hook).__name__)
    logger.info("Running hook %r in response to entering state %r", name, state.name)
    try:
        if is_async(hook):
            await _run_async(hook(**arguments))
        else:
            await run_blocking(lambda: hook(**arguments))
    except Exception as error:
        if isinstance(error, TypeError) and not _fits(hook, arguments):
            logger.error(
                "The hook %r was not called: its parameters must be named %s. The run's state %r stands",
                *(name, ", ".join(arguments), state.name),
            )
            return
        logger.exception("The hook %r raised; the run's state %r stands", name, state.name)
    else:
        logger.info("Hook %r finished", name)


async def _run_async(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Awaits a hook: on the loop that drives this, else on one of its own, in a thread that runs no other."""
    if drives_loop():
        await coroutine
    elif asyncio._get_running_loop() is None:
        asyncio.run(coroutine)
    else:
        service_threads.submit(asyncio.run, coroutine).wait_result()


def _fits(hook: Callable[..., Any], arguments: dict[str, Any]) -> bool:
    try:
        inspect.signature(hook).bind(**arguments)
    except TypeError:
        return False
    except ValueError:  # a built-in whose signature cannot be read
        return True
    return True
