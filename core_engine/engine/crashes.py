"""Crashes: ends of runs that are not the user's code's doing."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import TYPE_CHECKING, Any

from core_engine.exceptions import Abort, FlowPauseTimeout, Pause, StoreError
from core_engine.schemas.states import CANCELLED, FINAL_TYPES, State
from core_engine.states import exception_to_crashed_state

if TYPE_CHECKING:
    from core_engine.client.embedded import EmbeddedClient
    from core_engine.engine.active import ActiveFlowRun, ActiveTaskRun
    from core_engine.engine.run_sets import RunSet
    from core_engine.flows import Flow


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
    from core_engine.engine.proposals import decide_task
    from core_engine.engine.run_logs import logger_of_task_run
    from core_engine.engine.tracebacks import without_engine

    if run.state._type in FINAL_TYPES:
        return run.state
    state = exception_to_crashed_state(without_engine(error))
    # A journal that has failed tells so whoever waits for the outcome.
    with contextlib.suppress(StoreError):
        decide_task(run, state, force=True, execution=run.execution)
    logger = logger_of_task_run(run)
    logger.error("Crash detected! %s", state.message)
    logger.debug("Crash details:", exc_info=error)
    return run.state


def crashed_task_state(run_set: RunSet, index: int, run: ActiveTaskRun | None, error: BaseException) -> State:
    """Returns the outcome of a run whose call raised: the state it is in if that is final, else Crashed, recorded now.

    An interrupt or a system exit is kept for the end of the flow, which raises it again.
    """
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        run_set.flow_run.fatal = run_set.flow_run.fatal or error
    return crash_task_run(run if run is not None else run_set.activate(index), error)


def end_unstarted(run_set: RunSet, index: int) -> None:
    """Records the outcome of a run that will not start, because its flow run is being ended."""
    reason = run_set.flow_run.stopping
    assert reason is not None
    run_set.end(index, ended_by(reason))


def ended_by(reason: BaseException) -> State:
    """Returns the state of a task run that does not go on because of what ended its flow run, or its submission."""
    from core_engine.engine.cancellation import FlowRunCancelled

    if isinstance(reason, FlowRunCancelled):
        return State(CANCELLED, message="The flow run was cancelled before this task run started.")
    if isinstance(reason, FlowPauseTimeout):
        return State(CANCELLED, message=f"{reason} This task run did not start.")
    return exception_to_crashed_state(reason)


class report_flow_run_crashes:  # noqa: N801
    """Records a flow run as Crashed when anything but Abort and Pause leaves the block, and lets it go on.

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
        return None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, (Abort, Pause)):
            return
        await crash_flow_run(self._run, error)


async def crash_flow_run(run: ActiveFlowRun, error: BaseException) -> None:
    """Records a flow run as Crashed, ends its task runs in order, logs it and calls its hooks."""
    from core_engine.engine.cancellation import end_task_runs
    from core_engine.engine.hooks import run_flow_hooks
    from core_engine.engine.proposals import decide_flow
    from core_engine.engine.run_logs import logger_of_flow_run

    state = exception_to_crashed_state(error)
    run.stop(error)
    await end_task_runs(run)
    current = run.progress.state
    if current is None or current._type not in FINAL_TYPES:
        decide_flow(run, state, force=True)
    logger = logger_of_flow_run(run)
    logger.error("Crash detected! %s", state.message)
    logger.debug("Crash details:", exc_info=error)
    recorded = run.progress.state
    assert recorded is not None
    if recorded is state:  # else it had ended before, and its hooks were called then
        await run_flow_hooks(run, recorded)
    run.client.journal.wait(recorded._position, timeout_seconds=run.client.grace_seconds)
