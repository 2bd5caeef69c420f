"""Signals to the process while a flow runs in its main thread (D25): what the main thread does about them.

A handler may run between any two bytecodes of the main thread, also inside the engine. So it takes no lock: it notes
what arrived, wakes the engine loop's thread (``signalled_end``), and raises only in user code or where the engine
waits. Elsewhere the signal is kept, and the main thread is woken again and again until it gets through.

The first signal ends the flows of the main thread in order. After the second, or after the grace time, nothing is
waited for any more.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Coroutine
from types import FrameType
from typing import TYPE_CHECKING, Any

from core_engine.backend import journal, transactions
from core_engine.backend.gates import Gate
from core_engine.concurrency import interrupts
from core_engine.concurrency.interrupts import current_section, interruptible, is_engine_frame, may_interrupt
from core_engine.concurrency.loops import engine_loop
from core_engine.engine.signalled_end import (
    FLUSH_SECONDS,
    SAME_SIGNAL_SECONDS,
    Episode,
    SignalPipe,
    exception_of,
)
from core_engine.futures import AsCompleted
from core_engine.settings import get_current_settings

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveFlowRun

# Where the engine waits in a caller's thread.
for _wait in (journal.wait_for, Gate.wait, transactions.begin, AsCompleted.__iter__):
    interruptible(_wait)


class _Call:
    """A call of a flow in the main thread: ended by cancelling the loop's `task` that awaits it; None: by raising."""

    def __init__(self, task: asyncio.Task[Any] | None = None) -> None:
        self.task = task

    def is_live(self) -> bool:
        """Returns whether the call goes on: not when its loop was stopped under it."""
        return self.task is None or self.task.get_loop().is_running()

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()
            # The loop may be asleep.
            self.task.get_loop().call_soon_threadsafe(_do_nothing)


def _do_nothing() -> None:
    """What a loop is woken for."""


