"""A clock that does not wait: retries that are due in an hour come at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core_engine import clock

if TYPE_CHECKING:
    from core_engine.concurrency.waiting import Latch


class LeapingClock(clock.Clock):
    """Goes on like the system's clock, and leaps to the time that anybody waits for instead of letting it pass.

    Attributes:
        waits: Seconds of each wait that was leapt over, in the order in which they began.
    """

    def __init__(self) -> None:
        self.waits: list[float] = []
        # How far ahead of the system's clock, in seconds; written under the lock, because a run in another thread
        # may leap at the same time.
        self._ahead = 0.0
        self._lock = threading.Lock()

    @property
    def waited(self) -> float:
        """Seconds leapt over by all waits together."""
        return sum(self.waits)

    def leap(self, seconds: float) -> None:
        """Let `seconds` pass, for example so that a cached value expires."""
        with self._lock:
            self._ahead += seconds

    def now(self) -> float:
        return super().now() + self._ahead

    async def wait_until(self, due: float, woken: Latch) -> None:
        self._leap_to(due)

    def block_until(self, due: float, woken: Latch) -> None:
        self._leap_to(due)

    def call_at(self, due: float, callback: Callable[[], object]) -> None:
        self._leap_to(due)
        super().call_at(self.now(), callback)

    def _leap_to(self, due: float) -> None:
        with self._lock:
            missing = max(0.0, due - self.now())
            self.waits.append(missing)
            self._ahead += missing


@contextmanager
def leaping_clock() -> Iterator[LeapingClock]:
    """Orchestrate all runs of this process by a clock that does not wait, which the block is given.

    Time limits of flows and tasks are real time all the same, and so is whatever users' code waits for.

    Example:
        >>> with leaping_clock() as clock:
        ...     flow_with_a_retry_in_an_hour()
        >>> assert clock.waited == pytest.approx(3600, abs=1)
    """
    previous, clock.current = clock.current, LeapingClock()
    try:
        yield clock.current
    finally:
        clock.current = previous
