"""Calling a flow's function: in the caller's thread, or as part of its loop's task, within the flow's time limit."""

from __future__ import annotations

import asyncio
import threading
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.interrupts import await_user_code, call_interruptibly, current_section
from core_engine.concurrency.loops import Timer, engine_loop
from core_engine.concurrency.threads import service_threads
from core_engine.engine.cancellation import ExecutingTask, FlowRunCancelled, interrupt_functions
from core_engine.engine.overdue import (
    LATE_SECONDS,
    FlowExpired,
    FlowTimedOut,
    cancel_task_runs,
    limit_exceeded,
    record_timed_out,
)

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveFlowRun
    from core_engine.engine.flow_calls import UserThread
    from core_engine.flows import Flow

INTERRUPT_AGAIN_SECONDS = 0.1


async def call_flow_function(
    flow: Flow[..., Any], run: ActiveFlowRun, parameters: dict[str, Any], user_thread: UserThread
) -> Any:
    """Calls the flow's function and returns what it returns.

    Raises:
        FlowTimedOut: It did not end within the flow's timeout.
        FlowRunCancelled: The run was cancelled.
        BaseException: What it raised.
    """
    args, kwargs = flow.signature.arguments(parameters)
    if flow.isasync:
        value = await _call_async(flow, run, args, kwargs)
    else:
        value = _call_sync(flow, run, args, kwargs)
    _check_in_time(run)  # a value that comes late is dropped
    return value


def _check_in_time(run: ActiveFlowRun) -> None:
    limit = limit_exceeded(run)
    if limit is not None:
        raise FlowTimedOut(limit) from None


async def _call_async(flow: Flow[..., Any], run: ActiveFlowRun, args: Any, kwargs: Any) -> Any:
    run.executing = executing = ExecutingTask()
    limit = asyncio.timeout(flow.timeout_seconds)
    alarm = None if flow.timeout_seconds is None else _Alarm(run, flow.timeout_seconds, interrupts=False)
    try:
        async with limit:
            return await await_user_code(flow.fn, args, kwargs)
    except Exception:
        _check_in_time(run)  # an exception that comes late as well
        raise
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if run.cancelling and current is not None:
            current.uncancel()
            raise FlowRunCancelled from None
        raise
    finally:
        executing.ended()
        _has_ended(run)
        if alarm is not None:
            alarm.stop()


def _call_sync(flow: Flow[..., Any], run: ActiveFlowRun, args: Any, kwargs: Any) -> Any:
    section = current_section()
    run.executing = section
    alarm = None if flow.timeout_seconds is None else _Alarm(run, flow.timeout_seconds, interrupts=True)
    try:
        value = call_interruptibly(section, run, flow.fn, args, kwargs)
        # A generator's body may start task runs, which are waited for before the run ends.
        return value if type(value) is not GeneratorType else call_interruptibly(section, run, list, (value,), {})
    except (Exception, FlowExpired, asyncio.CancelledError):
        _check_in_time(run)  # an exception that comes late as well
        raise
    finally:
        if alarm is not None:
            alarm.stop()
        _has_ended(run)


def _has_ended(run: ActiveFlowRun) -> None:
    """The function has ended: from now on the run's own execution decides what it comes to."""
    with run.decisions:
        run.executing = None


def _end_functions_that_go_on(run: ActiveFlowRun, timeout_seconds: float) -> None:
    """Records the end of a flow run whose function goes on after the deadline, and of those below it."""
    from core_engine.engine.run_logs import logger_of_flow_run

    for child in list(run.children):
        _end_functions_that_go_on(child, timeout_seconds)
    if run.executing is not None and record_timed_out(run, timeout_seconds):
        logger_of_flow_run(run).warning(
            "Flow run exceeded its timeout of %s seconds. Its code did not end with it; its value will be dropped.",
            timeout_seconds,
        )


class _Alarm:
    """Interrupts a flow's function at its deadline, until it has ended; the end of one that goes on is recorded.

    ``_lock`` orders ringing and stopping.

    Parameters:
        run: The flow run.
        timeout_seconds: The limit.
        interrupts: Whether the function is interrupted from here; an async one is by its loop, with async subflows.
    """

    def __init__(self, run: ActiveFlowRun, timeout_seconds: float, interrupts: bool) -> None:
        self._run = run
        self._timeout_seconds = timeout_seconds
        self._interrupts = interrupts
        self._is_late = False
        self._stopped = False
        self._lock = threading.Lock()
        self._timer: Timer = engine_loop().call_later(timeout_seconds, self._ring)

    def _ring(self) -> None:
        with self._lock:
            if self._stopped:
                return
            self._interrupt()
            service_threads.run(lambda: cancel_task_runs(self._run))
            if self._is_late:
                service_threads.run(lambda: _end_functions_that_go_on(self._run, self._timeout_seconds))
            again_seconds = INTERRUPT_AGAIN_SECONDS if self._is_late else LATE_SECONDS
            self._is_late = True
            self._timer = engine_loop().call_later(again_seconds, self._ring)

    def _interrupt(self) -> None:
        if self._interrupts:
            interrupt_functions(self._run, FlowExpired)
            return
        for child in list(self._run.children):
            if not child.flow.isasync:  # an async one is part of what the loop cancels
                interrupt_functions(child, FlowExpired)

    def stop(self) -> None:
        while True:
            try:
                with self._lock:
                    self._stopped = True
                self._timer.cancel()
                return
            except FlowExpired:
                continue  # it rang just as the function ended
