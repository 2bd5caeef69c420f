"""A plugin of Dask's scheduler: the calls of one client start once, whatever the cluster does with others (D22).

By default Dask starts a call again when its worker dies, up to the cluster's ``allowed-failures``, and a finished one
when the worker that holds its value dies. Its own documented fields say how often a task's workers have died, and how
it is made again; the plugin sets them for our calls, which costs no message. At the client's end it takes along what
the scheduler remembers of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

from core_engine.remote import run_call
from runners.dask.worker_road import execute

# For how long workers may still report to a client that is gone, and one that went without a word may come back.
FORGET_SECONDS = 60
CALLS = frozenset({execute, run_call})


class SingleStarts(SchedulerPlugin):
    """Lives in the scheduler from a client's start to its end.

    Parameters:
        client: Id of the client.
    """

    def __init__(self, client: str) -> None:
        self.name = f"core-engine-single-starts-{client}"
        self._client = client
        self._scheduler: Any = None
        self._calls: set[Any] = set()

    async def start(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def update_graph(self, scheduler: Any, *, client: str, tasks: Collection[Any], **kwargs: Any) -> None:
        """Calls have arrived, and none has started: their workers count as having died as often as is allowed."""
        if client != self._client:
            return
        for key in tasks:
            state = scheduler.tasks[key]
            if getattr(state.run_spec, "func", None) in CALLS:
                state.suspicious = scheduler.allowed_failures
                self._calls.add(key)

    def transition(self, key: Any, start: Any, finish: Any, *args: Any, **kwargs: Any) -> None:
        """A call that has ended is data from now on: lost, it is not made again."""
        if key not in self._calls:
            return
        if finish == "memory":
            self._scheduler.tasks[key].run_spec = None
        elif finish != "forgotten":
            return
        self._calls.discard(key)

    def remove_client(self, scheduler: Any, client: str) -> None:
        if client != self._client:
            return
        scheduler.plugins.pop(self.name, None)
        topics = getattr(getattr(scheduler, "_broker", None), "_topics", {})
        if client not in topics:
            return
        # Who left in order listens no more. Another may come back, and asks for what it missed.
        if client not in topics[client].subscribers:
            # Workers say their last when they notice: the topic stays for so long, and keeps nothing.
            topics[client].events = deque(maxlen=0)
        asyncio.get_running_loop().call_later(FORGET_SECONDS, _forget_topic, scheduler, topics, client)


def _forget_topic(scheduler: Any, topics: Any, client: str) -> None:
    """Drops the topic of a client that has gone, which the scheduler itself would keep."""
    if client not in scheduler.clients:
        topics.pop(client, None)
