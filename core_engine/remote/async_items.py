"""Async items on a worker: those of a block side by side, on the loop that all blocks of the process share."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.loops import LoopThread, engine_loop
from core_engine.concurrency.threads import service_threads
from core_engine.engine.cancellation import LeftBehind
from core_engine.engine.held_loops import LOOK_SECONDS, LoopGuard, leave_overdue
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
        left: The numbers of items that were ended from outside, since they are overdue.
    """

    def __init__(self, runs: ItemRuns, take: Callable[[], int | None], report: BlockReport) -> None:
        self.runs = runs
        self.ended = threading.Event()
        self.error: BaseException | None = None
        self.is_left_behind = False
        self.left: set[int] = set()
        self._take = take
        self._report = report
        self._going: set[int] = set()
        self._longest = 0.0

    # On the loop ------------------------------------------------------------------------------------------------------

    async def run(self, in_flight: dict[asyncio.Task[Any], tuple[_Items, int]]) -> None:
        try:
            await self._run(in_flight)
        except BaseException as error:  # raised where the block is executed
            self.error = error
        self.ended.set()

    async def _run(self, in_flight: dict[asyncio.Task[Any], tuple[_Items, int]]) -> None:
        started = time.monotonic()
        self._all_ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        count = 0

        def has_ended(task: asyncio.Task[float]) -> None:
            _, number = in_flight.pop(task)
            error = task.exception()
            if error is not None and not self._all_ended.done():
                self._all_ended.set_exception(error)
            elif error is None:
                self._longest = max(self._longest, task.result())
            self.over(number)

        while (number := self._take()) is not None:
            task = asyncio.ensure_future(self._run_item(number))
            in_flight[task] = (self, number)
            self._going.add(number)
            task.add_done_callback(has_ended)
            count += 1
        if count:
            await self._all_ended
        seconds = time.monotonic() - started
        self._report.add((TIMES, count, max(seconds, self._longest * count * 0.5), self._longest))

    def over(self, number: int) -> None:
        """An item has ended, or was ended from outside."""
        self._going.discard(number)
        if not self._going and not self._all_ended.done():
            self._all_ended.set_result(None)

    async def _run_item(self, number: int) -> float:
        """Executes one item; returns the seconds that it took."""
        started = time.monotonic()
        coroutine = None if self.is_left_behind else self.runs.begin(number)
        if coroutine is None:
            return 0.0
        try:
            await coroutine
        except LeftBehind:
            return time.monotonic() - started
        except BaseException as error:
            if not self.is_left_behind:
                self.runs.crashed(number, error)
        if not self.is_left_behind:
            self.runs.ended(number)
        return time.monotonic() - started


class _Loop(Beating):
    """One loop, and the items on it.

    ``_in_flight`` is changed on the loop; ``_blocks`` by the threads of calls, each its own member. ``_looking`` is
    held by who looks at the loop, and guards ``_is_timed``: whether a look between two beats is to come.
    """

    def __init__(self) -> None:
        self.thread = LoopThread("core-engine-tasks")
        self._in_flight: dict[asyncio.Task[Any], tuple[_Items, int]] = {}
        self._blocks: set[_Items] = set()
        self._guard = LoopGuard(self.thread)
        self._looking = threading.Lock()
        self._is_timed = False

    def start(self, items: _Items) -> None:
        self._blocks.add(items)
        self.thread.submit(items.run, self._in_flight)

    def forget(self, items: _Items) -> None:
        self._blocks.discard(items)

    def end(self) -> None:
        """Ends the loop, which no block needs any more; code that was left behind on it is not waited for."""
        if self._in_flight:
            self.thread.retire()
        else:
            self.thread.stop()

    # The pulse's thread, and the engine loop's when a deadline comes between two beats --------------------------------

    def beat(self, now: float) -> None:
        """Looks at the loop; one that is held beyond what is allowed is given up for another (D19)."""
        with self._looking:
            holder = self._guard.look(now, self._run_of)
            if holder is None:
                self._end_overdue(now)
                return
        if _shared.give_up(self):
            self._give_up(holder)

    def _end_overdue(self, now: float) -> None:
        entries = list(self._in_flight.values())
        timed = [(entry, run) for entry in entries if (run := entry[0].runs.run_of(entry[1])) is not None]
        overdue, seconds = leave_overdue(timed, now)
        for items, number in overdue:
            items.left.add(number)
            service_threads.run(lambda items=items, number=number: self._end_item(items, number))  # type: ignore[misc]
        if seconds < LOOK_SECONDS and not self._is_timed:
            self._is_timed = True
            engine_loop().call_later(seconds, self._look_between)

    def _look_between(self) -> None:
        with self._looking:
            self._is_timed = False
        self.beat(time.monotonic())

    def _end_item(self, items: _Items, number: int) -> None:
        items.runs.expire(number)
        try:
            self.thread.loop.call_soon_threadsafe(items.over, number)
        except RuntimeError:
            pass  # the loop was closed a moment ago, and the block has ended

    def _give_up(self, holder: ActiveTaskRun) -> None:
        pulse.remove(self)
        blocks = [items for items in self._blocks.copy() if not items.ended.is_set()]
        for items in blocks:
            items.is_left_behind = True
        self.thread.retire()
        for items, number in list(self._in_flight.values()):
            if number not in items.left:
                items.runs.leave_behind(number, holder)
        for items in blocks:
            items.ended.set()

    def _run_of(self, task: asyncio.Task[Any]) -> ActiveTaskRun | None:
        entry = self._in_flight.get(task)
        return None if entry is None else entry[0].runs.run_of(entry[1])


class _SharedLoop:
    """The loop of this process for async tasks, there while a block needs it.

    ``_lock`` guards the loop, the count of blocks that use it, and the loops that were given up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._loop: _Loop | None = None
        self._given_up: list[_Loop] = []

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
        loop.end()

    def give_up(self, loop: _Loop) -> bool:
        """Has the next block use another loop; returns whether this one was in use."""
        with self._lock:
            if loop is not self._loop:
                return False
            self._loop = None
            self._given_up = [*self._held(), loop]
            return True

    def is_held(self) -> bool:
        """Returns whether a loop that was given up is still held."""
        with self._lock:
            if self._given_up:
                self._given_up = self._held()
            return bool(self._given_up)

    def _held(self) -> list[_Loop]:
        return [loop for loop in self._given_up if loop.thread.thread.is_alive()]


_shared = _SharedLoop()
is_loop_held = _shared.is_held
