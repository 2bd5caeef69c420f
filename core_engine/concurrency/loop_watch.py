"""Looking at an event loop from outside: does it turn, and if not, which task holds it, and where (D19)."""

from __future__ import annotations

import asyncio
import sys
import sysconfig
from dataclasses import dataclass
from types import FrameType
from typing import Any

from core_engine.concurrency.loops import LoopThread

_LIBRARIES = (sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"])


@dataclass(slots=True, frozen=True)
class Held:
    """A loop that does not turn.

    Attributes:
        task: The task that holds it.
        seconds: For how long it has been seen to.
        where: The line that it is at, such as "line 12 of /home/me/flow.py, in fetch".
    """

    task: asyncio.Task[Any]
    seconds: float
    where: str


class LoopWatch:
    """Looks at one loop, from one thread that is not the loop's.

    A look asks the loop for a turn; the next look finds out whether that came. A loop that turns pays one callback for
    each look.
    """

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread
        self._is_asked = False
        self._task: asyncio.Task[Any] | None = None
        self._since = 0.0

    def look(self, now: float) -> Held | None:
        """Returns who holds the loop since the look before; None if it turned, or another task held it then.

        Parameters:
            now: The monotonic time, in seconds.
        """
        if not self._is_asked:
            self._is_asked, self._task = True, None
            try:
                self._thread.loop.call_soon_threadsafe(self._turn)
            except RuntimeError:
                return None  # it was closed a moment ago
        task = asyncio.current_task(self._thread.loop)
        if task is None or task is not self._task:
            self._task, self._since = task, now
            return None
        frame = sys._current_frames().get(self._thread.thread.ident or 0)
        return Held(task, now - self._since, _place(frame))

    def _turn(self) -> None:
        """On the loop."""
        self._is_asked = False


def _place(frame: FrameType | None) -> str:
    """Describes the innermost line of a stack that is nobody's library."""
    innermost = frame
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame = frame.f_back
    frame = frame or innermost
    if frame is None:
        return "an unknown line"
    return f"line {frame.f_lineno} of {frame.f_code.co_filename}, in {frame.f_code.co_qualname}"