class _Handlers:
    """The handlers, while flows are called in the main thread. Its fields belong to the main thread."""

    def __init__(self) -> None:
        self.episode: Episode | None = None
        self._calls: list[_Call] = []
        self._before: dict[int, Any] = {}
        self._last_time = 0.0
        self._pipe: SignalPipe | None = None

    def enter(self, call: _Call) -> None:
        """Notes a call; the first one installs the handlers."""
        if self.episode is None:
            self._install()
        self._calls.append(call)

    def leave(self, call: _Call) -> Episode | None:
        """Notes that a call is over; the last one puts the earlier handlers back.

        Returns:
            What arrived during the calls, if this was the last of them.
        """
        if call not in self._calls:
            return None
        if call.task is None:
            # What was called later in this thread was inside of it, and is over whether it could say so or not.
            del self._calls[self._calls.index(call) :]
        else:
            self._calls.remove(call)
        episode = self.episode
        if self._calls or episode is None:
            return None
        self._restore()
        self.episode = None
        episode.is_over = True
        return episode

    def _is_live(self) -> bool:
        return any(call.is_live() for call in self._calls)

    def earlier(self, number: int) -> Any:
        """Returns the handler that a signal had before the first call."""
        return self._before.get(number, signal.SIG_DFL)

    def _install(self) -> None:
        engine = engine_loop()
        self.episode = Episode(get_current_settings().grace_seconds, self._is_live)
        self._before.clear()
        self._set(interrupts.WAKE_SIGNAL, self._woken)
        interrupts.handle_waking(self._woken)
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
            self._set(signal.SIGTERM, self._arrived)
        if _is_pythons_own(signal.getsignal(signal.SIGINT)):
            self._set(signal.SIGINT, self._arrived)
        if self._pipe is None or self._pipe.engine is not engine:
            self._pipe = SignalPipe(engine)
        self._pipe.watch(self.episode, self._before)

    def _set(self, number: int, handler: Any) -> None:
        self._before[number] = signal.signal(number, handler)

    def _restore(self) -> None:
        for number, before in self._before.items():
            if before is None:
                before = signal.SIG_DFL
            elif _is_asyncios(before) and before.keywords["main_task"].done():
                before = signal.default_int_handler  # asyncio.run is over, and found ours in the place of its own
            # What user code has put in its place stays.
            if signal.getsignal(number) in (self._arrived, self._woken):
                signal.signal(number, before)
        interrupts.handle_waking(None)
        if self._pipe is not None:
            self._pipe.leave()

    def forget(self) -> None:
        """In a forked child: its signals are its own, and no flow of the parent runs here."""
        if self.episode is not None:
            self._restore()
        if self._pipe is not None:
            self._pipe.close()
        self.__init__()  # type: ignore[misc]

    # The handlers themselves ------------------------------------------------------------------------------------------

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        """Handles SIGINT and SIGTERM."""
        episode = self.episode
        if episode is None or not episode.is_live():
            self.pass_on(number, frame)
            return
        now = time.monotonic()
        is_another = now - self._last_time > SAME_SIGNAL_SECONDS
        self._last_time = now
        if not episode.numbers or is_another:
            episode.is_urgent = episode.is_urgent or bool(episode.numbers)
            episode.numbers.append(number)
            episode.reason = episode.reason or exception_of(number)
            episode.is_owed = True
            episode.tell(engine_loop())
        self._deliver(frame)

    def _woken(self, number: int, frame: FrameType | None) -> None:
        """Handles the signal by which other threads wake this one."""
        self._deliver(frame)
        current_section().raise_wanted(frame)
        earlier = self.earlier(number)
        if callable(earlier):
            earlier(number, frame)

    def _deliver(self, frame: FrameType | None) -> None:
        """Raises what the signal means, if the frame allows it; a loop's task can be cancelled wherever it is."""
        episode = self.episode
        if episode is None or not episode.is_owed or not episode.is_live():
            return
        is_awaited = self._calls[-1].task is not None
        may_raise = may_interrupt(frame) or (episode.is_forced and not _is_here(frame))
        if may_raise and (episode.is_urgent or not is_awaited):
            episode.is_owed = episode.is_forced = False
            raise exception_of(episode.number)
        if is_awaited:
            episode.is_owed = False
            self._cancel_calls(episode, frame)

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """A signal that means no flow: whoever handled it before gets it."""
        earlier = self.earlier(number)
        if callable(earlier):
            earlier(number, frame)
        else:
            signal.signal(number, earlier)
            signal.raise_signal(number)

    def _cancel_calls(self, episode: Episode, frame: FrameType | None) -> None:
        if self.leaves_to_asyncio(episode.number) and not episode.is_urgent:
            # It cancels its main task, and raises KeyboardInterrupt when that has ended; called again, at once.
            self.earlier(episode.number)(episode.number, frame)
            return
        for call in reversed(self._calls):
            if call.task is None:
                return
            call.cancel()

    def leaves_to_asyncio(self, number: int) -> bool:
        """Returns whether the signal is one that asyncio.run handles."""
        return number == signal.SIGINT and _is_asyncios(self.earlier(signal.SIGINT))


def _is_here(frame: FrameType | None) -> bool:
    """Whether the engine is just entering or leaving a call, which must not be interrupted by any means."""
    while frame is not None and not is_engine_frame(frame):
        frame = frame.f_back
    return frame is not None and frame.f_globals is globals()


def _is_asyncios(handler: Any) -> bool:
    return isinstance(handler, functools.partial) and isinstance(
        getattr(handler.func, "__self__", None), asyncio.Runner
    )


def _is_pythons_own(handler: Any) -> bool:
    """Whether a handler of SIGINT may be replaced: not one of the user's, nor the wish to ignore it."""
    return handler is signal.default_int_handler or _is_asyncios(handler)


_handlers = _Handlers()


