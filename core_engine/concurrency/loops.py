"""Event loops in threads of their own."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from core_engine.concurrency.waiting import Outcome

T = TypeVar("T")


class LoopThread:
    """An event loop in a daemon thread.

    Parameters:
        name: Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            _cancel_rest(self.loop)
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            asyncio.set_event_loop(None)
            self.loop.close()

    def submit(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> Outcome[T]:
        """Awaits ``function(*args)`` on the loop, with a copy of the caller's context variables. Any thread."""
        outcome: Outcome[T] = Outcome()
        context = contextvars.copy_context()

        async def main() -> None:
            try:
                outcome.give(await function(*args))
            except BaseException as exception:  # handed to whoever waits, whatever it is
                outcome.fail(exception)

        self.loop.call_soon_threadsafe(lambda: self.keep(self.loop.create_task(main(), context=context)))
        return outcome

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Holds a task until it is done, as loops hold tasks only weakly. On the loop's thread."""
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    def call_later(self, delay_seconds: float, callback: Callable[[], object]) -> Timer:
        """Calls `callback` on the loop after a delay, unless the timer is cancelled. Any thread."""
        timer = Timer(self, callback)
        self.loop.call_soon_threadsafe(timer._arm, delay_seconds)
        return timer

    def retire(self) -> None:
        """Leaves the loop behind, which somebody holds: it ends as by ``stop`` when it is let go. Returns at once."""
        self.loop.call_soon_threadsafe(self.loop.stop)

    def stop(self, longest_seconds: float = 10.0) -> None:
        """Cancels what still runs on the loop, closes it and waits for its thread. Any thread but its own."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(timeout=longest_seconds)


_tasks: set[asyncio.Task[Any]] = set()


def _cancel_rest(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


class Timer:
    """A callback to come; ``cancel`` may be called from any thread, also after it came."""

    __slots__ = ("_callback", "_cancelled", "_handle", "_loop")

    def __init__(self, loop: LoopThread, callback: Callable[[], object]) -> None:
        self._loop = loop
        self._callback = callback
        self._cancelled = False
        self._handle: asyncio.TimerHandle | None = None

    def _arm(self, delay_seconds: float) -> None:
        if not self._cancelled:
            self._handle = self._loop.loop.call_later(delay_seconds, self._fire)

    def _fire(self) -> None:
        if not self._cancelled:
            self._callback()

    def cancel(self) -> None:
        self._cancelled = True
        if self._handle is not None:
            self._loop.loop.call_soon_threadsafe(self._handle.cancel)


_engine_loop: LoopThread | None = None
_engine_lock = threading.Lock()


def engine_loop() -> LoopThread:
    """Returns the process's engine loop: timers, runners' life, requests from outside. It never runs user code."""
    global _engine_loop
    loop = _engine_loop
    if loop is None:
        with _engine_lock:
            loop = _engine_loop
            if loop is None:
                loop = _engine_loop = LoopThread("core-engine-loop")
    return loop


def in_engine_loop() -> bool:
    """Returns whether the caller runs on the engine loop's thread, which it must not block."""
    return _engine_loop is not None and threading.current_thread() is _engine_loop.thread


def _forget_loop_after_fork() -> None:
    """A forked child has no thread for the parent's loop."""
    global _engine_loop, _engine_lock
    _engine_loop = None
    _engine_lock = threading.Lock()
    _tasks.clear()


os.register_at_fork(after_in_child=_forget_loop_after_fork)
