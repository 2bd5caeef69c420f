"""The end of the main thread's flows after a signal: what the engine loop's thread does about it.

It hears of the signal even while the main thread sits in C code. It stops dispatch and interrupts running task code at
once, wakes the main thread until that has raised what the signal means, and minds the grace time.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from core_engine.backend.journal import flush_all
from core_engine.concurrency.interrupts import wake_main_thread
from core_engine.concurrency.loops import LoopThread
from core_engine.concurrency.threads import service_threads
from core_engine.exceptions import StoreError, TerminationSignal

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveFlowRun

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Two signals closer than this are one: some programs pass on to their children what the terminal sent those already.
SAME_SIGNAL_SECONDS = 0.2
WAKE_AGAIN_SECONDS = 0.005
LOOK_AGAIN_SECONDS = 0.05
# How long the main thread may take for its last steps when nothing is waited for any more, before it is interrupted
# wherever it is, and before the process is ended without it.
STEPS_SECONDS = 1.0
LAST_SECONDS = 3.0
FLUSH_SECONDS = 2.0

_logger = logging.getLogger("core_engine.engine")


def exception_of(number: int) -> BaseException:
    """Returns what a signal is raised as."""
    return KeyboardInterrupt() if number == signal.SIGINT else TerminationSignal(number)


class Episode:
    """The time in which flows run in the main thread, and what arrives in it.

    No field is guarded: handlers must not wait for a lock that their own thread may hold. The main thread writes
    ``numbers``, ``runs`` and ``is_over``; either thread sets the others, and only the main thread takes them back.

    Attributes:
        grace_seconds: How long an orderly end may take.
        is_live: Tells whether the main thread is in any of the flows; not when a loop was stopped that ran them.
        numbers: The signals that were handled, in order.
        runs: The root flow runs.
        reason: What the first signal is raised as; None while there was none.
        is_owed: Whether it is still to be raised.
        is_urgent: Whether nothing is waited for any more.
        is_forced: Whether it is to be raised wherever the main thread is.
        is_over: Whether the flows have been left.
    """

    def __init__(self, grace_seconds: float, is_live: Callable[[], bool]) -> None:
        self.grace_seconds = grace_seconds
        self.is_live = is_live
        self.numbers: list[int] = []
        self.runs: list[ActiveFlowRun] = []
        self.reason: BaseException | None = None
        self.is_owed = False
        self.is_urgent = False
        self.is_forced = False
        self.is_over = False
        self._is_being_ended = False

    @property
    def number(self) -> int:
        """The first signal."""
        return signal.SIGTERM if isinstance(self.reason, TerminationSignal) else signal.SIGINT

    def tell(self, engine: LoopThread) -> None:
        """Has the engine loop's thread see to the end. In a handler: takes no lock."""
        engine.loop.call_soon_threadsafe(self.begin_end, engine)

    def begin_end(self, engine: LoopThread) -> None:
        """Sees to the end, once. On the engine loop."""
        if not self._is_being_ended:
            self._is_being_ended = True
            engine.keep(engine.loop.create_task(see_to_the_end(self)))


class SignalPipe:
    """A pipe into which the system's part of Python's signal handling writes the numbers of signals that arrive.

    Parameters:
        engine: The loop that reads it.
    """

    def __init__(self, engine: LoopThread) -> None:
        self.engine = engine
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._episode: Episode | None = None
        self._handled: Mapping[int, Any] = {}
        self._last_time = 0.0
        engine.loop.call_soon_threadsafe(engine.loop.add_reader, self._reader, self._read)

    def watch(self, episode: Episode, handled: Mapping[int, Any]) -> None:
        """Listens for the signals in `handled`. In the main thread, from which alone that is possible."""
        self._episode, self._handled, self._last_time = episode, handled, 0.0
        before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        if before != -1:
            # A loop in the main thread that handles signals itself. Then only the handlers tell what arrives.
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)

    def leave(self) -> None:
        """Listens no more. In the main thread."""
        self._episode = None
        now = signal.set_wakeup_fd(-1)
        if now not in (-1, self._writer):
            signal.set_wakeup_fd(now, warn_on_full_buffer=False)

    def close(self) -> None:
        """In a forked child, where nobody reads it."""
        os.close(self._reader)
        os.close(self._writer)

    def _read(self) -> None:
        """On the engine loop."""
        try:
            numbers = os.read(self._reader, 4096)
        except BlockingIOError:
            return
        episode = self._episode
        arrived = [number for number in numbers if number in ENDING_SIGNALS and number in self._handled]
        if episode is None or not arrived:
            return
        now = time.monotonic()
        if self._last_time and now - self._last_time > SAME_SIGNAL_SECONDS:
            episode.is_urgent = True
        self._last_time = now
        episode.reason = episode.reason or exception_of(arrived[0])
        episode.begin_end(self.engine)


async def see_to_the_end(episode: Episode) -> None:
    """Ends the flow runs of an episode, until the main thread has left them."""
    began = time.monotonic()
    urgent_since: float | None = None
    while not episode.is_over:
        now = time.monotonic()
        if not episode.is_live():
            # Between two runs of a loop that is being shut down; or it was left behind, and what it ran with it.
            began += LOOK_AGAIN_SECONDS
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            continue
        _stop_runs(episode)
        if now > began + episode.grace_seconds and not episode.is_urgent:
            episode.is_urgent = episode.is_owed = True
            service_threads.run(lambda: _tell_impatience(episode))
        if episode.is_urgent:
            if urgent_since is None:
                urgent_since = now
            elif now > urgent_since + LAST_SECONDS:
                await service_threads.submit(_end_process, episode).arrive_result()
                return
            elif now > urgent_since + STEPS_SECONDS:
                episode.is_owed = episode.is_forced = True
        # The system may have let any thread take the signal: then the main thread, if it sleeps, does not know yet.
        is_to_be_woken = episode.is_owed or not episode.numbers
        if is_to_be_woken:
            wake_main_thread()
        await asyncio.sleep(WAKE_AGAIN_SECONDS if is_to_be_woken else LOOK_AGAIN_SECONDS)


def _tell_impatience(episode: Episode) -> None:
    _logger.warning(
        "What the signal is to end goes on after %g seconds (CORE_ENGINE_GRACE_SECONDS): it is waited for no more.",
        episode.grace_seconds,
    )


def _stop_runs(episode: Episode) -> None:
    """Stops dispatch of the flow runs, and interrupts what runs of them."""
    from core_engine.engine.cancellation import interrupt_runs

    for run in list(episode.runs):
        if episode.reason is not None:
            run.stop(episode.reason)
            interrupt_runs(run, spared_thread=threading.main_thread().ident)


def _end_process(episode: Episode) -> None:
    """The main thread cannot be brought to end the flows: their end is recorded here, and the process with it."""
    from core_engine.engine.crashes import end_at_once

    for run in list(episode.runs):
        try:
            end_at_once(run, episode.reason or KeyboardInterrupt())
        except StoreError as error:
            _logger.error("The end of flow run %r could not be recorded: %s", run.record.name, error)
    flush_all(FLUSH_SECONDS)
    if episode.is_over or (hasattr(sys, "ps1") and episode.number == signal.SIGINT):
        return  # in an interactive session there is more to lose than this flow
    _logger.error("The process ends now: its main thread did not react to the signal.")
    # Only the main thread can do this by way of Python.
    ctypes.CDLL(None).signal(int(episode.number), None)
    os.kill(os.getpid(), episode.number)
