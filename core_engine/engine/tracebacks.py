"""Tracebacks of user code, without the engine's own frames above it."""

from __future__ import annotations

from typing import TypeVar

from core_engine.concurrency.interrupts import is_engine_frame

E = TypeVar("E", bound=BaseException)


def without_engine(error: E) -> E:
    """Takes the engine's frames off the top of an exception's traceback, and returns the exception.

    One that the engine itself raised, and that came to no user code, keeps its frames.
    """
    trace = error.__traceback__
    while trace is not None and is_engine_frame(trace.tb_frame):
        trace = trace.tb_next
    return error if trace is None else error.with_traceback(trace)
