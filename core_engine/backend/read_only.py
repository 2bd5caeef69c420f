"""A database that may be read and not written: what commands that only look use where the home is read-only."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import UUID

from core_engine.backend.connections import ReadPool, WriteConnection, connect_for_reading, translated
from core_engine.backend.entries import Entry
from core_engine.backend.opening import check_revision
from core_engine.backend.sqlite import SqliteStore
from core_engine.exceptions import StoreUnavailable


class ReadOnlyStore(SqliteStore):
    """A database file that is there and is left as it is. What would write raises StoreUnavailable.

    Runs of processes that died are shown as they were recorded, since nothing can be recorded of them.

    Parameters:
        path: The file.

    Raises:
        DatabaseDamaged, DatabaseTooNew, StoreUnavailable: It cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        with translated(self.path):
            self._watcher = connect_for_reading(self.path)
        with translated(self.path), closing(connect_for_reading(self.path)) as db:
            check_revision(db, self.path)
        self._apply_lock = threading.Lock()
        self._control_lock = threading.Lock()
        self._watch_lock = threading.Lock()
        self._pool = ReadPool(self.path)
        self._closed = False

    def apply(self, entries: Sequence[Entry]) -> None:
        raise self._refusal()

    def reconcile(self, now: float, is_free: Callable[[str], bool] | None = None) -> list[UUID]:
        return []

    def close(self) -> None:
        with self._watch_lock:
            if not self._closed:
                self._closed = True
                self._pool.close()
                self._watcher.close()

    @contextmanager
    def _controlling(self) -> Iterator[WriteConnection]:
        raise self._refusal()
        yield  # makes this a generator, as what it replaces is

    def _connect(self) -> WriteConnection:
        raise self._refusal()

    def _refusal(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"The database {self.path} can be read, but not written. Change the permissions of {self.path.parent}, "
            "or set CORE_ENGINE_HOME to a folder that you may write."
        )


def may_only_be_read(path: Path) -> bool:
    """Returns whether there is a database at `path` that this user may read, and not write."""
    if not os.access(path, os.R_OK):
        return False
    return not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK))
