"""Work for clusters, in plain functions that every engine's workers import by name."""

from __future__ import annotations

import math
import random
import time

MEGABYTE = 1_000_000
SLOTS = 2
# Of the durations that are drawn: the same in every process and round.
SEED = 2026

KINDS = ("1 ms", "10 ms", "100 ms", "log-normal, 20 ms", "2 ms, one in a hundred 100 ms")


def identity(number: int) -> int:
    return number


def nap(seconds: float) -> float:
    """Sleeps, as a task that holds a worker and no processor."""
    time.sleep(seconds)
    return seconds


def load_and_nap(seconds: float) -> None:
    """Loads what the engine's workers need, and holds a worker for some time."""
    import runners.ray.worker  # noqa: F401

    time.sleep(seconds)


def make_value(number: int) -> bytes:
    return bytes([number % 256]) * MEGABYTE


def change_value(value: bytes) -> bytes:
    return value.translate(_SUCCESSORS)


def first_of_value(value: bytes) -> int:
    assert len(value) == MEGABYTE
    return value[0]


_SUCCESSORS = bytes([*range(1, 256), 0])


def durations(kind: str, milliseconds: int) -> list[float]:
    """Returns the durations of tasks, in seconds, that keep both slots of the cluster busy for `milliseconds`."""
    random_numbers = random.Random(SEED)
    total, found = 0.0, []
    while total < SLOTS * milliseconds / 1_000:
        found.append(_duration(kind, random_numbers))
        total += found[-1]
    return found


def _duration(kind: str, random_numbers: random.Random) -> float:
    if kind == "log-normal, 20 ms":
        return random_numbers.lognormvariate(math.log(0.020) - 0.5, 1.0)
    if kind == "2 ms, one in a hundred 100 ms":
        return 0.1 if random_numbers.random() < 0.01 else 0.002
    return float(kind.removesuffix(" ms")) / 1_000


def ideal_seconds(naps: list[float]) -> float:
    """Returns how long the best schedule takes, at the least."""
    return max(sum(naps) / SLOTS, *naps)


def chain_result(size: int) -> int:
    """Returns what a chain of three maps over `size` values adds up to."""
    return sum((number + 1) % 256 for number in range(size))