def _is_in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class flow_signals:  # noqa: N801  # used as `with flow_signals():`
    """Ends the flow in order on SIGINT and SIGTERM; then raises, and hands SIGTERM on to whoever handled it before.

    Does nothing outside the main thread, where Python cannot handle signals.

    Raises:
        KeyboardInterrupt, TerminationSignal: A signal arrived.
    """

    __slots__ = ("_call",)

    def __init__(self) -> None:
        self._call: _Call | None = None

    def __enter__(self) -> None:
        if _is_in_main_thread():
            call = _Call()
            _handlers.enter(call)
            self._call = call

    def __exit__(self, *exc_info: object) -> None:
        if self._call is not None:
            _hand_over(_handlers.leave(self._call))


async def await_with_signals(awaited: Coroutine[Any, Any, Any]) -> Any:
    """``flow_signals`` for a flow that a loop awaits: the signal cancels the loop's task.

    Raises:
        KeyboardInterrupt, TerminationSignal: A signal arrived. Under ``asyncio.run``, which raises KeyboardInterrupt
            itself, asyncio.CancelledError.
    """
    if not _is_in_main_thread():
        return await awaited
    task = asyncio.current_task()
    call = _Call(task)
    _handlers.enter(call)
    try:
        return await awaited
    finally:
        episode = _handlers.episode
        left = _handlers.leave(call)
        if episode is not None and episode.numbers and _handlers.leaves_to_asyncio(episode.number):
            # asyncio takes a task that was cancelled more often than by itself for cancelled by somebody else.
            while task is not None and task.cancelling() > 1:
                task.uncancel()
        elif episode is not None and episode.numbers:
            if task is not None and task.cancelling():
                task.uncancel()
            _hand_over(left)
            _raise_unless_raised(exception_of(episode.number))


def _hand_over(episode: Episode | None) -> None:
    """After the last call: hands SIGTERM to the earlier handler, and raises what the first signal means."""
    if episode is None or not episode.numbers:
        return
    if signal.SIGTERM in episode.numbers:
        if not callable(_handlers.earlier(signal.SIGTERM)):
            # It kills the process: what is done at the end of an interpreter is not done then.
            journal.flush_all(FLUSH_SECONDS)
        _handlers.pass_on(signal.SIGTERM, sys._getframe())
    _raise_unless_raised(exception_of(episode.number))


def _raise_unless_raised(error: BaseException) -> None:
    if not isinstance(sys.exception(), type(error)):
        raise error


# What the engine asks -------------------------------------------------------------------------------------------------


def began(run: ActiveFlowRun) -> None:
    """Notes a flow run, to be ended by signals if it is a root one of the main thread."""
    if _handlers.episode is not None and run.parent is None and _is_in_main_thread():
        _handlers.episode.runs.append(run)


def ended(run: ActiveFlowRun) -> None:
    """Notes that a flow run has ended."""
    episode = _episode_of(run)
    if episode is not None and run.parent is None:
        episode.runs.remove(run)


def _episode_of(run: ActiveFlowRun) -> Episode | None:
    episode = _handlers.episode
    return episode if episode is not None and run.root in episode.runs else None


def signal_for(run: ActiveFlowRun) -> BaseException | None:
    """Returns what the signal that ends a flow run is raised as, None when none has arrived. Any thread."""
    episode = _episode_of(run)
    return None if episode is None else episode.reason


def got_through(run: ActiveFlowRun) -> None:
    """The first signal need not be raised any more: the end of a flow run that it is meant for has begun here."""
    episode = _episode_of(run)
    if episode is not None and episode.reason is not None and not episode.is_urgent and _is_in_main_thread():
        episode.is_owed = False


def is_urgent(run: ActiveFlowRun) -> bool:
    """Returns whether the end of a flow run must not wait for anything any more. Any thread."""
    episode = _episode_of(run)
    return episode is not None and episode.is_urgent


def is_this_thread_signalled() -> bool:
    """Returns whether what was raised in this thread may be a signal's doing."""
    return _handlers.episode is not None and bool(_handlers.episode.numbers) and _is_in_main_thread()


os.register_at_fork(after_in_child=_handlers.forget)
