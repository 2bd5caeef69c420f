"""How quickly calls end: Ray ends the process that cancels a call at the moment in which the call ends by itself.

Seen with Ray 2.60 ("Tried to complete task that was not pending"). That moment lasts as long as the question to the
worker, about a millisecond, so that it is met now and then where calls take no longer, and hardly ever where they do.
"""

from __future__ import annotations

import time
from collections import deque

# Calls that take less than this, on average, are let be.
QUICK_SECONDS = 0.1
# Ends that are remembered.
MOST_ENDS = 1_000


class Pace:
    """When calls ended. Told in one thread, asked in any."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=MOST_ENDS)

    def ended(self) -> None:
        """A call has ended just now."""
        self._ends.append(time.monotonic())

    def is_quick(self, slots: int) -> bool:
        """Returns whether calls are ending so quickly that it is not safe to cancel one, nor worth it.

        Parameters:
            slots: How many are executed at once.
        """
        several = min(max(1, slots), MOST_ENDS - 1) + 1
        try:
            return self._ends[-several] > time.monotonic() - QUICK_SECONDS
        except IndexError:  # not so many have ended yet
            return False
