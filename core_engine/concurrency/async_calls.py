"""Async calls on an event loop of their own: the task loop of one task runner, shared by all its async functions."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from core_engine.concurrency.loops import LoopThread
from core_engine.concurrency.waiting import Outcome

if TYPE_CHECKING:
    from core_engine.engine.calls import CallBlock, TaskCall

T = TypeVar("T")


class AsyncCalls:
    """Runs async calls on a loop in a thread of its own, at most `window` at a time.

    The loop starts with the first call. Everything below the banner belongs to the loop's thread; ``_lock`` keeps two
    threads from starting two loops.

    Parameters:
        window: How many calls may be in flight.
        name: The worker's name, kept with each run.
    """

    def __init__(self, window: int, name: str = "loop") -> None:
        self._window = window
        self._name = name
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._blocks: deque[CallBlock] = deque()
        self._in_flight: set[asyncio.Task[Any]] = set()

    def _loop(self) -> LoopThread:
        with self._lock:
            if self._thread is None:
                self._thread = LoopThread("core-engine-tasks")
            return self._thread

    def add(self, block: CallBlock) -> None:
        """Runs the calls of a block. Any thread."""
        self._loop().loop.call_soon_threadsafe(self._add, block)

    def run(self, call: TaskCall) -> Outcome[float | None]:
        """Runs one call; the outcome is what its ``arun`` returns. Any thread."""
        loop = self._loop()
        outcome: Outcome[float | None] = Outcome()

        def start() -> None:
            task = loop.loop.create_task(call.arun(self._name), context=call.run_set.context.copy())
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)
            task.add_done_callback(lambda done: outcome.run(done.result))

        loop.loop.call_soon_threadsafe(start)
        return outcome

    def submit(self, call: Callable[[], Awaitable[T]], context: Context | None = None) -> Outcome[T]:
        """Awaits ``call()`` on the loop, with `context`, None: a copy of the caller's. Any thread."""

        async def main() -> T:
            return await call()

        loop = self._loop()
        return loop.submit(main) if context is None else context.run(lambda: loop.submit(main))

    def stop(self) -> None:
        """Ends the loop; what still runs on it is cancelled. Blocks."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    # On the loop's thread ---------------------------------------------------------------------------------------------

    def _add(self, block: CallBlock) -> None:
        self._blocks.append(block)
        self._fill()

    def _fill(self) -> None:
        loop = asyncio.get_running_loop()
        while self._blocks and len(self._in_flight) < self._window:
            call = self._blocks[0].take()
            if call is None:
                self._blocks.popleft()
                continue
            task = loop.create_task(call.arun(self._name), context=call.run_set.context.copy())
            self._in_flight.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._in_flight.discard(task)
        if self._blocks:
            self._fill()
