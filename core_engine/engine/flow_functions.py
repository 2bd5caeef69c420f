"""Calling a flow's function: in the caller's thread, or as part of its loop's task, within the flow's time limit."""

from __future__ import annotations

import asyncio
import threading
import time
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.interrupts import Interrupt, await_user_code, call_interruptibly, current_section
from core_engine.concurrency.loops import Timer, engine_loop
from core_engine.concurrency.threads import service_threads
from core_engine.engine.cancellation import ExecutingTask, FlowRunCancelled
from core_engine.schemas.states import RUNNING

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveFlowRun
    from core_engine.engine.flow_calls import UserThread
    from core_engine.flows import Flow

INTERRUPT_AGAIN_SECONDS = 0.1
# How long after its deadline a function is given to end.
LATE_SECONDS = 0.05


class FlowExpired(Interrupt):
    """Raised in a flow's function whose time is over."""


class FlowTimeIsOver(TimeoutError):
    """Raised where a flow whose time is over calls a task: before its function is interrupted, or after it went on."""


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
        value = await _call_async(flow, run, args, kwargs)
    else:
        value = _call_sync(flow, run, args, kwargs)
    if flow.timeout_seconds is not None and run.deadline is not None and time.monotonic() >= run.deadline:
        raise FlowTimedOut(flow.timeout_seconds)  # a value that comes late is dropped
    return value


async def _call_async(flow: Flow[..., Any], run: ActiveFlowRun, args: Any, kwargs: Any) -> Any:
    run.executing = executing = ExecutingTask()
    limit = asyncio.timeout(flow.timeout_seconds)
    alarm = None if flow.timeout_seconds is None else _Alarm(run, flow.timeout_seconds, interrupts=False)
    try:
        async with limit:
            return await await_user_code(flow.fn, args, kwargs)
    except TimeoutError as error:
        if limit.expired() or isinstance(error, FlowTimeIsOver):
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
    except FlowExpired:
        raise FlowTimedOut(_limit(run)) from None
    except TimeoutError as error:
        # One that user code raised before the deadline is an ordinary failure.
        is_over = run.deadline is not None and time.monotonic() >= run.deadline
        if flow.timeout_seconds is not None and (is_over or isinstance(error, FlowTimeIsOver)):
            raise FlowTimedOut(flow.timeout_seconds) from None
        raise
    finally:
        if alarm is not None:
            alarm.stop()
        _has_ended(run)


def _has_ended(run: ActiveFlowRun) -> None:
    """The function has ended: from now on the run's own execution decides what it comes to."""
    with run.decisions:
        run.executing = None


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


def _end_overdue(run: ActiveFlowRun, timeout_seconds: float) -> None:
    """Records the end of a flow run whose function goes on after the deadline, and of those below it."""
    from core_engine.engine.outcomes import timed_out_state
    from core_engine.engine.proposals import decide_flow
    from core_engine.engine.run_logs import logger_of_flow_run

    for child in list(run.children):
        _end_overdue(child, timeout_seconds)
    with run.decisions:
        state = run.progress.state
        if run.executing is None or run.ended_early is not None or state is None or state._type is not RUNNING:
            return
        proposed = timed_out_state(timeout_seconds)
        decided = decide_flow(run, proposed).state
        assert decided is not None
        run.ended_early = proposed, decided
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
        interrupts: Whether the function is interrupted from here; an async one is by its loop.
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
            if self._interrupts:
                _expire(self._run)
            if self._is_late:
                service_threads.run(lambda: _end_overdue(self._run, self._timeout_seconds))
            again_seconds = INTERRUPT_AGAIN_SECONDS if self._is_late else LATE_SECONDS
            self._is_late = True
            self._timer = engine_loop().call_later(again_seconds, self._ring)

    def stop(self) -> None:
        while True:
            try:
                with self._lock:
                    self._stopped = True
                self._timer.cancel()
                return
            except FlowExpired:
                continue  # it rang just as the function ended
