"""Who is alive: one locked file per process under the home (D7).

The system drops the lock when the process ends, however it ends. So a lease that is free means that its owner is dead,
exactly: a closed laptop lid or a breakpoint never makes one free.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_FOLDER = "leases"
_NOT_A_FILE_NAME = re.compile(r"[^A-Za-z0-9.-]+")


@dataclass(slots=True, frozen=True)
class Lease:
    """The lease of a process in one home.

    Attributes:
        name: Host, process number and a random part: names no other process, ever.
        path: The file that is locked as long as the process lives.
        pid: The process that holds it. A forked child has another number and must take a lease of its own.
    """

    name: str
    path: Path
    pid: int


# The leases of this process by home, with the descriptors that hold them; guarded by the lock.
_held: dict[Path, tuple[Lease, int]] = {}
_lock = threading.Lock()


def own_lease(home: Path) -> Lease:
    """Returns the lease of this process in `home`, taking it the first time.

    Raises:
        OSError: The home cannot be written.
    """
    home = Path(home).absolute()
    with _lock:
        if home not in _held:
            _held[home] = _take(home / _FOLDER)
        return _held[home][0]


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


def is_free(home: Path, name: str) -> bool:
    """Returns whether nobody holds the lease `name` of `home`: its process has ended."""
    with _lock:
        if any(lease.name == name for lease, _ in _held.values()):
            return False
    try:
        descriptor = os.open(Path(home) / _FOLDER / name, os.O_RDONLY)
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


def give_up(home: Path) -> None:
    """Gives up the lease of this process in `home`, if it has one: its unfinished runs count as crashed from now on."""
    with _lock:
        held = _held.pop(Path(home).absolute(), None)
    if held is not None:
        lease, descriptor = held
        lease.path.unlink(missing_ok=True)
        os.close(descriptor)


def remove_free(home: Path) -> None:
    """Removes the files of leases that nobody holds."""
    with suppress(FileNotFoundError):
        for path in (Path(home) / _FOLDER).iterdir():
            # One without its final name may be about to be locked.
            if not path.name.startswith(".") and is_free(home, path.name):
                path.unlink(missing_ok=True)


def _forget_in_child() -> None:
    """In a forked child: closes what it inherited, or the parent would seem alive for as long as the child is."""
    global _lock
    _lock = threading.Lock()
    for _, descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)
