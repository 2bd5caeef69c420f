"""When task runs ran, as spans: packed into rows that do not overlap, merged where they cannot be told apart.

Pure functions over plain tuples: a page of 100,000 task runs is made in a few seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from heapq import heappush, heapreplace
from operator import itemgetter
from typing import NamedTuple


class Span(NamedTuple):
    """What one drawn mark stands for: one task run, or several neighbours of one task and state.

    Attributes:
        start, end: Seconds since the timeline's beginning.
        task: Index into the timeline's tasks.
        state: Index into the timeline's states.
        call: Which call of its task the (first) run is.
        name: The run's own name; None means task name, dash, call.
        runs: How many task runs it stands for.
    """

    start: float
    end: float
    task: int
    state: int
    call: int
    name: str | None = None
    runs: int = 1


def pack(spans: Iterable[Span], max_rows: int) -> list[list[Span]]:
    """Returns the spans of one lane in as few rows as let no two overlap, each row in order of time.

    A lane has more than one row when a worker runs several task runs at once, as an event loop does. With more than
    `max_rows` at once spans share the row that is free soonest, and overlap there.
    """
    rows: list[list[Span]] = []
    free: list[tuple[float, int, int]] = []  # (when the row is free, when it was last used, row), the soonest first
    for turn, span in enumerate(sorted(spans, key=itemgetter(0))):
        if free and (free[0][0] <= span.start or len(rows) >= max_rows):
            until, _, row = free[0]
            heapreplace(free, (max(until, span.end), turn, row))
            rows[row].append(span)
        else:
            heappush(free, (span.end, turn, len(rows)))
            rows.append([span])
    return rows


def merge(row: Sequence[Span], resolution: float, always_apart: frozenset[int] = frozenset()) -> list[Span]:
    """Returns the row with neighbours of one task and state joined where the gap between them is below `resolution`.

    Parameters:
        row: Spans in order of time.
        resolution: Seconds that one pixel stands for.
        always_apart: States whose spans are never joined, so that each stays visible.
    """
    merged: list[Span] = []
    last: Span | None = None
    for span in row:
        if (
            last is not None
            and span.task == last.task
            and span.state == last.state
            and span.start - last.end < resolution
            and span.state not in always_apart
        ):
            last = last._replace(end=max(last.end, span.end), runs=last.runs + span.runs)
            merged[-1] = last
        else:
            last = span
            merged.append(span)
    return merged


def merge_to(
    rows: Sequence[Sequence[Span]], total_seconds: float, limit: int, always_apart: frozenset[int]
) -> list[list[Span]]:
    """Returns the rows merged no more than needed for at most `limit` spans, and at most to a 1,000th of the whole."""
    merged = [list(row) for row in rows]
    parts = 1 << 17
    while sum(map(len, merged)) > limit and parts > 1000:
        parts >>= 1
        merged = [merge(row, total_seconds / parts, always_apart) for row in merged]
    return merged


def activity(spans: Iterable[Span], tasks: int, total_seconds: float, bins: int) -> list[list[float]]:
    """Returns for each task the mean number of its runs that ran at once, in each of `bins` equal parts of the time."""
    width = total_seconds / bins
    exact = [[0.0] * bins for _ in range(tasks)]  # parts of a bin, at a span's ends
    steps = [[0.0] * (bins + 1) for _ in range(tasks)]  # whole bins, as differences
    for span in spans:
        first = min(bins - 1, max(0, int(span.start / width)))
        last = min(bins - 1, max(first, int(span.end / width)))
        if first == last:
            exact[span.task][first] += (span.end - span.start) / width
            continue
        exact[span.task][first] += (first + 1) - span.start / width
        exact[span.task][last] += span.end / width - last
        steps[span.task][first + 1] += 1
        steps[span.task][last] -= 1
    levels = []
    for task in range(tasks):
        running = 0.0
        level = []
        for bin in range(bins):
            running += steps[task][bin]
            level.append(max(0.0, running + exact[task][bin]))
        levels.append(level)
    return levels


def natural(text: str) -> list[tuple[int, int, str]]:
    """Returns a key that sorts ``worker-2`` before ``worker-10``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]
