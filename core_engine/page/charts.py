"""Simple SVG charts in the page's colours, for sections of your own."""

from __future__ import annotations

from collections.abc import Sequence

from core_engine.page.format import escape

_WIDTH = 520
_ROW = 22


def chart(title: str, subtitle: str, drawing: str) -> str:
    """Returns `drawing` (SVG) as a figure with a caption; put several in a ``<div class="charts">``."""
    return (
        f'<figure class="chart"><figcaption>{escape(title)}<small>{escape(subtitle)}</small></figcaption>'
        f"{drawing}</figure>"
    )


def bar_chart(bars: Sequence[tuple[str, float]], unit: str = "", colour: int = 0) -> str:
    """Returns horizontal bars, one for each (label, value), longest value at full width.

    Parameters:
        bars: In the order in which to draw them; values from 0.
        unit: Written after each value.
        colour: Which of the page's eight colours, from 0.
    """
    labels = min(240, 8 + 7 * max((len(label) for label, _ in bars), default=0))
    scale = (_WIDTH - labels - 86) / (max((value for _, value in bars), default=0) or 1)
    rows = "".join(
        f'<text class="label" x="{labels - 8}" y="{top + 15}" text-anchor="end">{escape(_cut(label))}'
        f"<title>{escape(label)}</title></text>"
        f'<path class="t{colour % 8}" d="M{labels} {top + 4}h{max(1.0, scale * value):.1f}v14H{labels}z"/>'
        f'<text x="{labels + scale * value + 6:.1f}" y="{top + 15}">{_number(value)}{escape(unit)}</text>'
        for top, (label, value) in zip(range(0, _ROW * len(bars), _ROW), bars, strict=True)
    )
    return f'<svg viewBox="0 0 {_WIDTH} {len(bars) * _ROW + 4}" role="img">{rows}</svg>'


def histogram(bins: Sequence[tuple[str, int]], colour: int = 0, height: int = 190) -> str:
    """Returns upright bars side by side, one for each (label of its lower edge, count), with the highest one's count.

    Parameters:
        bins: From left to right; an empty label leaves its edge unlabelled.
        colour: Which of the page's eight colours, from 0.
        height: Of the bars' area, in pixels at full size.
    """
    most = max((value for _, value in bins), default=0) or 1
    highest = next((position for position, (_, value) in enumerate(bins) if value == most), None)
    step = _WIDTH / max(1, len(bins))
    bars = []
    for position, (label, value) in enumerate(bins):
        left = position * step + 1
        wide = step - 2
        tall = max((height - 18) * value / most, 1 if value else 0)
        bars.append(
            f'<path class="t{colour % 8}" d="M{left:.1f} {height}h{wide:.1f}v-{tall:.1f}h-{wide:.1f}z">'
            f"<title>{escape(label)}: {value:,}</title></path>"
        )
        if label:
            middle = left + wide / 2
            bars.append(f'<text x="{middle:.1f}" y="{height + 16}" text-anchor="middle">{escape(label)}</text>')
        if position == highest:
            place = f'x="{left + wide / 2:.1f}" y="{height - tall - 5:.1f}"'
            bars.append(f'<text class="label" {place} text-anchor="middle">{value:,}</text>')
    rule = f'<line class="rule" x1="0" x2="{_WIDTH}" y1="{height + 0.5}" y2="{height + 0.5}"/>'
    return f'<svg viewBox="0 0 {_WIDTH} {height + 22}" role="img">{"".join(bars)}{rule}</svg>'


def _cut(label: str, most: int = 33) -> str:
    return label if len(label) <= most else "…" + label[1 - most :]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:,.1f}"
