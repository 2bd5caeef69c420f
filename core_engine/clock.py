"""The time by which runs are orchestrated: when states come about, when a retry is due, when a cached value expires.

Code asks ``clock.now()`` and waits with ``wait_until`` or ``call_at``, so that a test can put another clock in their
place (``core_engine.testing.leaping_clock``). Deadlines of user code are real time and do not go through here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core_engine.concurrency.waiting import Latch


class Clock:
    """The system's clock. Times are seconds since the epoch."""

    def now(self) -> float:
        return time.time()

    async def wait_until(self, due: float, woken: Latch) -> None:
        """Waits until `due`, or until `woken` is set: suspends on a loop, blocks in a stepped thread."""
        await woken.arrive(max(0.0, due - self.now()))

    def block_until(self, due: float, woken: Latch) -> None:
        """``wait_until`` for a thread."""
        woken.wait(max(0.0, due - self.now()))

    def call_at(self, due: float, callback: Callable[[], object]) -> None:
        """Calls `callback` at `due`, in the engine loop's thread."""
        from core_engine.concurrency.loops import engine_loop

        engine_loop().call_later(max(0.0, due - self.now()), callback)


current = Clock()


def now() -> float:
    """Returns the time by the clock in use, in seconds since the epoch."""
    return current.now()
