"""Worker threads: reused, grown on demand, gone when idle."""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from core_engine.concurrency.waiting import Outcome

T = TypeVar("T")

IDLE_SECONDS = 10.0
IDLE_NAME = "core-engine-idle"


class WorkerThreads:
    """A pool without an upper limit, for what may block for long: flow functions, subflows, hooks, storage.

    A thread that has had nothing to do for ``IDLE_SECONDS`` ends. Threads are daemons: an interpreter that exits does
    not wait for user code that cannot be interrupted.

    ``_lock`` guards ``_idle``; it prevents that one idle thread is handed two calls.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._idle: deque[_Worker] = deque()

    def submit(self, function: Callable[..., T], *args: Any) -> Outcome[T]:
        """Calls ``function(*args)`` in a thread, with a copy of the caller's context variables."""
        outcome: Outcome[T] = Outcome()
        context = contextvars.copy_context()
        self.run(lambda: context.run(outcome.run, function, *args))
        return outcome

    def run(self, call: Callable[[], object]) -> threading.Thread:
        """Runs `call`, which raises nothing, in a thread; returns the thread."""
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is None:
            worker = _Worker(self)
            worker.give(call)
            worker.thread.start()
        else:
            worker.give(call)
        return worker.thread

    def _keep(self, worker: _Worker) -> None:
        with self._lock:
            self._idle.append(worker)

    def _retire(self, worker: _Worker) -> bool:
        """Takes an idle worker out, so that nobody gives it another call; False if somebody just did."""
        with self._lock:
            try:
                self._idle.remove(worker)
            except ValueError:
                return False
            return True


class _Worker:
    """One thread of a pool. ``_ready`` is released once for each call given."""

    def __init__(self, pool: WorkerThreads) -> None:
        self._pool = pool
        self._ready = threading.Semaphore(0)
        self._call: Callable[[], object] | None = None
        self.thread = threading.Thread(target=self._work, name=pool._name, daemon=True)

    def give(self, call: Callable[[], object]) -> None:
        self._call = call
        self._ready.release()

    def _work(self) -> None:
        while True:
            if not self._ready.acquire(timeout=IDLE_SECONDS):
                if self._pool._retire(self):
                    return
                self._ready.acquire()
            call, self._call = self._call, None
            assert call is not None
            self.thread.name = self._pool._name
            call()
            del call
            self.thread.name = IDLE_NAME
            self._pool._keep(self)


service_threads = WorkerThreads("core-engine-service")


def _forget_threads_after_fork() -> None:
    """A forked child has none of the parent's threads."""
    service_threads.__init__("core-engine-service")  # type: ignore[misc]


os.register_at_fork(after_in_child=_forget_threads_after_fork)


async def run_in_thread(function: Callable[..., T], *args: Any) -> T:
    """Calls a function in a worker thread, whoever drives this coroutine."""
    return await service_threads.submit(function, *args).arrive_result()
