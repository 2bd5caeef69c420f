"""Threads of the user's own that know the run in which they were started.

A new thread, and one of a plain pool, has no context: ``get_run_logger()``, ``core_engine.runtime`` and captured prints
do not know there which run they belong to.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

__all__ = ["ContextThreadPoolExecutor", "in_context"]


def in_context(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function`, to be called in another thread as part of the run that is current now.

    Any number of threads may call it at the same time; context variables that one of them sets are its own.

    Args:
        function: A sync function.

    Example:
        >>> threading.Thread(target=in_context(work), args=(1,)).start()  # doctest: +SKIP
    """
    context = contextvars.copy_context()

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        # A copy for each call: a context can be entered by one thread at a time.
        return context.copy().run(function, *args, **kwargs)

    return call


class ContextThreadPoolExecutor(ThreadPoolExecutor):
    """A ``ThreadPoolExecutor`` whose calls are part of the run in which they are submitted, or mapped."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """As that of the base class, in the context of the caller."""
        return super().submit(in_context(fn), *args, **kwargs)
