"""How many items go to a worker at once: sized by measured time, so that a message costs little beside its work."""

from __future__ import annotations

TARGET_SECONDS = 0.1
LARGEST_BLOCK = 2_000
GROWTH = 4
BLOCKS_PER_SLOT = 3
LEAST_SECONDS = 1e-6


class BlockSizer:
    """Sizes the blocks of one map from what its items took.

    The first items go singly. Blocks grow by steps while items are short, and shrink at once when they are not; near
    the end they become small, so that no worker waits for another's last block. Not thread-safe: one thread asks.

    Parameters:
        fixed: The size that the user chose; None: sized by time.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self._fixed = fixed
        self._limit = 1
        self._seconds: float | None = None

    @property
    def is_fixed(self) -> bool:
        """Whether the size is given, and time changes nothing."""
        return self._fixed is not None

    @property
    def seconds_each(self) -> float | None:
        """What an item takes, as far as it is known; None before the first is measured."""
        return self._seconds

    def next_size(self, waiting: int, slots: int, unsent: int = 0) -> int:
        """Returns how many items to send next, at least 1.

        Parameters:
            waiting: How many could be sent, 1 or more.
            slots: How many calls run at once.
            unsent: How many have not been sent, those included that still wait for an upstream.
        """
        if self._fixed is not None:
            return max(1, min(self._fixed, waiting))
        if self._seconds is None:
            return 1
        by_time = int(TARGET_SECONDS / self._seconds)
        slots = max(1, slots)
        # As long as many are to come, it is enough that each worker gets a block of those that can be sent.
        fair_share = min(-(-waiting // slots), -(-max(waiting, unsent) // (BLOCKS_PER_SLOT * slots)))
        return max(1, min(by_time, self._limit, fair_share, waiting))

    def measured(self, items: int, seconds: float, longest_seconds: float) -> None:
        """Takes in what a block of `items` took, and its longest item."""
        if items < 1:
            return
        mean = max(seconds / items, LEAST_SECONDS)
        known = self._seconds
        # Upwards at once, downwards slowly: a block too long costs balance, one too short only a message.
        self._seconds = mean if known is None or mean > known else 0.5 * known + 0.5 * mean
        if longest_seconds > TARGET_SECONDS and items > 1:
            self._limit = max(1, self._limit // GROWTH)
        elif items >= self._limit or known is None:
            self._limit = min(LARGEST_BLOCK, self._limit * GROWTH)
