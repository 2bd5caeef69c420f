"""The library's loggers, and silencing them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

ROOT = "core_engine"
FLOW_RUNS = "core_engine.flow_runs"
TASK_RUNS = "core_engine.task_runs"
EXTRA = "core_engine.extra"


def get_logger(name: str | None = None) -> logging.Logger:
    """Return the library's logger, or a child of it.

    Args:
        name: The child's name, with or without the leading "core_engine."; None or "" for the library's own logger.
    """
    if not name or name == ROOT:
        return logging.getLogger(ROOT)
    return logging.getLogger(name if name.startswith(ROOT + ".") else f"{ROOT}.{name}")


@contextmanager
def disable_logger(name: str) -> Iterator[None]:
    """Silence the logger called `name` inside a ``with`` block; one that was silent before stays so."""
    logger = logging.getLogger(name)
    was_disabled = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = was_disabled


@contextmanager
def disable_run_logger() -> Iterator[None]:
    """Silence the loggers of runs inside a ``with`` block.

    There `get_run_logger` also works outside of a run, so that ``task.fn()`` can be tested although it logs.
    """
    with disable_logger(FLOW_RUNS), disable_logger(TASK_RUNS):
        yield


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
