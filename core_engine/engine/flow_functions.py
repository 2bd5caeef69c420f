"""Calling a flow's function: in the caller's thread, or as part of its loop's task, within the flow's time limit."""

from __future__ import annotations

import asyncio
import threading
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.interrupts import Interrupt, call_interruptibly, current_section
from core_engine.concurrency.loops import Timer, engine_loop
from core_engine.engine.cancellation import ExecutingTask, FlowRunCancelled

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveFlowRun
    from core_engine.engine.flow_calls import UserThread
    from core_engine.flows import Flow

INTERRUPT_AGAIN_SECONDS = 0.1


class FlowExpired(Interrupt):
    """Raised in a flow's function whose time is over."""


class FlowTimedOut(Exception):
    """The flow's function did not end in time."""

    def __init__(self, timeout_seconds: float) -> None:
        super().__init__(f"exceeded the timeout of {timeout_seconds} seconds")
        self.timeout_seconds = timeout_seconds


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
        return await _call_async(flow, run, args, kwargs)
    return _call_sync(flow, run, args, kwargs)


async def _call_async(flow: Flow[..., Any], run: ActiveFlowRun, args: Any, kwargs: Any) -> Any:
    run.executing = ExecutingTask()
    limit = asyncio.timeout(flow.timeout_seconds)
    try:
        async with limit:
            return await flow.fn(*args, **kwargs)
    except TimeoutError:
        if limit.expired():
            assert flow.timeout_seconds is not None
            raise FlowTimedOut(flow.timeout_seconds) from None
        raise
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if run.cancelling and current is not None:
            current.uncancel()
            raise FlowRunCancelled from None
        raise
    finally:
        run.executing = None


def _call_sync(flow: Flow[..., Any], run: ActiveFlowRun, args: Any, kwargs: Any) -> Any:
    section = current_section()
    run.executing = section
    alarm = None if flow.timeout_seconds is None else _Alarm(run, flow.timeout_seconds)
    try:
        value = call_interruptibly(section, run, flow.fn, args, kwargs)
        # A generator's body may start task runs, which are waited for before the run ends.
        return value if type(value) is not GeneratorType else call_interruptibly(section, run, list, (value,), {})
    except FlowExpired:
        raise FlowTimedOut(_limit(run)) from None
    except TimeoutError:
        # The next task call after the deadline says so by this error; one that user code raised is an ordinary failure.
        if alarm is not None and alarm.rang and flow.timeout_seconds is not None:
            raise FlowTimedOut(flow.timeout_seconds) from None
        raise
    finally:
        run.executing = None
        if alarm is not None:
            alarm.stop()


def _limit(run: ActiveFlowRun) -> float:
    """Returns the limit of a flow run that was interrupted at a deadline: its own, or that of a flow run above."""
    above: ActiveFlowRun | None = run
    while above is not None and above.flow.timeout_seconds is None:
        above = above.parent
    assert above is not None
    assert above.flow.timeout_seconds is not None
    return above.flow.timeout_seconds


def _expire(run: ActiveFlowRun) -> None:
    """Interrupts a flow run's function, and those of the subflows that it waits for."""
    for child in list(run.children):
        _expire(child)
    if run.executing is not None:
        run.executing.interrupt(run, FlowExpired)


class _Alarm:
    """Interrupts a flow's function at its deadline, until it has ended. ``_lock`` orders ringing and stopping."""

    def __init__(self, run: ActiveFlowRun, timeout_seconds: float) -> None:
        self.rang = False
        self._run = run
        self._stopped = False
        self._lock = threading.Lock()
        self._timer: Timer = engine_loop().call_later(timeout_seconds, self._ring)

    def _ring(self) -> None:
        with self._lock:
            if self._stopped:
                return
            self.rang = True
            _expire(self._run)
            self._timer = engine_loop().call_later(INTERRUPT_AGAIN_SECONDS, self._ring)

    def stop(self) -> None:
        while True:
            try:
                with self._lock:
                    self._stopped = True
                self._timer.cancel()
                return
            except FlowExpired:
                continue  # it rang just as the function ended
