"""Crashes: ends of runs that are not the user's code's doing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.interrupts import Interrupt
from core_engine.concurrency.waiting import drives_loop
from core_engine.engine.tracebacks import without_engine
from core_engine.exceptions import Abort, FlowPauseTimeout, Pause, StoreError
from core_engine.schemas.states import CANCELLED, CANCELLING, FINAL_TYPES, State
from core_engine.states import exception_to_crashed_state

if TYPE_CHECKING:
    from core_engine.client.embedded import EmbeddedClient
    from core_engine.engine.active import ActiveFlowRun, ActiveTaskRun
    from core_engine.engine.run_sets import RunSet
    from core_engine.flows import Flow


# How long the end of a process that was told twice to end may be held up by a store that is slow to take its states.
LAST_COMMIT_SECONDS = 2.0


class report_task_run_crashes:  # noqa: N801  # used as `with report_task_run_crashes(...)`
    """Records a task run as Crashed when anything but Abort and Pause leaves the block, and lets it go on.

    Parameters:
        task_run: The run, as this process executes it.
        client: The client through which it is known.
    """

    __slots__ = ("_run",)

    def __init__(self, task_run: ActiveTaskRun, client: EmbeddedClient | None = None) -> None:
        self._run = task_run

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, (Abort, Pause)):
            return
        crash_task_run(self._run, error)


def crash_task_run(run: ActiveTaskRun, error: BaseException) -> State:
    """Records a task run as Crashed, unless it has ended; logs it. Returns the state that it is in then."""
    from core_engine.engine.cancellation import TaskRunStopped
    from core_engine.engine.overdue import FlowExpired
    from core_engine.engine.proposals import decide_task
    from core_engine.engine.run_logs import logger_of_task_run

    if run.state._type in FINAL_TYPES:
        return run.state
    reason = run.flow_run.stopping if isinstance(error, (Interrupt, asyncio.CancelledError)) else None
    if isinstance(error, FlowExpired) and reason is None:
        state = ended_by(error, "while this task run ran")
    else:
        state = exception_to_crashed_state(reason or error)
    # A journal that has failed says so once, and tells whoever waits for an outcome: nothing more is to be done.
    try:
        decide_task(run, state, force=True, execution=run.execution)
    except StoreError as failure:
        run.flow_run.stop(failure)
        return run.state
    logger = logger_of_task_run(run)
    if reason is not None:
        # The flow run says it once for all that it takes along.
        run.flow_run.count_interrupted()
    elif not isinstance(
        error, (TaskRunStopped, FlowExpired)
    ):  # the first one on a worker, which does not know why the flow run ends
        logger.error("Crash detected! %s", state.message)
    logger.debug("Crash details:", exc_info=error)
    return run.state


def crashed_task_state(run_set: RunSet, index: int, run: ActiveTaskRun | None, error: BaseException) -> State:
    """Returns the outcome of a run whose call raised: the state it is in if that is final, else Crashed, recorded now.

    A system exit or an interrupt of the task's own is kept for the end of the flow, which raises it again.
    """
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        run_set.flow_run.fatal = run_set.flow_run.fatal or error
    state = crash_task_run(run if run is not None else run_set.activate(index), error)
    without_engine(error)
    return state


def end_unstarted(run_set: RunSet, index: int) -> None:
    """Records the outcome of a run that will not start, because its flow run is being ended."""
    reason = run_set.flow_run.stopping
    assert reason is not None
    run_set.end(index, ended_by(reason))


def ended_by(reason: BaseException, when: str = "before this task run started") -> State:
    """Returns the state of a run that does not go on because of what ended its flow run, or its submission."""
    from core_engine.engine.cancellation import FlowRunCancelled
    from core_engine.engine.overdue import FlowExpired

    if isinstance(reason, FlowRunCancelled):
        return State(CANCELLED, message=f"The flow run was cancelled {when}.")
    if isinstance(reason, FlowExpired):
        return State(CANCELLED, message=f"The time of the flow run was over {when}.")
    if isinstance(reason, FlowPauseTimeout):
        return State(CANCELLED, message=f"{reason} This task run did not start.")
    return exception_to_crashed_state(reason)


def end_at_once(run: ActiveFlowRun, reason: BaseException, below: bool = False) -> None:
    """Records what has begun in a flow run as ended, and leaves behind what still runs of it. Any thread.

    What has not started is not recorded any more: it stays Pending.

    Parameters:
        run: The flow run.
        reason: Why it is ended.
        below: Whether only what is below it is recorded, not the flow run itself.

    Raises:
        StoreError: It could not be recorded.
    """
    from core_engine.engine.proposals import decide_flow

    run.stop(reason)
    for child in list(run.children):
        end_at_once(child, reason)
    for run_set in run.open_sets():
        for index in run_set.unsettled():
            if index in run_set.active:
                if index in run_set.executing:
                    run.count_interrupted()
                run_set.end(index, ended_by(reason, "while this task run ran; its code is left behind"))
            else:
                run_set.settle(index, ended_by(reason))
    with run.decisions:
        current = run.progress.state
        if not below and (current is None or current._type not in FINAL_TYPES):
            decide_flow(run, ended_by(reason, "while it ran"), force=True)


class report_flow_run_crashes:  # noqa: N801
    """Records a flow run as Crashed when anything but Abort and Pause leaves the block, and lets it go on.

    One inside another does no harm: the inner one reports.

    Parameters:
        flow_run: The run, as this process executes it.
        client: The client through which it is known.
        flow: Its flow, whose on_crashed hooks are called.
    """

    __slots__ = ("_run",)

    def __init__(
        self, flow_run: ActiveFlowRun, client: EmbeddedClient | None = None, flow: Flow[..., Any] | None = None
    ) -> None:
        self._run = flow_run

    async def __aenter__(self) -> None:
        from core_engine.engine import signals

        signals.began(self._run)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from core_engine.engine import signals
        from core_engine.engine.cancellation import raise_stopping

        try:
            if error is not None and not isinstance(error, (Abort, Pause)):
                await crash_flow_run(self._run, error)
                if isinstance(error, Interrupt):
                    raise_stopping(self._run)  # what it stands for; callers do not know it
        finally:
            signals.ended(self._run)


async def crash_flow_run(run: ActiveFlowRun, error: BaseException) -> None:
    """Records a flow run as Crashed, ends what is below it in order, logs it and calls its hooks.

    A run that is being cancelled ends as Cancelled instead, with the hooks for that. One that has ended stays as it is.
    """
    from core_engine.engine.overdue import end_interrupted, is_overdue
    from core_engine.engine.signals import got_through, signal_for

    got_through(run)
    if is_overdue(run, error):
        await (_shielded(run, end_interrupted(run)) if drives_loop() else end_interrupted(run))
        return
    reason = error
    if isinstance(error, (Interrupt, asyncio.CancelledError)):
        reason = signal_for(run) or run.stopping or error
    # A signal ends the root, of which the engine loop's thread may not have heard yet.
    (run.root if signal_for(run) is not None else run).stop(reason)
    end = _end_in_order(run, reason, error)
    if drives_loop():
        await _shielded(run, end)
    else:
        await end


async def _shielded(run: ActiveFlowRun, end: Coroutine[Any, Any, None]) -> None:
    """Awaits the end of a crashed flow run in a task of its own, so that who cancels the flow once more has to wait
    until it is recorded (CRASH-5)."""
    from core_engine.engine.signals import is_urgent

    task = asyncio.get_running_loop().create_task(end)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if is_urgent(run):
                task.cancel()
    if not task.cancelled():
        task.result()


async def _end_in_order(run: ActiveFlowRun, reason: BaseException, error: BaseException) -> None:
    from core_engine.engine.cancellation import end_runs_below
    from core_engine.engine.run_logs import logger_of_flow_run

    logger = logger_of_flow_run(run)
    try:
        await end_runs_below(run)
    except BaseException:
        # A second signal ended the waiting: this is all that is still done.
        _record_end(run, reason, logger)
        _commit_end(run, LAST_COMMIT_SECONDS)
        raise
    hooks_for = _record_end(run, reason, logger)
    if hooks_for is not None and run.interrupted_runs:
        logger.error(
            "%d task run%s that ran %s interrupted and crashed with the flow run",
            run.interrupted_runs,
            "" if run.interrupted_runs == 1 else "s",
            "was" if run.interrupted_runs == 1 else "were",
        )
    logger.debug("Crash details:", exc_info=error)
    if hooks_for is not None:
        await _after_end(run, hooks_for)


def _record_end(run: ActiveFlowRun, reason: BaseException, logger: Any) -> State | None:
    """Records the end of a flow run, unless it has ended; returns the state that hooks are to be called for."""
    from core_engine.engine.outcomes import cancelled_state
    from core_engine.engine.proposals import decide_flow

    try:
        with run.decisions:
            current = run.progress.state
            if current is not None and current._type in FINAL_TYPES:
                return None
            state = exception_to_crashed_state(reason)
            logger.error("Crash detected! %s", state.message)
            if current is not None and current._type is CANCELLING:
                decide_flow(run, cancelled_state(), force=True)
                return current
            decide_flow(run, state, force=True)
            return run.progress.state
    except StoreError as failure:
        logger.error("The end of the flow run could not be recorded: %s", failure)
        return None


async def _after_end(run: ActiveFlowRun, hooks_for: State) -> None:
    from core_engine.engine.hooks import run_flow_hooks

    with contextlib.suppress(StoreError):  # the flow's caller learns of it, since it waits for the commit too
        await run_flow_hooks(run, hooks_for)
    _commit_end(run, run.client.grace_seconds)


def _commit_end(run: ActiveFlowRun, timeout_seconds: float) -> None:
    recorded = run.progress.state
    assert recorded is not None
    with contextlib.suppress(StoreError):
        run.client.journal.wait(recorded._position, timeout_seconds)
