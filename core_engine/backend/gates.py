"""Where the writers of all processes stand in line.

SQLite's own lock is asked for again and again, by whoever comes just in time: with twenty writers some wait for a
hundred commits of others. The system wakes those who wait for a file lock at once. The gate keeps order only; what
protects the file is SQLite's lock, also against programs that know no gate.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from pathlib import Path

from core_engine.exceptions import StoreUnavailable

# After how long, and how often, waiting is worth a line: the process that holds the gate may have been stopped.
_PATIENCE_SECONDS = 10.0

_logger = logging.getLogger("core_engine.journal")


def gate_path(database: Path) -> Path:
    """Returns the file that is locked while the database is created, migrated or written."""
    return database.with_name(database.name + ".lock")


class Gate:
    """One place in the line before a database. Used by one thread at a time; two connections have two of them."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._descriptor: int | None = None

    def enter(self) -> None:
        """Waits until no other process writes, however long: a stopped process goes on some time, a dead one lets go.

        Raises:
            StoreUnavailable: The lock's file can neither be made nor opened.
        """
        if self._descriptor is None:
            self._descriptor = self._open()
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.wait(self._descriptor)

    def _open(self) -> int:
        path = gate_path(self._database)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreUnavailable(
                f"The database {self._database} cannot be written: {path}: {error.strerror or error}. "
                "Change the permissions, or set CORE_ENGINE_HOME to a folder that you may write."
            ) from error

    def wait(self, descriptor: int) -> None:
        """Waits for the lock. A signal may interrupt the thread in here; whoever entered leaves all the same."""
        here = threading.Event()
        watch = threading.Thread(target=self._complain, args=(here,), name="core-engine-journal-gate", daemon=True)
        try:
            # While the interpreter is ending no thread starts; then nobody is told how long it takes.
            with contextlib.suppress(RuntimeError):
                watch.start()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        finally:
            here.set()

    def _complain(self, here: threading.Event) -> None:
        waited = 0.0
        while not here.wait(_PATIENCE_SECONDS):
            waited += _PATIENCE_SECONDS
            _logger.warning(
                "Waiting for %.0f seconds to write to %s: another process is writing, or was stopped while it did. "
                "Nothing is lost; runs of this process are recorded when that one goes on or ends.",
                waited,
                self._database,
            )

    def leave(self) -> None:
        """Lets the next one in; does nothing for who is not inside."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Leaves, and gives the file up."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
