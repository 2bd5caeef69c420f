"""Async items on a worker: those of a block side by side, on the loop that all blocks of the process share."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.loops import LoopThread
from core_engine.engine.held_loops import LoopGuard
from core_engine.remote.reporting import Beating, pulse
from core_engine.remote.reports import TIMES

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveTaskRun
    from core_engine.remote.item_runs import ItemRuns
    from core_engine.remote.reporting import BlockReport

TURN_SECONDS = 0.1


def run_side_by_side(runs: ItemRuns, take: Callable[[], int | None], report: BlockReport) -> Iterator[None]:
    """Executes the items of a block that `take` gives the numbers of; yields now and then until they have ended."""
    items = _Items(runs, take, report)
    loop = _shared.enter()
    try:
        loop.start(items)
        while not items.ended.wait(TURN_SECONDS):
            yield
    finally:
        loop.forget(items)
        _shared.leave(loop)
    if items.error is not None:
        raise items.error


class _Items:
    """The items of one block on the loop.

    Attributes:
        ended: Set when nothing of the block runs any more, as far as its report is concerned.
        error: What went wrong beside the items.
        is_left_behind: Whether the loop was given up; what the items still do changes nothing.
    """

    def __init__(self, runs: ItemRuns, take: Callable[[], int | None], report: BlockReport) -> None:
        self.runs = runs
        self.ended = threading.Event()
        self.error: BaseException | None = None
        self.is_left_behind = False
        self._take = take
        self._report = report

    # On the loop ------------------------------------------------------------------------------------------------------

    async def run(self, in_flight: dict[asyncio.Task[Any], tuple[_Items, int]]) -> None:
        try:
            await self._run(in_flight)
        except BaseException as error:  # raised where the block is executed
            self.error = error
        self.ended.set()

    async def _run(self, in_flight: dict[asyncio.Task[Any], tuple[_Items, int]]) -> None:
        started = time.monotonic()
        tasks = []
        while (number := self._take()) is not None:
            task = asyncio.ensure_future(self._run_item(number))
            in_flight[task] = (self, number)
            task.add_done_callback(in_flight.pop)
            tasks.append(task)
        longest = max([0.0, *await asyncio.gather(*tasks)])
        seconds = time.monotonic() - started
        self._report.add((TIMES, len(tasks), max(seconds, longest * len(tasks) * 0.5), longest))

    async def _run_item(self, number: int) -> float:
        """Executes one item; returns the seconds that it took."""
        started = time.monotonic()
        coroutine = None if self.is_left_behind else self.runs.begin(number)
        if coroutine is None:
            return 0.0
        try:
            await coroutine
        except BaseException as error:
            if not self.is_left_behind:
                self.runs.crashed(number, error)
        if not self.is_left_behind:
            self.runs.ended(number)
        return time.monotonic() - started


class _Loop(Beating):
    """One loop, and the items on it.

    ``_in_flight`` is changed on the loop; ``_blocks`` by the threads of calls, each its own member.
    """

    def __init__(self) -> None:
        self.thread = LoopThread("core-engine-tasks")
        self._in_flight: dict[asyncio.Task[Any], tuple[_Items, int]] = {}
        self._blocks: set[_Items] = set()
        self._guard = LoopGuard(self.thread)

    def start(self, items: _Items) -> None:
        self._blocks.add(items)
        self.thread.submit(items.run, self._in_flight)

    def forget(self, items: _Items) -> None:
        self._blocks.discard(items)

    # The pulse's thread -----------------------------------------------------------------------------------------------

    def beat(self, now: float) -> None:
        """Looks at the loop; one that is held beyond what is allowed is given up for another (D19)."""
        holder = self._guard.look(now, self._run_of)
        if holder is None or not _shared.give_up(self):
            return
        pulse.remove(self)
        blocks = [items for items in self._blocks.copy() if not items.ended.is_set()]
        for items in blocks:
            items.is_left_behind = True
        self.thread.retire()
        for items, number in list(self._in_flight.values()):
            items.runs.leave_behind(number, holder)
        for items in blocks:
            items.ended.set()

    def _run_of(self, task: asyncio.Task[Any]) -> ActiveTaskRun | None:
        entry = self._in_flight.get(task)
        return None if entry is None else entry[0].runs.run_of(entry[1])


class _SharedLoop:
    """The loop of this process for async tasks, there while a block needs it.

    ``_lock`` guards the loop and the count of blocks that use it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._loop: _Loop | None = None

    def enter(self) -> _Loop:
        """Returns the loop, for one more block."""
        with self._lock:
            if self._loop is None:
                self._loop, self._users = _Loop(), 0
                pulse.add(self._loop)
            self._users += 1
            return self._loop

    def leave(self, loop: _Loop) -> None:
        """A block needs the loop no more; the last one ends it."""
        with self._lock:
            if loop is not self._loop:
                return
            self._users -= 1
            if self._users:
                return
            self._loop = None
        pulse.remove(loop)
        loop.thread.stop()

    def give_up(self, loop: _Loop) -> bool:
        """Has the next block use another loop; returns whether this one was in use."""
        with self._lock:
            if loop is not self._loop:
                return False
            self._loop = None
            return True


_shared = _SharedLoop()
