"""No test may leave a thread or a child process behind (invariant I8, decision D36).

What was there before the test may stay, and so may the few threads that the engine keeps for the next run.
"""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

# The engine's threads that outlive a run, by the beginning of their names.
ALLOWED_THREADS = ("core-engine-loop", "core-engine-journal", "core-engine-idle")
# Threads that libraries keep for the whole process: fsspec's event loop for asynchronous file systems, Dask's threads
# for large messages and its profiler.
ALLOWED_FOREIGN_THREADS = ("fsspecIO", "Dask-Offload", "Dask-Callback-Thread", "Profile")
# Helpers that multiprocessing starts once and keeps until the interpreter exits.
ALLOWED_CHILDREN = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--leak-grace-seconds",
        type=float,
        default=5.0,
        help="how long a thread or a process that is on its way out may take after its test (default: 5)",
    )


@pytest.fixture(autouse=True)
def nothing_left_behind(pytestconfig: pytest.Config) -> Iterator[None]:
    """Fail a test that ends with more threads or child processes than it began with."""
    threads_before = {thread: thread.name for thread in threading.enumerate()}
    children_before = _child_pids()
    yield
    deadline = time.monotonic() + pytestconfig.getoption("--leak-grace-seconds")
    threads = _lasting_threads(threads_before, deadline)
    children = _lasting_children(children_before, deadline)
    if threads or children:
        pytest.fail("The test left behind: " + "; ".join(threads + children), pytrace=False)


def _lasting_threads(names_before: dict[threading.Thread, str], deadline: float) -> list[str]:
    """Wait until `deadline` for the test's threads to end or go idle, and describe those that did not.

    An idle thread of an earlier test that was given work of this one has another name as long as it works.
    """
    lasting = []
    for thread in threading.enumerate():
        if thread.name == names_before.get(thread) or thread.name.startswith(ALLOWED_THREADS + ALLOWED_FOREIGN_THREADS):
            continue
        if isinstance(thread, threading._DummyThread):  # started by foreign code, cannot be joined
            continue
        while thread.is_alive() and time.monotonic() < deadline:
            thread.join(0.01)
            # A worker that goes idle keeps its thread and takes the idle name.
            if thread.name.startswith(ALLOWED_THREADS):
                break
        else:
            if thread.is_alive():
                lasting.append(f"thread {thread.name!r}{' (daemon)' if thread.daemon else ''}")
    return lasting


def _lasting_children(before: set[int], deadline: float) -> list[str]:
    """Wait until `deadline` for the test's child processes to end, and describe and kill those that did not."""
    lasting = []
    for pid in _child_pids() - before:
        try:
            child = psutil.Process(pid)
            description = f"process {pid} ({child.status()}): {' '.join(child.cmdline()) or child.name()}"
            if any(helper in description for helper in ALLOWED_CHILDREN):
                continue
            child.wait(max(0.0, deadline - time.monotonic()))
        except psutil.NoSuchProcess:
            continue
        except psutil.TimeoutExpired:
            child.kill()
            lasting.append(description)
    return lasting


def _child_pids() -> set[int]:
    """Return the ids of this process's children, read the cheap way where the system offers one."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    try:
        return {int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()}
    except OSError:
        return {child.pid for child in psutil.Process().children()}
