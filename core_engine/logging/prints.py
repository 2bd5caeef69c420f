"""print() as a log line of the run that prints."""

from __future__ import annotations

import builtins
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from core_engine.context import FlowRunContext, TaskRunContext
from core_engine.logging.run_loggers import get_run_logger
from core_engine.settings import get_current_settings

# Written under the lock, so that of runs that overlap the first replaces print and the last restores it.
_lock = threading.Lock()
_users = 0
_replacement: Callable[..., None] | None = None
_replaced: Callable[..., None] = builtins.print

_plain_print = builtins.print


def should_log_prints(log_prints: bool | None, enclosing: bool | None) -> bool:
    """Return whether print() in a run is logged.

    Args:
        log_prints: What the flow or task itself says; None: nothing.
        enclosing: What holds for the flow run around it; None for a root flow, which asks the settings.
    """
    if log_prints is not None:
        return log_prints
    return get_current_settings().logging_log_prints if enclosing is None else enclosing


@contextmanager
def patch_print() -> Iterator[None]:
    """Replace ``builtins.print`` inside a ``with`` block by one that logs in runs whose context says so.

    Elsewhere the replacement prints. Blocks may overlap, also in several threads.
    """
    global _users, _replacement, _replaced
    with _lock:
        _users += 1
        if _users == 1:
            _replaced = builtins.print
            builtins.print = _replacement = _logging_print(_replaced)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            # What somebody else has put in its place since then stays, and ours below it prints.
            if _users == 0 and builtins.print is _replacement:
                builtins.print = _replaced


def _logging_print(original: Callable[..., None]) -> Callable[..., None]:
    """A print that logs in runs whose context says so. Each has the one it replaced for itself: no two can cycle."""

    @wraps(original)
    def print(*values: object, **options: Any) -> None:
        context = TaskRunContext.get() or FlowRunContext.get()
        goes_to_console = options.get("file") in (None, sys.stdout, sys.stderr)
        if context is None or not context.log_prints or not goes_to_console:
            original(*values, **options)
            return
        text = io.StringIO()
        _plain_print(*values, **{**options, "file": text, "end": ""})
        get_run_logger(context).info(text.getvalue(), stacklevel=2)

    return print


def _renew_lock() -> None:
    """In a forked child, where whoever held it is not."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)
