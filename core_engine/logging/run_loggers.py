"""Loggers that know their run: each line carries the run's ids and names, and where it is stored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from core_engine.context import FlowRunContext, TaskRunContext
from core_engine.exceptions import MissingContextError
from core_engine.logging.loggers import FLOW_RUNS, TASK_RUNS

if TYPE_CHECKING:
    from core_engine.flows import Flow
    from core_engine.logging.records import LogSink
    from core_engine.schemas.records import FlowRun, TaskRun
    from core_engine.tasks import Task

UNKNOWN = "<unknown>"


class RunId(str):
    """A run's id as text, which is what formatters want, that keeps the id itself and the run's sink.

    So a logger that is handed to a plain thread, where no context tells of the run, still stores its lines, and
    storing a line parses no id.
    """

    __slots__ = ("sink", "uuid")

    uuid: UUID
    sink: LogSink | None

    def __new__(cls, uuid: UUID, sink: LogSink | None = None) -> RunId:
        text = super().__new__(cls, uuid)
        text.uuid = uuid
        text.sink = sink
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)  # records may be pickled on their way to other processes; a sink stays here


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose lines carry what describes a run."""

    def __init__(self, logger: logging.Logger, describe: Callable[[], Mapping[str, object]]) -> None:
        # Not the base's constructor: it would set `extra`, which most loggers of short runs never need.
        self.logger = logger
        self._describe = describe
        self._fields: Mapping[str, object] | None = None

    @property
    def extra(self) -> Mapping[str, object]:  # type: ignore[override]
        """Ids (text) and names of the run, by the names that formatters use; made with the first line."""
        fields = self._fields
        if fields is None:
            fields = self._fields = self._describe()
        return fields

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the run to a line; what the line itself brings in ``extra`` wins."""
        given = kwargs.get("extra")
        kwargs["extra"] = {**self.extra, **given} if given else self.extra
        return msg, kwargs

    def getChild(self, suffix: str, extra: Mapping[str, object] | None = None) -> RunLogger:  # noqa: N802
        """Return a logger called `suffix` below this one, with the same run and also `extra`."""
        return RunLogger(self.logger.getChild(suffix), lambda: {**self.extra, **(extra or {})})


_flow_runs = logging.getLogger(FLOW_RUNS)
_task_runs = logging.getLogger(TASK_RUNS)


def get_run_logger(context: FlowRunContext | TaskRunContext | None = None, **extra: object) -> RunLogger:
    """Return the logger of the run that this code is part of.

    Args:
        context: The run's context; None: the task run here, else the flow run.
        extra: Further fields of each line, which may also replace those of the run.

    Raises:
        MissingContextError: there is no run here, and the loggers of runs are not disabled.
        TypeError: `context` is not a run's context.
    """
    if context is None:
        context = TaskRunContext.get() or FlowRunContext.get()
        if context is None:
            return _logger_outside_of_runs(extra)
    elif not isinstance(context, FlowRunContext | TaskRunContext):
        raise TypeError(f"A run's logger needs a FlowRunContext or TaskRunContext, not {type(context).__name__}.")
    logger = _task_runs if isinstance(context, TaskRunContext) else _flow_runs
    flow_context = FlowRunContext.get()
    if extra:
        return RunLogger(logger, lambda: {**fields_of(context, flow_context), **extra})
    return RunLogger(logger, lambda: fields_of(context, flow_context))


def flow_run_logger(
    flow_run: FlowRun, flow: Flow[..., Any] | None = None, *, log_sink: LogSink | None = None, **extra: object
) -> RunLogger:
    """Return the logger of a flow run.

    Args:
        flow: Its flow; None: the name in the record is used.
        log_sink: What stores its lines; None: found when a line is logged, from the context there.
        extra: Further fields of each line, which may also replace those of the run.
    """
    return RunLogger(_flow_runs, lambda: {**_describe_flow_run(flow_run, flow, log_sink), **extra})


def task_run_logger(
    task_run: TaskRun,
    task: Task[..., Any] | None = None,
    flow_run: FlowRun | None = None,
    flow: Flow[..., Any] | None = None,
    *,
    log_sink: LogSink | None = None,
    **extra: object,
) -> RunLogger:
    """Return the logger of a task run; arguments as for `flow_run_logger`."""
    return RunLogger(_task_runs, lambda: {**_describe_task_run(task_run, task, flow_run, flow, log_sink), **extra})


def _logger_outside_of_runs(extra: Mapping[str, object]) -> RunLogger:
    if _flow_runs.disabled and _task_runs.disabled:
        return RunLogger(_flow_runs, lambda: {**_describe_flow_run(None, None, None), **extra})
    raise MissingContextError(
        "There is no run here whose logger could be used. Call get_run_logger() inside a flow or a task, "
        "in threads of your own through core_engine.threads.in_context; "
        "to call a task's function outside of runs wrap the call in core_engine.logging.disable_run_logger()."
    )


def fields_of(context: FlowRunContext | TaskRunContext, flow_context: FlowRunContext | None) -> Mapping[str, object]:
    """Describe a context's run, and keep that with the context: many loggers are made for one run.

    The loggers themselves are not kept there, as each refers to its context: cycles of garbage would cost more.
    """
    fields: Mapping[str, object] | None = getattr(context, "_log_fields", None)
    if fields is None:
        if isinstance(context, TaskRunContext):
            fields = _describe_task_context(context, flow_context)
        else:
            fields = _describe_flow_run(context.flow_run, context.flow, sink_of(context))
        object.__setattr__(context, "_log_fields", fields)
    return fields


def _describe_task_context(context: TaskRunContext, flow_context: FlowRunContext | None) -> dict[str, object]:
    active = context.active  # what the engine has at hand; the record is made only in contexts without it
    task_run = context.task_run if active is None else active
    flow_fields = {} if flow_context is None else fields_of(flow_context, None)
    flow_run_id = flow_fields.get("flow_run_id")
    # On a worker the flow's context is missing; and one of another flow run says nothing about this run.
    if not isinstance(flow_run_id, RunId) or flow_run_id.uuid != task_run.flow_run_id:
        flow_fields = _describe_flow_run(None, None, None)
        flow_run_id = RunId(task_run.flow_run_id, sink_of(context))
    return {
        **flow_fields,
        "flow_run_id": flow_run_id,
        "task_run_id": RunId(task_run.id),
        "task_run_name": context.task_run.name if active is None else active.run_name,
        "task_name": context.task.name,
    }


def _describe_flow_run(
    flow_run: FlowRun | None, flow: Flow[..., Any] | None, sink: LogSink | None
) -> dict[str, object]:
    flow_name = UNKNOWN if flow_run is None else flow_run.flow_name
    return {
        "flow_run_name": UNKNOWN if flow_run is None else flow_run.name,
        "flow_run_id": UNKNOWN if flow_run is None else RunId(flow_run.id, sink),
        "flow_name": flow_name if flow is None else flow.name,
    }


def _describe_task_run(
    task_run: TaskRun,
    task: Task[..., Any] | None,
    flow_run: FlowRun | None,
    flow: Flow[..., Any] | None,
    sink: LogSink | None,
) -> dict[str, object]:
    return {
        **_describe_flow_run(flow_run, flow, None),
        "flow_run_id": RunId(task_run.flow_run_id, sink),
        "task_run_id": RunId(task_run.id),
        "task_run_name": task_run.name,
        "task_name": task_run.task_name if task is None else task.name,
    }


def sink_of(context: FlowRunContext | TaskRunContext) -> LogSink | None:
    """Return what stores the lines of a context's run: its client says it; None in a context that has none."""
    return getattr(context.client, "log_sink", None)
