"""Logging of runs, on top of the standard library's ``logging``.

    records.py        one stored line, and the protocol of what takes it
    loggers.py        get_logger, and silencing
    run_loggers.py    get_run_logger and its kin: loggers that know their run
    runs_here.py      which flow run this process works for
    formatters.py     console lines and JSON
    handlers.py       the console, and the handler that hands lines to the store
    configuration.py  setup_logging: logging.yml, setting values in it, overrides from the environment
    logging.yml       the configuration in the package
    prints.py         print() as a log line (log_prints)

Nothing is imported before it is asked for: the engine's records need `LogEntry` alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core_engine.logging.configuration import setup_logging, setup_worker_logging
    from core_engine.logging.loggers import disable_logger, disable_run_logger, get_logger
    from core_engine.logging.prints import patch_print, should_log_prints
    from core_engine.logging.records import LogEntry, LogSink
    from core_engine.logging.run_loggers import flow_run_logger, get_run_logger, task_run_logger

__all__ = [
    "LogEntry",
    "LogSink",
    "disable_logger",
    "disable_run_logger",
    "flow_run_logger",
    "get_logger",
    "get_run_logger",
    "patch_print",
    "setup_logging",
    "setup_worker_logging",
    "should_log_prints",
    "task_run_logger",
]

_HOMES = {
    "LogEntry": "records",
    "LogSink": "records",
    "disable_logger": "loggers",
    "disable_run_logger": "loggers",
    "flow_run_logger": "run_loggers",
    "get_logger": "loggers",
    "get_run_logger": "run_loggers",
    "patch_print": "prints",
    "setup_logging": "configuration",
    "setup_worker_logging": "configuration",
    "should_log_prints": "prints",
    "task_run_logger": "run_loggers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
