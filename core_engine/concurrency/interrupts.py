"""Calling user code so that another thread, or a signal, may interrupt it, and nothing but it.

In a worker thread CPython can raise an exception at the thread's next bytecode. That is asked for only while the thread
is marked as running the very call that is meant, and is taken back when the thread has come to the engine's code in
between; the end of the call clears what was raised too late. In the main thread a signal handler raises it: the handler
sees the exact frame, and wakes a thread that sleeps or reads.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from types import CodeType, FrameType
from typing import Any, NoReturn, TypeVar

from core_engine.concurrency.waiting import Latch

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

# The main thread runs the handler of this signal when another thread has something to raise in it. Of all signals it
# is the one that programs expect to come for no reason, and that does nothing where it is not handled.
WAKE_SIGNAL = signal.SIGURG

_ENGINE_PACKAGES = ("core_engine.", "runners.")
# Flows and tasks of the conformance suite are users' code, wherever the suite lies.
_USERS_PACKAGE = "core_engine.testing."
_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in_thread.argtypes = [ctypes.c_ulong, ctypes.py_object]
_clear_thread = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


class Interrupt(BaseException):
    """Base of what is raised in a thread to end a call of user code."""


# Code of the engine in which it is safe to be interrupted: it only waits, or only calls user code.
_safe_code: set[CodeType] = set()


def interruptible(function: F) -> F:
    """Marks a function of the engine as one in which an interrupt may be raised: it only waits, or calls user code."""
    _safe_code.add(function.__code__)
    return function


interruptible(Latch.wait)


def is_engine_frame(frame: FrameType | None) -> bool:
    """Returns whether `frame` is the engine's own code."""
    if frame is None:
        return False
    module = str(frame.f_globals.get("__name__", ""))
    return module.startswith(_ENGINE_PACKAGES) and not module.startswith(_USERS_PACKAGE)


def may_interrupt(frame: FrameType | None) -> bool:
    """Returns whether a thread whose innermost frame this is runs user code, or the engine where it waits.

    The frames of libraries count for whoever called them.
    """
    innermost = frame
    while frame is not None:
        if is_engine_frame(frame):
            code = frame.f_code
            return code in _safe_code or (frame is not innermost and code is call_interruptibly.__code__)
        frame = frame.f_back
    return True


class Section:
    """What one thread is running.

    ``lock`` guards ``call`` and ``pending``: whoever interrupts holds it while the thread is marked, so that an
    exception meant for one call is never raised in the next. ``wanted`` is for the main thread: a call and what to
    raise in it, taken by the thread itself.
    """

    __slots__ = ("call", "ident", "lock", "pending", "wanted")

    def __init__(self) -> None:
        self.ident = threading.get_ident()
        self.lock = threading.Lock()
        self.call: object | None = None
        self.pending = False
        self.wanted: tuple[object, type[Interrupt]] | None = None

    def interrupt(self, call: object, exception: type[Interrupt]) -> bool:
        """Raises `exception` in this thread if it still runs `call`. Any other thread.

        Returns:
            Whether the call still runs: ask again later, since code that swallows the exception, or that sits in C,
            goes on.
        """
        with self.lock:
            if self.call is not call:
                return False
            if self.ident == threading.main_thread().ident and is_waking_handled():
                self.wanted = call, exception
                signal.pthread_kill(self.ident, WAKE_SIGNAL)
            elif self._is_interruptible():
                self.pending = True
                _raise_in_thread(self.ident, ctypes.py_object(exception))
                # It may have run between the look and the call.
                if not self._is_interruptible():
                    _clear_thread(self.ident, None)
            return True

    def _is_interruptible(self) -> bool:
        return may_interrupt(sys._current_frames().get(self.ident))

    def raise_wanted(self, frame: FrameType | None) -> None:
        """Raises what another thread wants raised in this one, if its call still runs. In a handler, no lock taken."""
        wanted = self.wanted
        if wanted is not None and self.call is wanted[0] and may_interrupt(frame):
            self.wanted = None
            raise wanted[1]


