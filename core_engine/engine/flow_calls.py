"""Calls of flows: who runs what, and in which thread."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from core_engine.client.embedded import get_client
from core_engine.concurrency.threads import service_threads
from core_engine.concurrency.waiting import step
from core_engine.context import FlowRunContext, ObjectRegistry, TaskRunContext
from core_engine.engine.flow_runs import create_then_begin_flow_run
from core_engine.engine.forks import leave_inherited_runs
from core_engine.engine.inputs import listed_upstreams
from core_engine.engine.main_guard import is_reimported_by_child
from core_engine.engine.signals import await_with_signals, flow_signals
from core_engine.engine.subflows import create_and_begin_subflow_run
from core_engine.logging import get_logger, setup_logging

if TYPE_CHECKING:
    from core_engine.flows import Flow


class UserThread:
    """The thread that called a flow, as far as the engine must know it.

    Attributes:
        runs_function: Whether a sync flow's function runs in it: not when the caller is async code, whose loop would
            find itself running inside the function.
    """

    __slots__ = ("runs_function",)

    def __init__(self, runs_function: bool) -> None:
        self.runs_function = runs_function


def enter_flow_run_engine_from_flow_call(
    flow: Flow[..., Any], parameters: dict[str, Any], wait_for: Iterable[Any] | None, return_type: str
) -> Any:
    """What a flow's call does.

    Parameters:
        flow: The flow.
        parameters: Bound to its signature.
        wait_for: For a subflow: upstreams without data; None: none.
        return_type: "result" or "state".

    Returns:
        What `return_type` says; an awaitable of it if the flow is async and its caller can await. None, with a
        warning, while a script is only being loaded to find its flows, or imported again by a child process.

    Raises:
        RuntimeError: Inside a task.
        ValueError: `wait_for` on a flow that is no subflow.
    """
    registry = ObjectRegistry.get()
    if registry is not None and registry.block_code_execution:
        get_logger("engine").warning(
            "Flow %r was called while its script was only being loaded, so it does not run. "
            "Guard the call with: if __name__ == '__main__':",
            flow.name,
        )
        return None
    if is_reimported_by_child():
        get_logger("engine").warning(
            "Flow %r is not run again in this child process, which imports the main script. "
            "Guard the call there with: if __name__ == '__main__':",
            flow.name,
        )
        return _nothing() if flow.isasync else None
    leave_inherited_runs()
    if TaskRunContext.get() is not None:
        raise RuntimeError(
            f"Flow {flow.name!r} was called inside a task; flows cannot run in tasks. Call it from a flow."
        )
    setup_logging()
    parent = FlowRunContext.get()
    if parent is None or parent.run is None:
        return _enter_root(flow, parameters, wait_for, return_type)
    return _enter_subflow(flow, parameters, wait_for, return_type, parent)


async def _nothing() -> None:
    """What an async flow that does not run is awaited to."""


def _enter_root(flow: Flow[..., Any], parameters: dict[str, Any], wait_for: Any, return_type: str) -> Any:
    if wait_for is not None:
        raise ValueError(f"wait_for was given to flow {flow.name!r}, which is no subflow here; only subflows can wait.")
    user_thread = UserThread(runs_function=True)
    begin = create_then_begin_flow_run(flow, parameters, None, return_type, get_client(), user_thread)
    if flow.isasync:
        return await_with_signals(begin)
    with flow_signals():
        return step(begin)


def _enter_subflow(
    flow: Flow[..., Any], parameters: dict[str, Any], wait_for: Any, return_type: str, parent: FlowRunContext
) -> Any:
    from core_engine.engine.task_calls import _check_going_on

    assert parent.run is not None
    _check_going_on(parent.run)
    wait_for = listed_upstreams(wait_for)

    def begin(runs_function: bool) -> Coroutine[Any, Any, Any]:
        return create_and_begin_subflow_run(
            flow, parameters, wait_for, return_type, parent.client, UserThread(runs_function)
        )

    in_loop = asyncio._get_running_loop() is not None
    if flow.isasync:
        if parent.flow.isasync:
            return begin(True)
        # A sync parent gets the value: the child has a loop of its own, in this thread if it has none yet.
        if in_loop:
            return service_threads.submit(asyncio.run, begin(True)).wait_result()
        return asyncio.run(await_with_signals(begin(True)))
    if parent.flow.isasync:
        return service_threads.submit(lambda: step(begin(True))).wait_result()
    return step(begin(True))
