"""The one way by which anything about runs is written: a queue of entries, and a thread that commits them in groups.

``append`` only queues. The writer takes whatever is queued and commits it in one transaction as soon as the commit
before is done; who needs to know waits for the position that ``append`` returned (I1: durable before seen).
"""

from __future__ import annotations

import atexit
import heapq
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from core_engine.backend.entries import CacheStored, Entry
from core_engine.exceptions import StoreError
from core_engine.logging.records import LogEntry

Callback = Callable[[StoreError | None], None]

THREAD_NAME = "core-engine-journal"
# After so many linger times without an entry the writer sleeps until it is woken.
LONGEST_LINGER = 25

_FORKED = "A forked process has no journal: what it appends is recorded nowhere."

_logger = logging.getLogger("core_engine.journal")


class Applies(Protocol):
    """What the journal needs of a store."""

    def apply(self, entries: Sequence[Entry]) -> None:
        """Records `entries` in one transaction. Called by the journal's writer only."""


class Journal:
    """A queue in front of a store.

    Parameters:
        store: Takes the batches.
        max_batch: At most how many entries one transaction takes.
        linger_seconds: How long a small batch waits for company when nobody waits for it, so that a run's Running and
            final state meet in it.
        idle_seconds: After how long without work the writer thread ends; the next entry starts another (D36).

    Every method may be called from any thread. All fields with an underscore are guarded by ``_lock`` unless they say
    otherwise; ``committed`` is written by the thread that commits, and read without the lock.
    """

    def __init__(
        self, store: Applies, *, max_batch: int = 5000, linger_seconds: float = 0.002, idle_seconds: float = 10.0
    ) -> None:
        self._store = store
        self._max_batch = max_batch
        self._linger_seconds = linger_seconds
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._queue: list[Entry] = []
        self._position = 0
        self.committed = 0
        """Everything up to this position is in the store."""
        self._waiters: list[tuple[int, int, Callback]] = []
        self._waiter_count = 0
        self._cached: dict[str, CacheStored] = {}
        self._failure: StoreError | None = None
        self._closed = False
        self._forked = False
        self._thread: threading.Thread | None = None
        # True when an append has more to do than queueing: the writer sleeps or is not there, or will never be.
        self._attention = True
        # For how many linger times the writer has looked in vain since the last commit. The writer's alone.
        self._lingered = 0
        # Held while the writer has nothing to do; released to wake it, by whoever sets `_parked` back to "".
        self._bell = threading.Lock()
        self._bell.acquire()
        self._parked = ""
        # Held by the thread that commits.
        self._committing = threading.Lock()
        _journals.add(self)

    # What producers call.

    @property
    def position(self) -> int:
        """The position of the last entry that was appended; 0 before the first."""
        return self._position

    @property
    def failure(self) -> StoreError | None:
        """What stopped the writer; None while it works. What was committed before stays."""
        return self._failure

    def append(self, entry: Entry) -> int:
        """Queues `entry` and returns its position.

        Raises:
            StoreError: The writer has stopped (``failure``), or the journal is closed.
        """
        with self._lock:
            self._queue.append(entry)
            self._position = position = self._position + 1
            if entry.__class__ is CacheStored:
                self._cached[entry.key] = entry
            if not self._attention:
                return position
        self._rouse()
        return position

    def append_many(self, entries: Iterable[Entry]) -> int:
        """Queues `entries`, next to each other, and returns the position of the last.

        Raises:
            StoreError: The writer has stopped (``failure``), or the journal is closed.
        """
        entries = list(entries)
        with self._lock:
            self._queue += entries
            self._position = position = self._position + len(entries)
            for entry in entries:
                if entry.__class__ is CacheStored:
                    self._cached[entry.key] = entry
            if not self._attention:
                return position
        self._rouse()
        return position

    def append_log(self, entry: LogEntry) -> None:
        """Queues a log line: the journal is a ``core_engine.logging.records.LogSink``."""
        self.append(entry)

    def cached(self, key: str) -> CacheStored | None:
        """Returns the newest entry for `key` that is queued and not yet committed (D4), None when there is none.

        Ask here first and the store afterwards: an entry leaves the journal only once the store has it.
        """
        return self._cached.get(key)

    # What waiters call.

    def wait(self, position: int, timeout_seconds: float | None = None) -> bool:
        """Blocks until everything up to `position` is committed; returns False if the time ran out first.

        When the writer is not committing just now, this thread does it: not for a thread that must not touch the disk.

        Parameters:
            position: As returned by ``append``.
            timeout_seconds: None means for ever. A commit that this thread has begun is not cut short.

        Raises:
            StoreError: The writer stopped before it came to `position`.
        """
        if self.committed >= position:
            return True
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "The journal's writer cannot wait for itself: a callback of when_committed must not wait."
            )
        # The writer may be asleep, or linger: a thread that has to wait anyway is quicker than waking another.
        if not self._forked and self._committing.acquire(blocking=False):
            try:
                self._commit_queue()
            finally:
                self._committing.release()
            if self.committed >= position:
                return True
        done = threading.Lock()
        done.acquire()
        self.when_committed(position, lambda failure: done.release())
        arrived = done.acquire(timeout=-1 if timeout_seconds is None else max(0.0, timeout_seconds))
        if self.committed >= position:
            return True
        if arrived:
            self._raise_failure()
        return False

    def when_committed(self, position: int, callback: Callback) -> None:
        """Calls ``callback(None)`` once everything up to `position` is committed; when the writer has stopped or stops
        before, ``callback(failure)``.

        It is called in the thread that committed: the writer, or one in ``wait``. At once, in this thread, when there
        is nothing to wait for. It must be cheap and must not wait for the journal.
        """
        with self._lock:
            failure = self._failure
            if failure is None and self.committed < position and not self._forked:
                self._waiter_count += 1
                heapq.heappush(self._waiters, (position, self._waiter_count, callback))
                if self._parked == "lingering":
                    self._ring()
                return
        callback(None if self.committed >= position else failure or StoreError(_FORKED))

    def flush(self, timeout_seconds: float | None = None) -> bool:
        """Blocks until everything appended before the call is committed; returns False if the time ran out first.

        Raises:
            StoreError: The writer has stopped.
        """
        return self.wait(self._position, timeout_seconds)

    def close(self) -> None:
        """Commits what is queued and ends the writer. Later appends raise. Does nothing the second time.

        Raises:
            StoreError: The writer had stopped, or stops now; the journal is closed all the same.
        """
        with self._lock:
            if self._closed or self._forked:
                return
            self._closed = self._attention = True
            thread = self._thread
            if self._parked:
                self._ring()
        if thread is not None:
            thread.join()
        elif self._failure is None:
            self._drain()
        _journals.discard(self)
        if self._failure is not None:
            self._raise_failure()

    # Slow paths, in the callers' threads.

    def _rouse(self) -> None:
        """What an append has to do beside queueing: wake or start the writer, or say why there is none."""
        commit_here = False
        with self._lock:
            if self._failure is not None or self._closed or self._forked:
                self._queue.clear()
                self._cached.clear()
                if self._forked:
                    return
                self._raise_failure()
            if self._parked == "idle":
                self._ring()
            elif self._thread is None:
                commit_here = not self._start()
        if commit_here:
            self._drain()

    def _ring(self) -> None:
        """Wakes the writer; the caller holds ``_lock`` and has seen that it is parked."""
        self._parked = ""
        self._attention = self._closed
        self._bell.release()

    def _start(self) -> bool:
        """Starts a writer; the caller holds ``_lock``. Returns False when the interpreter is ending and allows none."""
        thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread = thread
        self._attention = False
        try:
            thread.start()
        except RuntimeError:
            self._thread = None
            self._attention = True
            return False
        return True

    def _raise_failure(self) -> None:
        if self._failure is not None:
            # A new exception each time: threads must not share one traceback.
            raise type(self._failure)(*self._failure.args) from self._failure
        raise StoreError(_FORKED if self._forked else "The journal is closed: nothing more is recorded through it.")

    # The writer's thread.

    def _run(self) -> None:
        while self._await_work():
            try:
                self._drain()
            except BaseException:  # of a callback: no signal arrives in this thread
                _logger.exception("A callback of the journal tried to end its writer; the journal goes on.")

    def _await_work(self) -> bool:
        """Blocks until there is something to commit; False when the thread shall end."""
        with self._lock:
            if self._failure is not None or (self._closed and not self._queue):
                self._thread = None
                return False
            if not self._queue and self._lingered < LONGEST_LINGER:
                # Callers that submit and wait in turn commit themselves: not to be woken for each saves two switches.
                self._lingered += 1
                self._parked = parked = "lingering"
            elif not self._queue:
                self._parked = parked = "idle"
                self._attention = True
            elif self._waiters or self._closed or not self._linger_seconds or len(self._queue) >= self._max_batch:
                return True
            else:
                self._parked = parked = "lingering"
        if self._bell.acquire(timeout=self._idle_seconds if parked == "idle" else self._linger_seconds):
            return True
        with self._lock:
            if not self._parked:
                # Rung just after the time ran out: take the ring, or the next sleep ends at once.
                self._bell.acquire()
                return True
            self._parked = ""
            if parked == "lingering":
                return True
            self._thread = None
            return False

    # The thread that commits: the writer, or one that waits while the writer has not begun.

    def _drain(self) -> None:
        """Commits what is queued now, in batches."""
        self._lingered = 0
        with self._committing:
            self._commit_queue()

    def _commit_queue(self) -> None:
        """The caller holds ``_committing``."""
        queue: list[Entry] = []
        done = 0
        try:
            with self._lock:
                queue, self._queue = self._queue, []
            while done < len(queue):
                batch = queue[done : done + self._max_batch] if len(queue) > self._max_batch else queue
                self._store.apply(batch)
                done += len(batch)
                self._after_commit(batch)
        except Exception as error:  # whatever it is: waiters must hear of it
            self._fail(error)
        except BaseException:
            # Ctrl-C in a thread that waits: what it took goes back, in front of what came since.
            with self._lock:
                self._queue[:0] = queue[done:]
            self._rouse()
            raise

    def _after_commit(self, batch: list[Entry]) -> None:
        reached: list[Callback] = []
        with self._lock:
            self.committed = committed = self.committed + len(batch)
            waiters = self._waiters
            while waiters and waiters[0][0] <= committed:
                reached.append(heapq.heappop(waiters)[2])
            if self._cached:
                self._forget_cached(batch)
        self._call(reached, None)

    def _forget_cached(self, batch: list[Entry]) -> None:
        for entry in batch:
            if entry.__class__ is CacheStored and self._cached.get(entry.key) is entry:
                del self._cached[entry.key]

    def _fail(self, error: Exception) -> None:
        """Stops for good: what is queued will not be recorded, and everybody who waits is told."""
        if isinstance(error, StoreError):
            failure = error
        else:
            failure = StoreError(f"The journal could not record a batch of entries: {type(error).__name__}: {error}")
            failure.__cause__ = error
        with self._lock:
            self._failure = failure
            self._attention = True
            self._queue.clear()
            self._cached.clear()
            waiters, self._waiters = self._waiters, []
        _logger.error("Runs of this process are no longer recorded, and will end with this error: %s", failure)
        self._call([callback for _, _, callback in waiters], failure)

    def _call(self, callbacks: list[Callback], failure: StoreError | None) -> None:
        interrupt: BaseException | None = None
        for callback in callbacks:
            try:
                callback(failure)
            except Exception:
                _logger.exception("A callback of the journal raised; the journal goes on.")
            except BaseException as error:
                # Ctrl-C in a thread that waits must not keep the news from the others.
                interrupt = error
        if interrupt is not None:
            raise interrupt

    # After a fork, in the child.

    def _become_silent(self) -> None:
        """In a forked child: the writer and the locks are the parent's; what is appended here goes nowhere (D33)."""
        self._lock = threading.Lock()
        self._committing = threading.Lock()
        self._forked = self._attention = True
        self._queue = []
        self._waiters = []
        self._cached = {}
        self._thread = None
        self._parked = ""


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()

# How long the end of the interpreter may be held up by a store that does not take what is queued.
_EXIT_SECONDS = 30.0


def _flush_at_exit() -> None:
    deadline = time.monotonic() + _EXIT_SECONDS
    for journal in list(_journals):
        try:
            if journal.failure is None and not journal.flush(max(0.0, deadline - time.monotonic())):
                _logger.error("The interpreter ends, and what was recorded last could not be stored in time.")
        except StoreError:
            pass  # It was logged when the journal stopped.


def _silence_in_child() -> None:
    for journal in list(_journals):
        journal._become_silent()


atexit.register(_flush_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_silence_in_child)
