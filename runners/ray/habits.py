"""Which tasks leave values on the cluster: a call that can leave one costs Ray more than one that cannot."""

from __future__ import annotations

# After so many calls of a task that had no value to leave, the next are taken to have none either.
KNOWN_AFTER = 32


class Habits:
    """What is known of tasks, by their names. Told in one thread, asked in any."""

    def __init__(self) -> None:
        # How many calls had no value to leave; None: one had.
        self._without: dict[str, int | None] = {}

    def take(self, task_name: str, values: int) -> None:
        """Takes how many values a call of a task left, or would have left if it could."""
        without = self._without.get(task_name, 0)
        if without is not None:
            self._without[task_name] = None if values else without + 1

    def leaves_values(self, task_name: str) -> bool:
        """Returns whether a call of the task may have a value to leave; where it has one nevertheless it reports it."""
        without = self._without.get(task_name, 0)
        return without is None or without < KNOWN_AFTER
