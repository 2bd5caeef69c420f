"""Async calls on an event loop of their own: the task loop of one task runner, shared by all its async functions."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from core_engine.concurrency.loops import LoopThread, engine_loop
from core_engine.concurrency.threads import service_threads
from core_engine.concurrency.waiting import Outcome

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveTaskRun
    from core_engine.engine.calls import CallBlock, TaskCall

T = TypeVar("T")

# How long the end of a loop waits for code whose runs have ended without it.
LEFT_BEHIND_SECONDS = 0.1


class _Awaited(NamedTuple):
    """A call whose outcome somebody waits for; ``call`` is None for anything but a task run."""

    call: TaskCall | None
    outcome: Outcome[Any]


class _TaskLoop:
    """One loop, and the tasks on it.

    ``in_flight`` is changed on the loop; ``is_watched`` says whether a look at the loop is due.
    """

    def __init__(self) -> None:
        from core_engine.engine.held_loops import LoopGuard

        self.thread = LoopThread("core-engine-tasks")
        self.in_flight: dict[asyncio.Task[Any], TaskCall | _Awaited] = {}
        self.is_watched = False
        self.guard = LoopGuard(self.thread)


class AsyncCalls:
    """Runs async calls on a loop in a thread of its own, at most `window` at a time.

    The loop starts with the first call. It is looked at from outside while calls are on it, and given up for another
    one if a call holds it that should be over (D19). ``_lock`` keeps two threads from starting two loops.

    Parameters:
        window: How many calls may be in flight.
        name: The worker's name, kept with each run.
    """

    def __init__(self, window: int, name: str = "loop") -> None:
        self._window = window
        self._name = name
        self._lock = threading.Lock()
        self._current: _TaskLoop | None = None
        self._blocks: deque[CallBlock] = deque()
        # What is to be done on the loop; a deque, since a loop that is given up leaves it to the next one.
        self._starts: deque[Callable[[_TaskLoop], None]] = deque()

    # Any thread -------------------------------------------------------------------------------------------------------

    def add(self, block: CallBlock) -> None:
        """Runs the calls of a block."""
        block.line_up(self._blocks)
        self._post(self._fill)

    def run(self, call: TaskCall) -> Outcome[float | None]:
        """Runs one call; the outcome is what its ``arun`` returns."""
        outcome: Outcome[float | None] = Outcome()
        self._run(call, outcome)
        # Also where its code goes on, since it does not react to its cancellation.
        call.run_set.add_callback(call.index, lambda: outcome.give(None))
        return outcome

    def submit(self, call: Callable[[], Awaitable[T]], context: Context | None = None) -> Outcome[T]:
        """Awaits ``call()`` on the loop, with `context`, None: a copy of the caller's."""
        outcome: Outcome[T] = Outcome()
        used = copy_context() if context is None else context

        async def main() -> T:
            return await call()

        def start(loop: _TaskLoop) -> None:
            task = loop.thread.loop.create_task(main(), context=used)
            loop.in_flight[task] = _Awaited(None, outcome)
            task.add_done_callback(partial(self._has_ended, loop))

        self._post(start)
        return outcome

    def stop(self) -> None:
        """Ends the loop; what still runs on it is cancelled. Blocks, but hardly for code that was left behind."""
        with self._lock:
            loop, self._current = self._current, None
        if loop is None:
            return
        if any(map(_goes_on, list(loop.in_flight.values()))):
            loop.thread.stop(LEFT_BEHIND_SECONDS)
        else:
            loop.thread.stop()

    def _post(self, start: Callable[[_TaskLoop], None]) -> None:
        """Has something done on the loop."""
        self._starts.append(start)
        with self._lock:
            if self._current is None:
                self._current = _TaskLoop()
            loop = self._current
            loop.thread.loop.call_soon_threadsafe(self._start, loop)

    def _run(self, call: TaskCall, outcome: Outcome[float | None]) -> None:
        def start(loop: _TaskLoop) -> None:
            task = loop.thread.loop.create_task(call.arun(self._name), context=call.run_set.context.copy())
            loop.in_flight[task] = _Awaited(call, outcome)
            task.add_done_callback(partial(self._has_ended, loop))

        self._post(start)

    # On the loop's thread ---------------------------------------------------------------------------------------------

    def _start(self, loop: _TaskLoop) -> None:
        while self._starts and loop is self._current:
            self._starts.popleft()(loop)
        self._watch(loop)

    def _fill(self, loop: _TaskLoop) -> None:
        create_task, in_flight, ended = loop.thread.loop.create_task, loop.in_flight, partial(self._has_ended, loop)
        while self._blocks and len(in_flight) < self._window:
            block = self._blocks[0]
            call = block.take()
            if call is None:
                # Another thread may have put one before it meanwhile.
                self._blocks.remove(block)
                continue
            task = create_task(call.arun(self._name), context=call.run_set.context.copy())
            in_flight[task] = call
            task.add_done_callback(ended)

    def _has_ended(self, loop: _TaskLoop, task: asyncio.Task[Any]) -> None:
        entry = loop.in_flight.pop(task, None)
        if type(entry) is _Awaited and (entry.call is None or not task.cancelled()):
            entry.outcome.run(task.result)
        if self._blocks and loop is self._current:
            self._fill(loop)
            self._watch(loop)

    def _watch(self, loop: _TaskLoop, seconds: float | None = None) -> None:
        """Has the loop looked at after so many seconds, None: at the usual interval, if calls are on it."""
        if not loop.is_watched and loop.in_flight:
            from core_engine.engine.held_loops import LOOK_SECONDS

            loop.is_watched = True
            engine_loop().call_later(LOOK_SECONDS if seconds is None else seconds, lambda: self._look(loop))

    # On the engine loop's thread --------------------------------------------------------------------------------------

    def _look(self, loop: _TaskLoop) -> None:
        from core_engine.engine.held_loops import leave_overdue

        loop.is_watched = False
        if loop is not self._current:
            return
        now = time.monotonic()
        holder = loop.guard.look(now, lambda task: _run_of(loop.in_flight.get(task)))
        if holder is not None:
            self._give_up(loop, holder)
            return
        overdue, seconds = leave_overdue(_timed_runs(loop), now)
        for entry in overdue:
            self._end_from_outside(entry, None)
        self._watch(loop, seconds)

    def _give_up(self, loop: _TaskLoop, holder: ActiveTaskRun) -> None:
        """Leaves a loop behind that somebody holds: calls that had begun are ended, the others go to a new loop."""
        with self._lock:
            if self._current is not loop:
                return
            self._current = _TaskLoop()
        loop.thread.retire()
        for entry in list(loop.in_flight.values()):
            self._end_from_outside(entry, holder)
        self._post(self._fill)

    def _end_from_outside(self, entry: TaskCall | _Awaited, holder: ActiveTaskRun | None) -> None:
        """Ends a call whose code goes on, once: because of who holds the loop, None: because it is overdue."""
        call = _call_of(entry)
        if call is not None:
            if call.is_left_behind:
                return
            call.is_left_behind = True
        service_threads.run(lambda: self._leave_behind(entry, holder or _run_of(entry)))

    def _leave_behind(self, entry: TaskCall | _Awaited, holder: ActiveTaskRun | None) -> None:
        from core_engine.engine.calls import leave_behind
        from core_engine.engine.held_loops import lost_with
        from core_engine.exceptions import CoreEngineError

        call = _call_of(entry)
        outcome = entry.outcome if type(entry) is _Awaited else None
        assert holder is not None
        if call is None:
            assert outcome is not None
            outcome.fail(CoreEngineError(lost_with(holder)))
        elif call.run_record is not None:
            due = leave_behind(call, holder)
            if outcome is not None:
                outcome.give(due)
        elif outcome is not None:
            self._run(call.again(), outcome)
        else:
            self.add(call.again().as_block())


def _call_of(entry: TaskCall | _Awaited) -> TaskCall | None:
    return entry.call if type(entry) is _Awaited else entry  # type: ignore[return-value]  # the other type of the two


def _goes_on(entry: TaskCall | _Awaited) -> bool:
    """Returns whether a call goes on whose run has ended."""
    call = _call_of(entry)
    return call is not None and (call.is_left_behind or call.run_set.states[call.index] is not None)


def _run_of(entry: TaskCall | _Awaited | None) -> ActiveTaskRun | None:
    call = None if entry is None else _call_of(entry)
    return None if call is None else call.run_record


def _timed_runs(loop: _TaskLoop) -> list[tuple[TaskCall | _Awaited, ActiveTaskRun]]:
    """Returns the runs on a loop that have a time limit, each with its entry."""
    found = []
    for entry in list(loop.in_flight.values()):
        call, run = _call_of(entry), _run_of(entry)
        if call is not None and run is not None and call.run_set.task.timeout_seconds is not None:
            found.append((entry, run))
    return found
