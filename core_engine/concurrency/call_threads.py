"""Sync calls in threads that pull from one shared queue, so that nothing is committed to a slow neighbour (D15).

Tiny calls are fastest in one thread, since only one runs Python code at a time; calls that wait want a thread each.
So threads are added while the queue does not move, or moves slowly, and leave when it flies.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from core_engine.concurrency.loops import engine_loop
from core_engine.concurrency.threads import WorkerThreads
from core_engine.concurrency.waiting import Latch

if TYPE_CHECKING:
    from core_engine.engine.calls import CallBlock, TaskCall

LOOK_SECONDS = 0.002
# So many calls between two looks are tiny ones.
MANY_ENDED = 10

_threads = WorkerThreads("core-engine-worker")


class CallThreads:
    """A queue of blocks of calls and the threads that work on it.

    ``_lock`` guards the queue's ends and the number of threads: it prevents that a thread leaves while a block is
    added that nobody else would see. ``_ended`` is counted without it; an approximate count is enough.

    ``_limit`` is how many threads are wanted; a thread that is one too many leaves after its call.

    Parameters:
        max_workers: The largest number of threads.
    """

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers
        self._lock = threading.Lock()
        self._blocks: deque[CallBlock] = deque()
        self._workers = 0
        self._limit = 1
        self._free_names: list[int] = []
        self._names = 0
        self._ended = 0
        self._ended_before = 0
        self._looking = False
        self._looked = _Moment.now()
        self._no_workers = Latch()
        self._no_workers.set()

    def add(self, block: CallBlock) -> None:
        """Runs the calls of a block. Any thread."""
        with self._lock:
            block.line_up(self._blocks)
            start = self._workers == 0
            if start:
                self._workers = self._limit = 1
                self._no_workers = Latch()
            look, self._looking = not self._looking, True
        if start:
            _threads.run(self._work)
        if look:
            self._ended_before, self._looked = self._ended, _Moment.now()
            engine_loop().call_later(LOOK_SECONDS, self._look)

    def all_done(self) -> Latch:
        """Returns a latch that is set when no thread works on the queue any more."""
        with self._lock:
            return self._no_workers

    def _work(self) -> None:
        """Runs calls until there are none. In a worker thread."""
        name = self._take_name()
        worker = f"worker-{name}"
        while True:
            call = self._take()
            if call is not None:
                call.run(worker)
                self._ended += 1
            if (call is None or self._workers > self._limit) and self._leave(name):
                return

    def _take(self) -> TaskCall | None:
        while self._blocks:
            try:
                block = self._blocks[0]
            except IndexError:
                return None
            call = block.take()
            if call is not None:
                return call
            with self._lock:
                if self._blocks and self._blocks[0] is block:
                    self._blocks.popleft()
        return None

    def _leave(self, name: int) -> bool:
        with self._lock:
            if self._blocks and self._workers <= self._limit:
                return False
            self._workers -= 1
            self._free_names.append(name)
            latch = self._no_workers if self._workers == 0 else None
        if latch is not None:
            latch.set()
        return True

    def _take_name(self) -> int:
        with self._lock:
            if self._free_names:
                self._free_names.sort(reverse=True)
                return self._free_names.pop()
            self._names += 1
            return self._names

    # On the engine loop -----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Adds threads if the queue does not move, lets some go if it flies, and looks again while there is a queue."""
        with self._lock:
            if not self._blocks:
                self._looking = False
                return
            self._limit = self._wanted()
            more = self._limit - self._workers
            if more > 0:
                self._workers += more
        for _ in range(max(0, more)):
            _threads.run(self._work)
        engine_loop().call_later(LOOK_SECONDS, self._look)

    def _wanted(self) -> int:
        """Returns how many threads are wanted, by what happened since the last look."""
        ended, self._ended_before = self._ended - self._ended_before, self._ended
        before, self._looked = self._looked, _Moment.now()
        workers = max(1, self._workers)
        if ended == 0:
            return min(self._max_workers, workers * 2)
        if ended >= MANY_ENDED and self._looked.is_busy_since(before):
            return max(1, workers // 2)
        return min(self._max_workers, workers + max(1, workers // 2))


class _Moment(NamedTuple):
    """The time, and the processor time that this process has used."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> _Moment:
        return cls(time.perf_counter(), time.process_time())

    def is_busy_since(self, before: _Moment) -> bool:
        """Returns whether a processor was in use for more than half of the time: more threads would only wait."""
        return self.cpu - before.cpu > 0.5 * (self.wall - before.wall)


def _forget_threads_after_fork() -> None:
    _threads.__init__("core-engine-worker")  # type: ignore[misc]


os.register_at_fork(after_in_child=_forget_threads_after_fork)
