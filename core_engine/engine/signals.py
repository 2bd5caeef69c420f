"""Signals to the process while a flow runs in its main thread.

A handler may run between any two bytecodes of the main thread, also inside the engine. So an interrupt is raised only
in user code or where the engine waits; elsewhere it is kept, and raised when the engine gets there (D25).
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator
from types import FrameType
from typing import Any

from core_engine.concurrency.interrupts import _ignore_wake_up, _in_engine
from core_engine.exceptions import TerminationSignal


class _Handlers:
    """The handlers that were there before, and what arrived while they were away. Main thread only."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self.terminated: int | None = None

    def install(self, asynchronous: bool) -> None:
        self._set(signal.SIGTERM, self._terminate)
        self._set(signal.SIGALRM, _ignore_wake_up)

    def _set(self, number: int, handler: Any) -> None:
        self._before[number] = signal.signal(number, handler)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        if self.terminated is not None:
            self.restore()
            signal.raise_signal(number)
            return
        self.terminated = number
        if not _in_engine(frame):
            raise TerminationSignal(number)

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before.clear()


@contextlib.contextmanager
def flow_signals(asynchronous: bool = False) -> Generator[None]:
    """Ends the flow in order on SIGTERM, and then hands the signal on to whoever handled it before.

    Does nothing outside the main thread, where Python cannot handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = _Handlers()
    handlers.install(asynchronous)
    try:
        yield
    except TerminationSignal:
        number = handlers.terminated
        handlers.restore()
        if number is not None:
            signal.raise_signal(number)
        raise
    finally:
        handlers.restore()
