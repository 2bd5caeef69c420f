"""How times, counts and text are written on a page."""

from __future__ import annotations

from datetime import datetime
from html import escape

__all__ = ["count", "duration", "escape", "moment", "percent", "rate"]


def duration(seconds: float | None) -> str:
    """Returns a duration with a unit and about three digits: ``312 µs``, ``4.2 s``, ``3 min 05 s``; None is a dash."""
    if seconds is None:
        return "\u2013"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def count(number: int) -> str:
    """Returns a whole number with thin spaces between its thousands."""
    return f"{number:,}".replace(",", "\u202f")


def rate(number: int, seconds: float | None) -> str:
    """Returns how many came in a second; a dash when no time passed."""
    if not seconds:
        return "\u2013"
    value = number / seconds
    return count(round(value)) if value >= 10 else f"{value:.2g}"


def percent(part: float, whole: float) -> str:
    """Returns a share as a whole percentage that is 0 or 100 only when it is exactly that."""
    if not whole or not part:
        return "0%"
    value = 100 * part / whole
    if value >= 99.5 and part < whole:
        return ">99%"
    return "<1%" if value < 1 else f"{value:.0f}%"


def moment(time: datetime | None) -> str:
    """Returns a time in the zone of this machine, to the second; None is a dash."""
    return "\u2013" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
