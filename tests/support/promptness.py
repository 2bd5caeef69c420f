"""Limits for what is promised to happen soon, on a machine that does other things too."""

import os


def busyness() -> float:
    """Return how many processes want each core: 1 or less on a machine that has a core for everybody.

    The greater of the last minute's average and this moment counts, since a test may begin or end a busy stretch.
    """
    runnable = 0.0
    try:
        with open("/proc/loadavg", encoding="ascii") as file:
            runnable = float(file.read().split()[3].partition("/")[0])
    except OSError:
        pass  # not on Linux: the average has to do
    return max(os.getloadavg()[0], runnable) / (os.cpu_count() or 1)


def soon(seconds: float = 1.0) -> float:
    """Return the limit of what is to happen within `seconds` on a quiet machine.

    A machine with a core for each process gives code its time at once. Where several share a core each step waits for
    its turn, so the limit grows with their number: 4 s for a promise of 1 s at a load of two for each core.
    """
    return seconds * max(1.0, 2 * busyness())
