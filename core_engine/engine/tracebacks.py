"""Tracebacks of user code, without the engine's own frames above it."""

from __future__ import annotations

import contextlib
from types import FrameType
from typing import TypeVar

from core_engine.concurrency.interrupts import is_engine_frame

E = TypeVar("E", bound=BaseException)


def without_engine(error: E) -> E:
    """Takes the engine's frames off the top of an exception's traceback, and returns the exception.

    One that the engine itself raised, and that came to no user code, keeps its frames.
    """
    above: list[FrameType] = []
    trace = error.__traceback__
    while trace is not None and is_engine_frame(trace.tb_frame):
        above.append(trace.tb_frame)
        trace = trace.tb_next
    if trace is None:
        return error
    for frame in above:
        # The user's frames lead back to these, and these to all runs of a map and their inputs.
        with contextlib.suppress(RuntimeError):  # one that still runs
            frame.clear()
    return error.with_traceback(trace)
