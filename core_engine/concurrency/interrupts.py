"""Calling user code so that another thread may interrupt it, and nothing but it.

CPython can raise an exception in another thread, at that thread's next bytecode. Here this is done only while the
thread is marked as running the very call that is meant, never while its innermost Python frame is the engine's, and the
end of the call clears what was raised too late. A main thread that sleeps or reads is woken by a signal as well.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from core_engine.concurrency.waiting import Latch

T = TypeVar("T")

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


class Section:
    """What one thread is running.

    ``lock`` guards ``call`` and ``pending``: whoever interrupts holds it while the thread is marked, so that an
    exception meant for one call is never raised in the next.
    """

    __slots__ = ("call", "ident", "lock", "pending")

    def __init__(self) -> None:
        self.ident = threading.get_ident()
        self.lock = threading.Lock()
        self.call: object | None = None
        self.pending = False

    def interrupt(self, call: object, exception: type[Interrupt]) -> bool:
        """Raises `exception` in this thread if it still runs `call`. Any other thread.

        Returns:
            Whether the call still runs: ask again later, since code that swallows the exception, or that sits in C,
            goes on.
        """
        with self.lock:
            if self.call is not call:
                return False
            if not _in_engine(sys._current_frames().get(self.ident)):
                self.pending = True
                _raise_in_thread(self.ident, ctypes.py_object(exception))
                _wake_main_thread(self.ident)
            return True


class _Local(threading.local):
    section: Section | None = None


_local = _Local()


def current_section() -> Section:
    """Returns this thread's section."""
    section = _local.section
    if section is None or section.ident != threading.get_ident():
        section = _local.section = Section()
    return section


def call_interruptibly(section: Section, call: object, function: Callable[..., T], args: Any, kwargs: Any) -> T:
    """Calls user code in this thread, marked as `call` in this thread's `section`."""
    with section.lock:
        outer, section.call = section.call, call
    try:
        return function(*args, **kwargs)
    finally:
        _leave(section, outer)


def _leave(section: Section, outer: object | None) -> None:
    while True:
        try:
            with section.lock:
                section.call = outer
                if section.pending:
                    section.pending = False
                    _clear_thread(section.ident, None)
            return
        except Interrupt:
            continue  # it was raised just as the call ended: too late, and here is where it is dropped


def _wake_main_thread(ident: int) -> None:
    """A sleeping main thread runs signal handlers at once, and with them sees what was raised in it."""
    if ident == threading.main_thread().ident and signal.getsignal(signal.SIGALRM) is _ignore_wake_up:
        signal.pthread_kill(ident, signal.SIGALRM)


def _ignore_wake_up(signum: int, frame: FrameType | None) -> None:
    """Handles SIGALRM during a flow in the main thread: being handled is all it is for."""


def is_engine_frame(frame: FrameType | None) -> bool:
    """Returns whether `frame` is the engine's own code."""
    if frame is None:
        return False
    module = str(frame.f_globals.get("__name__", ""))
    return module.startswith(_ENGINE_PACKAGES) and not module.startswith(_USERS_PACKAGE)


def _in_engine(frame: FrameType | None) -> bool:
    """Whether the engine is at work below the user's code: the engine's frames come before the call's own frame."""
    while frame is not None:
        if is_engine_frame(frame):
            return frame.f_code is not call_interruptibly.__code__ and frame.f_code not in WAITS
        frame = frame.f_back
    return False


# Code of the engine that only waits, in which it is safe to be interrupted.
WAITS: set[Any] = set()


def interruptible_wait(function: Callable[..., T]) -> Callable[..., T]:
    """Marks a function of the engine that only waits as one that may be interrupted."""
    WAITS.add(function.__code__)
    return function


WAITS.add(Latch.wait.__code__)
