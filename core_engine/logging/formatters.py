"""How lines look: for people on the console, and as JSON."""

from __future__ import annotations

import json
import logging
import traceback
from typing import TYPE_CHECKING, Any

# What every record has, and what a JSON line says in other words or not at all.
_LEFT_OUT_OF_JSON = frozenset({"args", "exc_info", "exc_text", "msg", "run_label", "asctime"})


class ConsoleFormatter(logging.Formatter):
    """Formats lines for the console. Formats may use ``run_label``: the run that logged, else the logger's name."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._last_time: tuple[int, str] = (0, "")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Format the line without its traceback."""
        if not hasattr(record, "run_label"):
            record.run_label = run_label(record)
        return super().formatMessage(record)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Format the time to the second; lines of one second share the text."""
        second, text = self._last_time
        if second != int(record.created):
            text = super().formatTime(record, datefmt or self.default_time_format)
            self._last_time = (int(record.created), text)
        return text


def run_label(record: logging.LogRecord) -> str:
    """Return who logged a record: "Task run 'name'", "Flow run 'name'", or the logger's name."""
    fields = record.__dict__
    if "task_run_name" in fields:
        return f"Task run {fields['task_run_name']!r}"
    if "flow_run_name" in fields:
        return f"Flow run {fields['flow_run_name']!r}"
    return record.name


class JsonFormatter(logging.Formatter):
    """Formats each record as one JSON object with all its fields.

    ``message`` is the complete text; ``exc_info``, if there is one, an object with type, message and traceback. What
    JSON cannot say is written as text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format the record on one line."""
        fields = {name: value for name, value in record.__dict__.items() if name not in _LEFT_OUT_OF_JSON}
        fields["message"] = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            fields["exc_info"] = {
                "type": type(error).__name__,
                "message": str(error),
                "traceback": "".join(traceback.format_exception(error)),
            }
        return json.dumps(fields, default=str)


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
