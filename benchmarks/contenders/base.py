"""What a contender is: something that is run again and again in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(slots=True, frozen=True)
class Round:
    """One run of a contender.

    Attributes:
        size: How many tasks, calls, lines or links.
        folder: Where it keeps what it records: fresh for each round, and removed after it has been read back.
    """

    size: int
    folder: Path


class Contender:
    """The life of a round. Only ``run`` and ``settle`` are on the clock."""

    def prepare(self, round: Round) -> None:
        """Does what is not to be measured: opens files, fills a cache."""

    def run(self, round: Round) -> None:
        """Does the work; its end is the first clock, "returned to the user"."""
        raise NotImplementedError

    def settle(self, round: Round) -> None:
        """Waits until everything is committed; its end is the second clock, "durable"."""

    def report(self, round: Round) -> dict[str, Any]:
        """Returns, ready for JSON, what the parent needs to check the round, and figures of its own."""
        return {}

    def close(self, round: Round) -> None:
        """Gives up what ``prepare`` opened. Called after the parent has read the store back."""
