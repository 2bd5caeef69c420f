"""Watching processes: the memory of a cluster's, and what came to this one over TCP."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.1
# Where ``struct tcp_info`` of Linux has ``tcpi_bytes_received``.
_BYTES_RECEIVED = 128


@dataclass(slots=True)
class Memory:
    """What was seen: ``peak`` is the most bytes at once."""

    peak: int = 0


@contextmanager
def watched_memory(pid: int) -> Iterator[Memory]:
    """Watches the memory of all descendants of a process; what they share counts once."""
    seen, over = Memory(), threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.peak = max(seen.peak, memory_of_children(pid))
            over.wait(SAMPLE_SECONDS)

    thread = threading.Thread(target=watch, name="benchmark-memory")
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def memory_of_children(pid: int) -> int:
    """Returns how much memory all descendants of a process have, in bytes."""
    import psutil

    total = 0
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError, ProcessLookupError):
            # Of what several map, such as Ray's store of objects, each has its share.
            for line in Path(f"/proc/{child.pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def received_bytes() -> int:
    """Returns how many bytes the open TCP connections of this process have received; 0 where the system cannot tell."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError, ValueError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                total += _received_by(int(name))
    return total


def _received_by(descriptor: int) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        if connection.type != socket.SOCK_STREAM or connection.family not in (socket.AF_INET, socket.AF_INET6):
            return 0
        information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED + 8)
    return int(struct.unpack_from("Q", information, _BYTES_RECEIVED)[0])
