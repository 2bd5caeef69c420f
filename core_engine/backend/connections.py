"""Connections to one database file: their settings, transactions, and what SQLite's errors mean."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core_engine.exceptions import DatabaseDamaged, StoreError, StoreUnavailable

BUSY_TIMEOUT_SECONDS = 60.0
"""For how long another process may hold the database before writing gives up."""

# How long to wait before asking for the write lock again. SQLite's own busy handler goes up to 100 ms a step, which
# is 20 commits of other processes.
_FIRST_PAUSE_SECONDS = 0.0005
_LONGEST_PAUSE_SECONDS = 0.01

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def connect(
    path: Path, *, synchronous: str = "normal", read_only: bool = False, busy_seconds: float = 10.0
) -> sqlite3.Connection:
    """Opens a connection that any one thread at a time may use, in autocommit mode.

    Parameters:
        path: The database file; it is created when missing unless `read_only`.
        synchronous: "normal" (safe against killed processes), "full" (also against power loss) or "off" (for tests).
        read_only: Whether statements that write are refused.
        busy_seconds: How long SQLite itself waits for locks; ``begin_writing`` waits better.
    """
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    db = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=busy_seconds
    )
    try:
        if not read_only:
            db.execute(f"PRAGMA synchronous = {synchronous}")
            # A write-ahead log that stayed large after a burst is cut back.
            db.execute(f"PRAGMA journal_size_limit = {32 << 20}")
            db.execute("PRAGMA wal_autocheckpoint = 2000")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns errors of SQLite about the database at `path` into those of ``core_engine.exceptions``."""
    try:
        yield
    except sqlite3.Error as error:
        raise meaning(error, path) from error


def meaning(error: sqlite3.Error, path: Path) -> StoreError:
    """Returns what an error of SQLite means to somebody who has never heard of SQLite."""
    code = _code(error)
    if code in _DAMAGED:
        return DatabaseDamaged(
            f"The database {path} is damaged or is not a database ({error}). Nothing was changed. "
            "Move the file away to start with an empty one, or put a copy of it back."
        )
    if code == sqlite3.SQLITE_FULL or "is full" in str(error):
        return StoreUnavailable(
            f"The database {path} cannot grow: the disk is full ({error}). What was recorded until now stays. "
            f"Free space on the disk that holds {path.parent} and run again."
        )
    if code in _BUSY:
        return StoreUnavailable(
            f"The database {path} was locked by another process for {BUSY_TIMEOUT_SECONDS:.0f} seconds ({error}). "
            "Find out which process holds it, end that process, and run again."
        )
    if code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}:
        return StoreUnavailable(
            f"The database {path} cannot be written ({error}). Check the permissions of {path.parent}, "
            "or set CORE_ENGINE_HOME to a folder that you may write."
        )
    if code == sqlite3.SQLITE_IOERR:
        return StoreUnavailable(
            f"The database {path} cannot be read or written: the system reports an I/O error ({error}). "
            f"Check the disk that holds {path.parent}."
        )
    return StoreError(f"The database {path} refused a statement ({error}).")


def _code(error: sqlite3.Error) -> int:
    # Extended codes have the primary one in their low byte. An error of the driver itself has none.
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


@contextmanager
def writing(db: sqlite3.Connection) -> Iterator[None]:
    """A write transaction: committed at the end of the block, rolled back when it raises."""
    begin_writing(db)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        roll_back(db)
        raise


def begin_writing(db: sqlite3.Connection) -> None:
    """Begins a write transaction, waiting for other writers up to ``BUSY_TIMEOUT_SECONDS``."""
    deadline: float | None = None
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            db.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if _code(error) not in _BUSY:
                raise
            now = time.monotonic()
            deadline = deadline or now + BUSY_TIMEOUT_SECONDS
            if now >= deadline:
                raise
        # Random, so that processes which lost together do not come back together.
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


def roll_back(db: sqlite3.Connection) -> None:
    """Ends the transaction without effect; after some errors SQLite has done that already."""
    if db.in_transaction:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")


class ReadPool:
    """Read connections to one file, handed from thread to thread.

    Fields are guarded by ``_lock``: threads borrow and give back at any time.
    """

    def __init__(self, path: Path, idle: int = 8) -> None:
        self._path = path
        self._idle = idle
        self._lock = threading.Lock()
        self._free: list[sqlite3.Connection] = []
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: everything read in the block is of one moment. Never waits for writers."""
        with translated(self._path):
            db = self._borrow()
            try:
                db.execute("BEGIN")
                yield db
            finally:
                roll_back(db)
                self._give_back(db)

    def close(self) -> None:
        """Closes the connections that nobody has borrowed; the others are closed when they are given back."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for db in free:
            db.close()

    def abandon(self) -> None:
        """Drops the connections without closing them: for a forked child, in which they are the parent's."""
        _ABANDONED.extend(self._free)
        self._free = []
        self._lock = threading.Lock()

    def _borrow(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StoreUnavailable(f"The store on {self._path} is closed.")
            if self._free:
                return self._free.pop()
        return connect(self._path, read_only=True)

    def _give_back(self, db: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._free) < self._idle:
                self._free.append(db)
                return
        db.close()


# A connection of the parent must never be closed in a forked child: SQLite would take the parent's locks for its own.
_ABANDONED: list[object] = []


def abandon(connection: object) -> None:
    """Keeps `connection` for ever, so that it is never closed in this (forked) process."""
    _ABANDONED.append(connection)


def sidecars(path: Path) -> list[Path]:
    """Returns the files that SQLite keeps beside the database at `path`."""
    return [Path(os.fspath(path) + suffix) for suffix in ("-wal", "-shm")]
