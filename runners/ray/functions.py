"""Remote functions, and the mailbox's class. Each is made once in a process: Ray's head keeps what was exported."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from core_engine.remote import by_value, run_call
from runners.ray.mailbox import MOST_WAITING, Mailbox
from runners.ray.options import NONE
from runners.ray.worker import execute, execute_at_once, execute_by_and_by

if TYPE_CHECKING:
    from core_engine.remote import Block


# How much each of the functions that execute a block returns, as Ray counts it.
RETURNS: dict[Callable[..., Any], int | str] = {execute: 1, execute_at_once: 2, execute_by_and_by: "streaming"}


def task_name_of(call: str) -> str:
    """Returns the name of the task whose runs a block has, from the name of its call."""
    return call.rpartition("-")[0]


class RemoteFunctions:
    """The remote functions for blocks, one for each set of options. ``_lock`` guards them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[Any, str], Any] = {}
        self._named: dict[tuple[Any, str, str], Any] = {}

    def of(self, block: Block, function: Callable[..., Any]) -> Any:
        """Returns the remote function for a block, named after the block's task.

        Parameters:
            block: The block.
            function: One of ``RETURNS``.

        Raises:
            ValueError, TypeError: Ray refuses an option.
        """
        options = block.annotations or NONE
        chosen = repr(sorted(options.items()))
        task_name = task_name_of(block.name)
        with self._lock:
            named = self._named.get((function, chosen, task_name))
            if named is None:
                known = self._known.get((function, chosen))
                if known is None:
                    known = self._known[function, chosen] = _remote(function, options)
                named = self._named[function, chosen, task_name] = known.options(name=task_name)
            return named


def _remote(function: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    import ray

    # Starts are counted by us, not by Ray (D22).
    return ray.remote(**{**options, "max_retries": 0, "num_returns": RETURNS[function]})(function)


@cache
def remote_call() -> Any:
    """Returns the remote function for a single call of anything."""
    import ray

    return ray.remote(max_retries=0)(run_call)


@cache
def remote_introduction() -> Any:
    """Returns the remote function by which a node says what it has. It needs nothing of ours there, and no free CPU."""
    import ray

    return ray.remote(num_cpus=0, max_retries=0)(by_value(_introduce))


@cache
def remote_mailbox() -> Any:
    """Returns the class of the actor that a flow makes."""
    import ray

    return ray.remote(num_cpus=0, max_concurrency=MOST_WAITING, max_restarts=0)(Mailbox)


def _introduce(versions: Any, library: str) -> tuple[dict[str, str], float]:
    import time

    return versions(library), time.time()


functions = RemoteFunctions()
