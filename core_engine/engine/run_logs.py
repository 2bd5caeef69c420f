"""The engine's own lines about runs: their loggers, and what is said at a run's end."""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from core_engine.logging import flow_run_logger, task_run_logger
from core_engine.logging.loggers import TASK_RUNS
from core_engine.schemas.states import CANCELLED, COMPLETED, State
from core_engine.settings import get_current_settings
from core_engine.utilities.secret_names import SECRET_MASK, is_secret_name

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveFlowRun, ActiveTaskRun
    from core_engine.logging.run_loggers import RunLogger

LONGEST_CALL_TEXT = 100

_task_lines = logging.getLogger(TASK_RUNS)
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


def tells_details() -> bool:
    """Returns whether lines at DEBUG may be wanted of task runs. HOT: asked for each of them."""
    return _task_lines.isEnabledFor(logging.DEBUG)


def log_start(run: ActiveTaskRun, name: str, parameters: Mapping[str, Any]) -> None:
    """Says at DEBUG that a task run's function is called, in debug mode with its arguments."""
    settings = get_current_settings()
    is_on_worker = run.flow_run.flow is None
    if is_on_worker and settings.logging_level != "DEBUG":
        return  # a worker's loggers let everything pass, since they serve runs of several levels
    shown = call_text(name, parameters) if settings.debug_mode else f"task '{name}'"
    logger_of_task_run(run).debug("Executing %s for task run '%s'...", shown, run.run_name)


def log_rename(logger: RunLogger, kind: str, before: str, after: str) -> None:
    """Says at DEBUG that a run was given a name."""
    logger.debug("Renamed %s '%s' to '%s'", kind, before, after)


def call_text(name: str, parameters: Mapping[str, Any]) -> str:
    """Returns a call with its arguments, cut at 100 characters."""
    arguments = ", ".join(
        f"{key}={SECRET_MASK if is_secret_name(key) else _shown.repr(value)}" for key, value in parameters.items()
    )
    text = f"{name}({arguments})"
    return text if len(text) <= LONGEST_CALL_TEXT else f"{text[: LONGEST_CALL_TEXT - 3]}..."


class _Shown(reprlib.Repr):
    """Texts of arguments: of a large collection only its beginning, and no secrets (D32)."""

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        beginning = islice(x.items(), self.maxdict + 1)
        masked = {key: _MASK if isinstance(key, str) and is_secret_name(key) else value for key, value in beginning}
        return super().repr_dict(masked, level)

    def repr_instance(self, x: Any, level: int) -> str:
        names = getattr(type(x), "__dataclass_fields__", None) or getattr(type(x), "model_fields", None)
        try:
            fields = [(name, getattr(x, name)) for name in names or ()]
        except Exception:  # the user's code; then the text is too
            fields = []
        if not fields or level <= 0:
            return super().repr_instance(x, level)
        shown = (f"{name}={SECRET_MASK if is_secret_name(name) else self.repr1(v, level - 1)}" for name, v in fields)
        return f"{type(x).__name__}({', '.join(shown)})"


class _Mask:
    """Stands for a secret value."""

    def __repr__(self) -> str:
        return SECRET_MASK


_MASK = _Mask()
_shown = _Shown()
_shown.maxstring = _shown.maxother = LONGEST_CALL_TEXT


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
