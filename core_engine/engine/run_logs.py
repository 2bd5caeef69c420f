"""The engine's own lines about runs: their loggers, and what is said at a run's end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from core_engine.logging import flow_run_logger, task_run_logger
from core_engine.schemas.states import CANCELLED, COMPLETED, State

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveFlowRun, ActiveTaskRun
    from core_engine.logging.run_loggers import RunLogger

_END_LEVELS = {COMPLETED: logging.INFO, CANCELLED: logging.WARNING}


def logger_of_task_run(run: ActiveTaskRun) -> RunLogger:
    """Returns the logger of a task run, as it is named now."""
    flow_run = run.flow_run
    return task_run_logger(
        run.snapshot(), flow_run=flow_run.record, flow=flow_run.flow, log_sink=flow_run.client.log_sink
    )


def logger_of_flow_run(run: ActiveFlowRun) -> RunLogger:
    """Returns the logger of a flow run, as it is named now."""
    return flow_run_logger(run.record, flow=run.flow, log_sink=run.client.log_sink)


def end_level(state: State) -> int:
    """Returns at which level the end of a run is told."""
    return _END_LEVELS.get(state._type, logging.ERROR)


def log_end(run: ActiveTaskRun, state: State) -> None:
    """One line for the end of a run; children of maps that complete are told of in one line for all."""
    if state._type is not COMPLETED or not run.group.is_map:
        logger_of_task_run(run).log(end_level(state), "Finished in state %s", state)


def log_not_ready(run: ActiveTaskRun, state: State) -> None:
    """Says why a run does not start."""
    logger_of_task_run(run).warning("Does not run: %s", state.message)


def log_retry(run: ActiveTaskRun, state: State) -> None:
    """Says when a failed run is tried again, and which try that will be."""
    scheduled = state.state_details.scheduled_time
    seconds = 0.0 if scheduled is None else max(0.0, round(scheduled.timestamp() - state._time, 3))
    retries = run.group.policy.retries
    when = f"in {seconds:g} seconds" if seconds else "now"
    logger_of_task_run(run).info("Will be tried again %s (retry %d of %d)", when, run.run_count, retries)
