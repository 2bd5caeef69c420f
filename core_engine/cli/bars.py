"""The progress display as lines of text: a bar for each task. Pure, so that it can be tested without a terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from core_engine.cli.terminal import Line

# Over how many seconds the rate is measured: long enough to be calm, short enough to notice a change.
RATE_WINDOW_SECONDS = 3.0
MIN_NAME, MAX_NAME, MIN_BAR = 8, 24, 6
_HEADS = ("done", "failed", "cached", "running", "rate", "ETA")


@dataclass(slots=True)
class Bar:
    """One task's progress. ``started`` is when its first run started (seconds since the epoch), None while none did.

    ``failed`` counts crashed runs too; ``cached`` runs are not among ``completed``.
    """

    label: str
    total: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    cached: int = 0
    cancelled: int = 0
    started: float | None = None

    @property
    def done(self) -> int:
        return self.completed + self.failed + self.cached + self.cancelled

    @property
    def is_done(self) -> bool:
        return self.total > 0 and self.done >= self.total

    def add(self, other: Bar) -> None:
        """Adds the numbers of another bar."""
        for name in ("total", "running", "completed", "failed", "cached", "cancelled"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        starts = [start for start in (self.started, other.started) if start is not None]
        self.started = min(starts, default=None)


@dataclass(slots=True)
class Meter:
    """How fast a bar moves. A task that is done keeps the rate of its whole time."""

    _seen: deque[tuple[float, int]] = field(default_factory=deque)
    _whole: float | None = None

    def rate(self, bar: Bar, now: float) -> float | None:
        """Returns runs done per second, None while that cannot be said. Call it at each refresh."""
        if bar.is_done and self._whole is not None:
            return self._whole
        if bar.is_done and bar.started is not None and now > bar.started:
            self._whole = bar.done / (now - bar.started)
            return self._whole
        self._seen.append((now, bar.done))
        while len(self._seen) > 2 and now - self._seen[0][0] > RATE_WINDOW_SECONDS:
            self._seen.popleft()
        since, before = self._seen[0]
        return None if now - since < 0.2 or bar.done == before else (bar.done - before) / (now - since)


def render_bars(
    bars: Sequence[Bar], rates: Sequence[float | None], width: int, most: int | None = None, ascii_only: bool = False
) -> list[Line]:
    """Returns the lines of the display, none wider than `width`: a head, then a bar for each task.

    Parameters:
        bars: In the order in which they began.
        rates: Of each bar, in runs per second; None: not known.
        width: Columns of the terminal.
        most: How many bars there is room for; the others are told of in a last line. None means all.
        ascii_only: Whether the terminal's encoding has no line drawing.
    """
    shown, hidden = _choose(bars, most)
    cells = [_cells(bars[number], rates[number]) for number in shown]
    widths, room = _columns(cells, width)
    longest = max((len(bars[number].label) for number in shown), default=MIN_NAME)
    name_width = max(0, min(max(longest, MIN_NAME), MAX_NAME, room - 1 - MIN_BAR))
    bar_width = max(0, room - 1 - name_width)
    head = "".join(f" {name:>{length}}" for name, length in widths.items())
    lines: list[Line] = [[(" " * (name_width + 1 + bar_width) + head, "dim")]]
    for number, row in zip(shown, cells, strict=True):
        bar = bars[number]
        line = [(_fit(bar.label, name_width) + " ", ""), *_drawn(bar, bar_width, ascii_only)]
        lines.append(line + [(f" {row[name]:>{length}}", _style(name, bar)) for name, length in widths.items()])
    if hidden:
        lines.append([(f"and {hidden} more tasks"[:width], "dim")])
    return lines


def _columns(cells: Sequence[dict[str, str]], width: int) -> tuple[dict[str, int], int]:
    """Returns the columns that fit with their widths, and the room left for name and bar.

    A narrow terminal loses columns, from the least telling one on.
    """
    widths = {head: max(len(head), *(len(row[head]) for row in cells), 0) for head in _HEADS}
    for dispensable in ("rate", "running", "cached", "ETA", "failed", "done"):
        room = width - sum(widths.values()) - len(widths)
        if room >= MIN_NAME + 1 + MIN_BAR:
            break
        del widths[dispensable]
    return widths, max(0, width - sum(widths.values()) - len(widths))


def _choose(bars: Sequence[Bar], most: int | None) -> tuple[list[int], int]:
    """Returns the numbers of the bars to show, and how many are left out: those that are done go first."""
    numbers = list(range(len(bars)))
    if most is None or len(bars) <= most:
        return numbers, 0
    ranked = sorted(numbers, key=lambda number: (bars[number].is_done, bars[number].started is None, -number))
    return sorted(ranked[: max(1, most - 1)]), len(bars) - max(1, most - 1)


def _cells(bar: Bar, rate: float | None) -> dict[str, str]:
    return {
        # As wide as it will get, so that the bars do not move about.
        "done": f"{bar.done}/{bar.total}".rjust(2 * len(str(bar.total)) + 1),
        "failed": str(bar.failed),
        "cached": str(bar.cached),
        "running": str(bar.running),
        "rate": _rate(rate),
        "ETA": "done" if bar.is_done else _eta(bar, rate),
    }


def _style(head: str, bar: Bar) -> str:
    if head == "failed":
        return "bold red" if bar.failed else "dim"
    if head == "cached":
        return "cyan" if bar.cached else "dim"
    if head == "done":
        return ""
    return "dim" if bar.is_done or (head == "running" and not bar.running) else ""


def _drawn(bar: Bar, width: int, ascii_only: bool) -> Line:
    """Returns the bar itself: what completed, was cached, was cancelled, failed and is left, each in its colour.

    A part that is not empty has a cell where there is room, so that one failure in 10,000 is seen; only a task that
    is done has a full bar.
    """
    full, rest = ("#", "-") if ascii_only else ("━", "─")
    counts = {"green": bar.completed, "cyan": bar.cached, "yellow": bar.cancelled, "red": bar.failed}
    total = max(bar.total, bar.done, 1)
    cells = {colour: max(1, count * width // total) if count else 0 for colour, count in counts.items()}
    filled = width if bar.is_done else min(max(0, width - 1), sum(cells.values()))
    # What rounding left over, or took too much, is the largest part's.
    largest = max(cells, key=lambda colour: cells[colour])
    cells[largest] = max(0, cells[largest] + filled - sum(cells.values()))
    drawn: Line = [(full * length, colour) for colour, length in cells.items() if length]
    used = sum(cells.values())
    return drawn if used > width else [*drawn, (rest * (width - used), "dim")]


def _fit(label: str, width: int) -> str:
    return f"{label:<{width}}" if len(label) <= width else label[: max(0, width - 1)] + "…"


def _rate(rate: float | None) -> str:
    if rate is None:
        return "-"
    if rate >= 100_000:
        return f"{rate / 1000:.0f}k/s"
    return f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def _eta(bar: Bar, rate: float | None) -> str:
    if not rate:
        return "-"
    minutes, seconds = divmod(round((bar.total - bar.done) / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
