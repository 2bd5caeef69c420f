"""One way to wait, in a thread or on a loop.

The engine's coroutines suspend only on a ``Latch``. Awaited on an event loop a latch suspends the task; awaited by a
coroutine that a plain thread drives with ``step`` it blocks that thread. So each rule of the engine is written once,
runs without any event loop where none is needed, and a sync user's flow keeps its own thread and traceback.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")

_running_loop = asyncio._get_running_loop
_stepping = threading.local()


def drives_loop() -> bool:
    """Returns whether awaiting here suspends a task of a running loop, rather than blocking the thread."""
    loop = _running_loop()
    return loop is not None and getattr(_stepping, "over", None) is not loop


def step(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine of the engine to its end in this thread, blocking wherever it waits.

    A loop that is already running in this thread is blocked for as long: that is what a sync call in async code means.
    """
    loop = _running_loop()
    if loop is None:
        return _exhaust(coroutine)
    before = getattr(_stepping, "over", None)
    _stepping.over = loop
    try:
        return _exhaust(coroutine)
    finally:
        _stepping.over = before


def _exhaust(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} waits for something other than the engine, which a plain thread cannot drive.")


class Latch:
    """Set once, from any thread; waited for by threads and by tasks of any loop.

    ``_lock`` prevents that a callback added while the latch is being set is lost. It is held for no call of anyone.
    """

    __slots__ = ("_callbacks", "_lock", "_set")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._callbacks: list[Callable[[], object]] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        """Wakes all who wait. Setting twice is the same as once."""
        with self._lock:
            self._set = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Calls `callback` once set, in the setting thread; at once and here if it is set already."""
        with self._lock:
            if not self._set:
                self._callbacks.append(callback)
                return
        callback()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Blocks this thread until set (True) or until the time is over (False; None: no limit)."""
        if self._set:
            return True
        gate = threading.Lock()
        gate.acquire()

        def open_gate() -> None:
            # Interrupted waits may leave a gate behind that was opened before; opening it again is no error.
            if gate.locked():
                gate.release()

        self.add_callback(open_gate)
        return gate.acquire(timeout=-1 if timeout_seconds is None else max(0.0, timeout_seconds)) or self._set

    async def arrive(self, timeout_seconds: float | None = None) -> bool:
        """Waits for the latch: suspends on a loop, blocks in a stepped thread. Returns False when time is over."""
        if self._set:
            return True
        if not drives_loop():
            return self.wait(timeout_seconds)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(_resolve, future)
            except RuntimeError:
                pass  # the loop was closed, and whoever waited went with it

        self.add_callback(wake)
        if timeout_seconds is None:
            await future
            return True
        await asyncio.wait([future], timeout=timeout_seconds)
        return self._set

    def __await__(self) -> Generator[Any, Any, bool]:
        return self.arrive().__await__()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Outcome(Latch, Generic[T]):
    """A latch with a value or an exception: the result of a call that runs elsewhere."""

    __slots__ = ("_exception", "_value")

    def __init__(self) -> None:
        super().__init__()
        self._value: T | None = None
        self._exception: BaseException | None = None

    def run(self, function: Callable[..., T], *args: Any) -> None:
        """Calls `function` and keeps what comes of it."""
        try:
            self._value = function(*args)
        except BaseException as exception:  # handed to whoever waits, whatever it is
            self._exception = exception
        self.set()

    def give(self, value: T) -> None:
        self._value = value
        self.set()

    def fail(self, exception: BaseException) -> None:
        self._exception = exception
        self.set()

    def result(self) -> T:
        """Returns the value, or raises the exception, of a set outcome."""
        if self._exception is not None:
            try:
                raise self._exception
            finally:
                self._exception = None  # breaks the cycle exception -> traceback -> this frame -> outcome
        return cast(T, self._value)

    def peek(self) -> T:
        """``result`` for callers that may come again: the exception is kept."""
        if self._exception is not None:
            raise self._exception
        return cast(T, self._value)

    def wait_result(self) -> T:
        """Blocks this thread for the result."""
        self.wait()
        return self.result()

    async def arrive_result(self) -> T:
        """Waits for the result as ``arrive`` does."""
        await self.arrive()
        return self.result()


async def run_blocking(function: Callable[..., T], *args: Any) -> T:
    """Calls a function that blocks: in place in a stepped thread, in a worker thread when a loop must go on."""
    if not drives_loop():
        return function(*args)
    from core_engine.concurrency.threads import service_threads

    return await service_threads.submit(function, *args).arrive_result()


async def await_anything(awaitable: Awaitable[T]) -> T:
    """Makes a coroutine of any awaitable."""
    return await awaitable