def raise_in_task(ident: int, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any], kind: type[Interrupt]) -> None:
    """Raises an exception in the thread of an event loop, if `task` holds it just then, in user code. Another thread.

    For a task that has held the loop for long, since one that suspends may do so between the look and the exception.
    In the main thread it is the signal handlers that raise.
    """

    def is_held() -> bool:
        return asyncio.current_task(loop) is task and may_interrupt(sys._current_frames().get(ident))

    if ident == threading.main_thread().ident or not is_held():
        return
    _raise_in_thread(ident, ctypes.py_object(kind))
    if not is_held():
        _clear_thread(ident, None)


class _Local(threading.local):
    section: Section | None = None


_local = _Local()


def current_section() -> Section:
    """Returns this thread's section."""
    section = _local.section
    if section is None or section.ident != threading.get_ident():
        section = _local.section = Section()
    return section


# How often this process came about by a fork: a call that began under another number began in the parent.
_forks = 0


def call_interruptibly(section: Section, call: object, function: Callable[..., T], args: Any, kwargs: Any) -> T:
    """Calls user code in this thread, marked as `call` in this thread's `section`.

    In a process that the user code forked off, the end of the call is the end of the process (D33).
    """
    forks = _forks
    with section.lock:
        outer, section.call = section.call, call
    try:
        value = function(*args, **kwargs)
        if forks != _forks:
            end_forked_process(None)
        return value
    except BaseException as error:
        if forks != _forks:
            end_forked_process(error)
        raise
    finally:
        while True:
            try:
                _leave(section, outer)
                break
            except Interrupt:
                continue  # raised just as the call ended: too late, and here is where it is dropped


@interruptible
def call_user_code(function: Callable[..., T], args: Any, kwargs: Any) -> T:
    """Calls user code where a signal may interrupt it."""
    return function(*args, **kwargs)


async def await_user_code(function: Callable[..., Awaitable[T]], args: Any, kwargs: Any) -> T:
    """``call_interruptibly`` for a coroutine function; its interrupts are cancellations of the loop's task."""
    forks = _forks
    try:
        value = await _await_user_code(function, args, kwargs)
        if forks != _forks:
            end_forked_process(None)
        return value
    except BaseException as error:
        if forks != _forks:
            end_forked_process(error)
        raise


@interruptible
async def _await_user_code(function: Callable[..., Awaitable[T]], args: Any, kwargs: Any) -> T:
    return await function(*args, **kwargs)


def _leave(section: Section, outer: object | None) -> None:
    with section.lock:
        section.call = outer
        section.wanted = None
        if section.pending:
            section.pending = False
            _clear_thread(section.ident, None)


# The main thread ------------------------------------------------------------------------------------------------------


_waking_handler: Callable[[int, FrameType | None], None] | None = None


def handle_waking(handler: Callable[[int, FrameType | None], None] | None) -> None:
    """Says which handler of ``WAKE_SIGNAL`` is installed that calls ``raise_wanted``; None: there is none any more."""
    global _waking_handler
    _waking_handler = handler


def is_waking_handled() -> bool:
    """Returns whether the main thread raises what others want raised in it."""
    return _waking_handler is not None and signal.getsignal(WAKE_SIGNAL) == _waking_handler


def wake_main_thread() -> None:
    """Makes the main thread run the handler of ``WAKE_SIGNAL``, also out of a sleep. Any thread."""
    if is_waking_handled():
        ident = threading.main_thread().ident
        assert ident is not None
        signal.pthread_kill(ident, WAKE_SIGNAL)


# Forks ----------------------------------------------------------------------------------------------------------------


def end_forked_process(error: BaseException | None) -> NoReturn:
    """Ends a process that user code forked off inside of a call, when the call ends in it: with `error`, None: well.

    What comes after the call is the parent's to do, and the threads that it takes are not here.
    """
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)
