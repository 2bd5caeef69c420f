"""Clocks, memory and medians."""

from __future__ import annotations

import os
import resource
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Linux counts in kilobytes, macOS in bytes.
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024


def cpu_seconds() -> float:
    """Returns the user and system time of this process, all its threads, and its children that have ended."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


def resident_bytes() -> int:
    """Returns how much memory of this process is in RAM."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * _PAGE_BYTES
    except OSError:
        import psutil

        return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """Returns the most memory that this process ever had in RAM."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass  # elsewhere, what `getrusage` says can be that of the process that started this one
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT


def quantile(values: Sequence[float], share: float) -> float:
    """Returns the value below which `share` (0 to 1) of `values` lie: one of them, the nearest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(slots=True, frozen=True)
class Summary:
    """A measured figure: the median of its rounds, and the lowest and highest of them."""

    median: float
    low: float
    high: float
    values: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the figure with every round, rounded to six significant digits."""
        return {
            "median": _rounded(self.median),
            "low": _rounded(self.low),
            "high": _rounded(self.high),
            "rounds": [_rounded(value) for value in self.values],
        }


def summarise(values: Iterable[float]) -> Summary:
    """Returns what `values`, one for each round, amount to.

    Raises:
        ValueError: There are none: every round was void.
    """
    values = tuple(values)
    if not values:
        raise ValueError("There is no round that counts, so nothing can be said.")
    return Summary(statistics.median(values), min(values), max(values), values)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
