"""The store, journal and lease of this process for a database."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core_engine.backend import leases
from core_engine.backend.homes import check_home
from core_engine.backend.journal import Journal
from core_engine.backend.leases import Lease
from core_engine.backend.sqlite import SqliteStore
from core_engine.backend.store import Store
from core_engine.exceptions import StoreUnavailable

if TYPE_CHECKING:
    from core_engine.settings import Settings


@dataclass(slots=True, frozen=True)
class Backend:
    """What a process records its runs with.

    Attributes:
        store: For reading, and for what is written directly (limits, requests, deletes).
        journal: The way by which runs are written.
        lease: What owners of flow runs are named by.
    """

    store: Store
    journal: Journal
    lease: Lease

    def close(self) -> None:
        """Commits what is queued and gives up the connections; the next ``open_backend`` makes new ones.

        Raises:
            StoreError: Not everything that was queued could be committed.
        """
        with _lock:
            if _backends.get(self.store.path) is self:
                del _backends[self.store.path]
        try:
            self.journal.close()
        finally:
            self.store.close()


# By database; guarded by the lock.
_backends: dict[Path, Backend] = {}
_lock = threading.Lock()


def open_backend(settings: Settings | None = None) -> Backend:
    """Returns the backend of this process for the database that `settings` name, opening it the first time.

    Parameters:
        settings: None means those in force.

    Raises:
        UnsafeHome: The home lies on a network file system.
        DatabaseDamaged, DatabaseTooNew: The file is there and cannot be used; it was left as it is.
        StoreUnavailable: The home or the database cannot be written.
    """
    if settings is None:
        from core_engine.settings import get_current_settings

        settings = get_current_settings()
    path = Path(settings.database_path).absolute()
    with _lock:
        backend = _backends.get(path)
        if backend is None:
            backend = _backends[path] = _open(settings, path)
        return backend


def open_backend_for_reading(settings: Settings | None = None) -> Backend:
    """The same as ``open_backend``, but where the database may only be read, a backend that refuses to write."""
    try:
        return open_backend(settings)
    except StoreUnavailable:
        from core_engine.backend.read_only import ReadOnlyStore, may_only_be_read
        from core_engine.settings import get_current_settings

        path = Path((settings or get_current_settings()).database_path).absolute()
        if not may_only_be_read(path):
            raise
        store = ReadOnlyStore(path)
    backend = Backend(store, Journal(store), Lease("nobody", path.parent / "nobody", os.getpid()))
    register_backend(backend)
    return backend


def register_backend(backend: Backend) -> None:
    """Makes `backend` what ``open_backend`` returns, until it is closed, for settings that name its store's path.

    Raises:
        ValueError: This process has a backend for that path already.
    """
    with _lock:
        if backend.store.path in _backends:
            raise ValueError(f"There is a backend for {backend.store.path} already; close it first.")
        _backends[backend.store.path] = backend


def _open(settings: Settings, path: Path) -> Backend:
    home = Path(settings.home).absolute()
    for folder in {home, path.parent}:
        check_home(folder, allow_network=settings.allow_network_home)
    store = SqliteStore(path, synchronous=settings.database_synchronous)
    # Beside the database, which names owners by their leases: by default that is the home.
    try:
        lease = leases.own_lease(path.parent)
    except OSError as error:
        store.close()
        raise StoreUnavailable(
            f"The home {path.parent} cannot be written ({error}). Change its permissions, "
            "or set CORE_ENGINE_HOME to a folder that you may write."
        ) from error
    return Backend(store, Journal(store), lease)


def _forget_in_child() -> None:
    """In a forked child: connections, journal and lease are the parent's; the child opens its own when it needs one."""
    global _lock
    _lock = threading.Lock()
    _backends.clear()


os.register_at_fork(after_in_child=_forget_in_child)
