"""Who is alive: one locked file per process beside the database (D7).

The system drops the lock when the process ends, however it ends. So a lease that is free means that its owner is dead,
exactly: a closed laptop lid or a breakpoint never makes one free.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_SUBFOLDER = "leases"
# Far longer than it takes to lock a file and name it.
_UNNAMED_SECONDS = 3600.0
_NOT_A_FILE_NAME = re.compile(r"[^A-Za-z0-9.-]+")


@dataclass(slots=True, frozen=True)
class Lease:
    """The lease of a process in one folder.

    Attributes:
        name: Host, process number and a random part: names no other process, ever.
        path: The file that is locked as long as the process lives.
        pid: The process that holds it. A forked child has another number and must take a lease of its own.
    """

    name: str
    path: Path
    pid: int


# The leases of this process by folder, with the descriptors that hold them; guarded by the lock.
_held: dict[Path, tuple[Lease, int]] = {}
_lock = threading.Lock()


def own_lease(folder: Path) -> Lease:
    """Returns the lease of this process in `folder`, taking it the first time.

    Raises:
        OSError: The folder cannot be written.
    """
    folder = Path(folder).absolute()
    with _lock:
        if folder not in _held:
            _held[folder] = _take(folder / _SUBFOLDER)
        return _held[folder][0]


def _take(folder: Path) -> tuple[Lease, int]:
    folder.mkdir(parents=True, exist_ok=True)
    host = _NOT_A_FILE_NAME.sub("-", socket.gethostname())[:40]
    pid = os.getpid()
    name = f"{host}-{pid}-{os.urandom(6).hex()}"
    # Locked before it has its name: nobody can find it free, and take its owner for dead, in between.
    unnamed = folder / f".{name}"
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        # Of the lock kinds, flock's is not lost when something in this process reads and closes the file.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(unnamed, folder / name)
    except BaseException:
        os.close(descriptor)
        unnamed.unlink(missing_ok=True)
        raise
    return Lease(name, folder / name, pid), descriptor


def is_free(folder: Path, name: str) -> bool:
    """Returns whether nobody holds the lease `name` of `folder`: its process has ended."""
    with _lock:
        if any(lease.name == name for lease, _ in _held.values()):
            return False
    try:
        descriptor = os.open(Path(folder) / _SUBFOLDER / name, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        # Shared, so that two processes that ask at once do not take each other for the owner.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def give_up(folder: Path) -> None:
    """Gives up the lease of this process in `folder`, if it has one: its unfinished runs count as crashed."""
    with _lock:
        held = _held.pop(Path(folder).absolute(), None)
    if held is not None:
        lease, descriptor = held
        lease.path.unlink(missing_ok=True)
        os.close(descriptor)


def remove_free(folder: Path) -> None:
    """Removes the files of leases that nobody holds."""
    with suppress(FileNotFoundError):
        for path in (Path(folder) / _SUBFOLDER).iterdir():
            # One without its final name is about to be locked, unless its process was killed just then.
            is_unnamed = path.name.startswith(".")
            if is_free(folder, path.name) and not (is_unnamed and _age_seconds(path) < _UNNAMED_SECONDS):
                path.unlink(missing_ok=True)


def _age_seconds(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _forget_in_child() -> None:
    """In a forked child: closes what it inherited, or the parent would seem alive for as long as the child is."""
    global _lock
    _lock = threading.Lock()
    for _, descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)
