"""Connections to one database file: their settings, and what SQLite's errors mean."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from core_engine.backend.gates import Gate
from core_engine.exceptions import DatabaseDamaged, StoreError, StoreUnavailable

BUSY_TIMEOUT_SECONDS = 60.0
"""For how long another process may hold the database before writing gives up."""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class WriteConnection(sqlite3.Connection):
    """A connection that writes. `gate` is where it stands in line with other writers; None for who holds it already."""

    gate: Gate | None = None

    def close(self) -> None:
        super().close()
        if self.gate is not None:
            self.gate.close()


def connect(path: Path, *, synchronous: str = "normal", gated: bool = True) -> WriteConnection:
    """Opens a connection for writing that any one thread at a time may use, in autocommit mode.

    Parameters:
        path: The database file; it is created when missing.
        synchronous: "normal" (safe against killed processes), "full" (also against power loss) or "off" (for tests).
        gated: False for who holds the gate of this database already.
    """
    db = _open(path, "rwc", WriteConnection)
    try:
        db.execute(f"PRAGMA synchronous = {synchronous}")
        # A write-ahead log that stayed large after a burst is cut back.
        db.execute(f"PRAGMA journal_size_limit = {32 << 20}")
        db.execute("PRAGMA wal_autocheckpoint = 2000")
    except BaseException:
        db.close()
        raise
    if gated:
        db.gate = Gate(path)
    return db


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """Opens a connection that cannot write, and that any one thread at a time may use."""
    wal = sidecars(path)[0]
    if not os.access(path.parent, os.W_OK) and not wal.exists():
        # SQLite would make the files beside it. Without them nobody is writing, and all is in the file itself.
        return _open(path, "ro&immutable=1", sqlite3.Connection)
    return _open(path, "ro", sqlite3.Connection)


_C = TypeVar("_C", bound=sqlite3.Connection)


def _open(path: Path, mode: str, kind: type[_C]) -> _C:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        # For what is locked for an instant only: when a file is created, or closed by the last who used it.
        timeout=30.0,
        factory=kind,
    )


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns errors of SQLite about the database at `path` into those of ``core_engine.exceptions``."""
    try:
        yield
    except sqlite3.Error as error:
        raise meaning(error, path) from error


def meaning(error: sqlite3.Error, path: Path) -> StoreError:
    """Returns what an error of SQLite means to somebody who has never heard of SQLite."""
    code = error_code(error)
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
    if code in BUSY:
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


def error_code(error: sqlite3.Error) -> int:
    """Returns the primary code of an error of SQLite, 0 for an error of the driver itself."""
    # Extended codes have the primary one in their low byte.
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


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
        return connect_for_reading(self._path)

    def _give_back(self, db: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._free) < self._idle:
                self._free.append(db)
                return
        db.close()


# A connection of the parent must never be closed in a forked child: SQLite would take the parent's locks for its own.
_ABANDONED: list[sqlite3.Connection] = []


def abandon(connection: sqlite3.Connection) -> None:
    """Keeps `connection` for ever, so that it is never closed in this (forked) process."""
    _ABANDONED.append(connection)
    if isinstance(connection, WriteConnection) and connection.gate is not None:
        # The parent's place in line must end with the parent.
        connection.gate.close()


def sidecars(path: Path) -> list[Path]:
    """Returns the files that SQLite keeps beside the database at `path`."""
    return [Path(os.fspath(path) + suffix) for suffix in ("-wal", "-shm")]
