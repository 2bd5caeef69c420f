"""Async items on a worker: those of a block side by side, on the loop that all blocks of the process share."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.loops import LoopThread
from core_engine.remote.reports import TIMES

if TYPE_CHECKING:
    from core_engine.remote.item_runs import ItemRuns
    from core_engine.remote.reporting import BlockReport

TURN_SECONDS = 0.1


def run_side_by_side(runs: ItemRuns, take: Callable[[], int | None], report: BlockReport) -> Iterator[None]:
    """Executes the items of a block that `take` gives the numbers of; yields now and then until they have ended."""
    with _task_loop as loop:
        ending = loop.submit(_run_all, runs, take, report)
        ended = threading.Event()
        ending.add_callback(ended.set)
        while not ended.wait(TURN_SECONDS):
            yield
        ending.result()


async def _run_all(runs: ItemRuns, take: Callable[[], int | None], report: BlockReport) -> None:
    started = time.monotonic()
    tasks = []
    while (number := take()) is not None:
        tasks.append(asyncio.ensure_future(_run_item(runs, number)))
    longest = max([0.0, *await asyncio.gather(*tasks)])
    seconds = time.monotonic() - started
    report.add((TIMES, len(tasks), max(seconds, longest * len(tasks) * 0.5), longest))


async def _run_item(runs: ItemRuns, number: int) -> float:
    """Executes one item; returns the seconds that it took."""
    started = time.monotonic()
    coroutine: Coroutine[Any, Any, Any] | None = runs.begin(number)
    if coroutine is None:
        return 0.0
    try:
        await coroutine
    except BaseException as error:
        runs.crashed(number, error)
    runs.ended(number)
    return time.monotonic() - started


class _TaskLoop:
    """The loop of this process for async tasks, there while a block needs it. ``_lock`` guards the count of blocks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._thread: LoopThread | None = None

    def __enter__(self) -> LoopThread:
        with self._lock:
            self._users += 1
            if self._thread is None:
                self._thread = LoopThread("core-engine-tasks")
            return self._thread

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._users -= 1
            thread = self._thread if self._users == 0 else None
            if thread is not None:
                self._thread = None
        if thread is not None:
            thread.stop()


_task_loop = _TaskLoop()
