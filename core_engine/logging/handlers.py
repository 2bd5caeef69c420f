"""The handler that hands the lines of runs to the store, and does no I/O itself.

It finds three things for a record: the run (from the record, else from the context here), the sink that stores the
run's lines (likewise), and whether the line is to be stored at all (the settings in force here).
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
import warnings
import weakref
from functools import lru_cache
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from core_engine.context import FlowRunContext, TaskRunContext
from core_engine.exceptions import MissingContextError
from core_engine.logging import runs_here
from core_engine.logging.records import LogEntry, LogSink
from core_engine.logging.run_loggers import UNKNOWN, RunId, fields_of, sink_of
from core_engine.settings import get_current_settings

# In JSON one character takes at most twelve bytes (two escapes of six); the rest of an entry takes less than this.
_MOST_BYTES_PER_CHARACTER = 12
_MOST_BYTES_BESIDE_MESSAGE = 2_000

# Whether this thread is handing over a record: what the sink itself logs meanwhile stays local.
_in_this_thread = threading.local()
_parse_id = lru_cache(maxsize=1024)(UUID)


class _Run(NamedTuple):
    """Whose line a record is; `flow_run_id` None means nobody's, `sink` None that nothing stores it.

    `remark` says, behind the line, why it is known of no task run.
    """

    flow_run_id: UUID | None
    task_run_id: UUID | None
    sink: LogSink | None
    remark: str = ""


class APILogHandler(logging.Handler):
    """Hands the lines of runs to the sink of their run.

    Thread-safe without the handler's lock: a line goes to its sink in one call, so threads do not wait for each other.
    """

    def __init__(self, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        # The sinks that got lines, held weakly: a sink ends with its client, not with this handler.
        self._sinks: weakref.WeakSet[LogSink] = weakref.WeakSet()
        self._last_sink: weakref.ref[LogSink] | None = None

    def handle(self, record: logging.LogRecord) -> bool | logging.LogRecord:  # type: ignore[override]
        """Emit the record if no filter objects; a filter may also replace it."""
        verdict: bool | logging.LogRecord = self.filter(record)
        if verdict:
            self.emit(verdict if isinstance(verdict, logging.LogRecord) else record)
        return verdict

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record to its sink.

        Raises:
            MissingContextError: the record belongs to no flow run, and the settings make that an error.
        """
        if getattr(_in_this_thread, "is_emitting", False) or not _is_to_be_sent(record):
            return
        settings = get_current_settings()
        if not settings.logging_to_api_enabled:
            return
        _in_this_thread.is_emitting = True
        try:
            run = self._run_of(record)
            if run.flow_run_id is not None and run.sink is not None:
                entry = self._entry(record, run.flow_run_id, run.task_run_id, run.remark)
                _check_size(entry, settings.logging_to_api_max_log_size)
                run.sink.append_log(entry)
                self._remember(run.sink)
        except Exception as error:  # logging never fails a run
            _report(f"A log line of {record.name}", error)
            return
        finally:
            _in_this_thread.is_emitting = False
        if run.flow_run_id is None:
            _object_to_missing_flow(record, settings.logging_to_api_when_missing_flow)

    def flush(self, timeout_seconds: float = 5.0) -> None:
        """Have everything delivered that was logged until now, and wait for it, at most `timeout_seconds`.

        In async code the waiting is left to a thread, and the call returns at once: use `aflush` there.

        Raises:
            RuntimeError: called on the engine's own loop, which it would block.
        """
        if not self._sinks:
            return
        if not _a_loop_runs_here():
            self._flush_sinks(timeout_seconds)
        elif _this_is_the_engine_loop():
            raise RuntimeError("flush() would block the engine's event loop; use `await aflush()` there.")
        else:
            threading.Thread(target=self._flush_sinks, args=(timeout_seconds,), name="core-engine-log-flush").start()

    async def aflush(self, timeout_seconds: float = 5.0) -> None:
        """Have everything delivered that was logged until now, and wait for it without blocking the loop."""
        import asyncio

        await asyncio.to_thread(self._flush_sinks, timeout_seconds)

    def _flush_sinks(self, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        for sink in list(self._sinks):
            try:
                sink.flush(max(0.0, deadline - time.monotonic()))
            except Exception as error:  # whoever waits for the run itself is told by the store
                _report("Log lines", error)

    def _run_of(self, record: logging.LogRecord) -> _Run:
        """Find the run of a record: from its own fields, else from the context here."""
        flow_run, task_run = record.__dict__.get("flow_run_id"), record.__dict__.get("task_run_id")
        if type(flow_run) is RunId and flow_run.sink is not None:
            return _Run(flow_run.uuid, _as_id(task_run), flow_run.sink)
        flow_run_id, task_run_id = _as_id(flow_run), _as_id(task_run)
        context = TaskRunContext.get() or FlowRunContext.get()
        if context is None:
            if flow_run_id is None:
                return _run_of_plain_thread(record)
            return _Run(flow_run_id, task_run_id, self._sink_outside_of_runs())
        if flow_run_id is None:
            fields = fields_of(context, FlowRunContext.get())
            flow_run_id = _as_id(fields["flow_run_id"])
            task_run_id = task_run_id or _as_id(fields.get("task_run_id"))
        return _Run(flow_run_id, task_run_id, sink_of(context))

    def _sink_outside_of_runs(self) -> LogSink | None:
        """What stores a line that names its run, where no context does: the store of the settings here."""
        from core_engine.client import get_client  # opens a database, which only such a line needs

        return get_client().log_sink

    def _remember(self, sink: LogSink) -> None:
        if self._last_sink is None or self._last_sink() is not sink:  # nearly always the same one
            self._last_sink = weakref.ref(sink)
            self._sinks.add(sink)

    def _entry(self, record: logging.LogRecord, flow_run_id: UUID, task_run_id: UUID | None, remark: str) -> LogEntry:
        is_plain = self.formatter is None and not (record.exc_info or record.exc_text or record.stack_info)
        return LogEntry(
            flow_run_id,
            task_run_id,
            record.name,
            record.levelno,
            getattr(record, "created", None) or time.time(),
            (record.getMessage() if is_plain else self.format(record)) + remark,
        )


class WorkerLogHandler(APILogHandler):
    """The handler on a worker, which serves runs of several flows: each line by the level of its own settings."""

    def filter(self, record: logging.LogRecord) -> bool | logging.LogRecord:  # type: ignore[override]
        """Decide whether the record is wanted by the settings in force where it was logged."""
        if record.levelno < logging.getLevelNamesMapping()[get_current_settings().logging_level]:
            return False
        return super().filter(record)

    def _sink_outside_of_runs(self) -> LogSink | None:
        return None  # workers never open the store


def _run_of_plain_thread(record: logging.LogRecord) -> _Run:
    """Find the run of a line that was logged without a context: the only flow run for which this process works."""
    found = runs_here.only_run()
    if found is None:
        return _Run(None, None, None)
    remark = (
        f" [of no task run that is known: the thread {record.threadName!r} was started without its context; "
        "see core_engine.threads.in_context]"
    )
    return _Run(found[0], None, found[1], remark)


def _is_to_be_sent(record: logging.LogRecord) -> bool:
    fields = record.__dict__
    if "send_to_orion" in fields:
        _warn_at(record, 'extra={"send_to_orion": ...} is deprecated; write "send_to_api".', DeprecationWarning)
        return bool(fields["send_to_orion"]) and bool(fields.get("send_to_api", True))
    return bool(fields.get("send_to_api", True))


def _as_id(value: Any) -> UUID | None:
    if type(value) is RunId:
        return value.uuid
    if value is None or value == UNKNOWN:
        return None
    return value if isinstance(value, UUID) else _parse_id(str(value))


def _check_size(entry: LogEntry, limit: int) -> None:
    if len(entry.message) * _MOST_BYTES_PER_CHARACTER + _MOST_BYTES_BESIDE_MESSAGE <= limit:
        return
    size = len(json.dumps(entry._asdict(), default=str))
    if size > limit:
        raise ValueError(
            f"A log line of {size:,} bytes is larger than the {limit:,} bytes that a line may have "
            "(CORE_ENGINE_LOGGING_TO_API_MAX_LOG_SIZE); it is not stored."
        )


def _report(what: str, error: Exception) -> None:
    """Say on stderr what is not stored, and why; to log it might fail the same way."""
    if sys.stderr is not None:
        reason = "".join(traceback.format_exception(error))
        sys.stderr.write(f"--- {what} could not be stored ---\n{reason}")


def _object_to_missing_flow(record: logging.LogRecord, policy: str) -> None:
    message = (
        f"The logger {record.name!r} was used outside of a flow run, so the line is not stored. Log with another "
        'logger there, or with extra={"send_to_api": False}; '
        "CORE_ENGINE_LOGGING_TO_API_WHEN_MISSING_FLOW=ignore silences this."
    )
    if policy == "error":
        raise MissingContextError(message)
    if policy == "warn":
        _warn_at(record, message, UserWarning)


def _warn_at(record: logging.LogRecord, message: str, category: type[Warning]) -> None:
    """Warn at the line that logged a record, as often as warnings of its module are shown."""
    frame = _frame_of(record)
    module: dict[str, Any] = frame.f_globals if frame is not None else {}
    warnings.warn_explicit(
        message,
        category,
        record.pathname,
        record.lineno,
        module=module.get("__name__"),
        registry=module.setdefault("__warningregistry__", {}),
    )


def _frame_of(record: logging.LogRecord) -> FrameType | None:
    """Find the frame that logged a record, whose module remembers which warnings it has given."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename, frame.f_lineno) != (record.pathname, record.lineno):
        frame = frame.f_back
    return frame


def _a_loop_runs_here() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def _this_is_the_engine_loop() -> bool:
    loops = sys.modules.get("core_engine.concurrency.loops")
    return loops is not None and loops.in_engine_loop()


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
