"""The drawn timeline: a lane per worker, what ran at once above it, every failure in a strip of its own.

Python draws the whole run as SVG, which prints and needs no script. The same spans travel along as JSON, from which
``assets/timeline.js`` draws again when the reader zooms in, and answers what lies under the pointer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from core_engine.page.format import escape
from core_engine.page.model import Timeline
from core_engine.page.spans import Span, activity, merge, merge_to, pack

# SVG units over the whole time; the drawing is stretched to the page's width, where a unit is about a pixel.
WIDTH = 1200
ACTIVITY_HEIGHT = 84
ACTIVITY_BINS = 600
MAX_ROWS_PER_LANE = 64
# How many spans travel as JSON: about a megabyte. Beyond that neighbours are merged for good.
MAX_EMBEDDED_SPANS = 30_000
COLOURS = 8
TICK_STEPS = (1, 2, 5)


@dataclass(slots=True, frozen=True)
class _Row:
    top: float
    height: float
    spans: list[Span]


@dataclass(slots=True, frozen=True)
class _Lane:
    label: str
    top: float
    height: float
    rows: list[_Row]
    runs: int


def colour_class(task: int) -> str:
    """Returns the CSS class that gives a task its colour; colours repeat after eight tasks."""
    return f"t{task % COLOURS}"


def render_timeline(timeline: Timeline) -> str:
    """Returns the timeline as HTML: legend, activity, lanes, and the data for zooming."""
    lanes, height = _lay_out(timeline)
    apart = _failed_states(timeline)
    resolution = timeline.total_seconds / WIDTH
    rows = [row for lane in lanes for row in lane.rows]
    drawn = [(row, merge(row.spans, resolution, apart)) for row in rows]
    failed = [span for row in rows for span in row.spans if span.state in apart]
    labels = "".join(
        f'<div class="lane" style="top:{lane.top:g}px;height:{lane.height:g}px;line-height:{lane.height:g}px"'
        f' title="{escape(lane.label)}: {lane.runs} task runs">{escape(lane.label)}</div>'
        for lane in lanes
    )
    bands = "".join(
        f'<rect class="band" x="0" y="{lane.top:g}" width="{WIDTH}" height="{lane.height:g}"/>' for lane in lanes[::2]
    )
    small = " dense" if len(lanes) > 28 else ""
    return (
        f"{_legend(timeline)}"
        f'<div class="timeline{small}" id="timeline" tabindex="0" role="img" aria-label="Timeline of the task runs">'
        f'<div class="side activity-side"><span>running<br>at once</span></div>'
        f'<div class="plot" id="activity">{_activity(timeline)}<div class="window" hidden></div></div>'
        f'<div class="side"></div><div class="axis" id="axis">{_ticks(timeline.total_seconds)}</div>'
        f"{_failure_strip(failed, timeline)}"
        f'<div class="side lanes-side" style="height:{height:g}px">{labels}</div>'
        f'<div class="plot lanes" id="lanes" style="height:{height:g}px">'
        f"{_svg(height, f'{bands}<g>{_paths(drawn, timeline)}</g>')}"
        f'<div class="brush" hidden></div></div>'
        f"</div>"
        f'<div class="tip" id="tip" hidden></div>'
        f'<script type="application/json" id="timeline-data">{_data(timeline, lanes, height, apart)}</script>'
    )


def _failed_states(timeline: Timeline) -> frozenset[int]:
    return frozenset(number for number, (_, kind) in enumerate(timeline.states) if kind == "failed")


def _lay_out(timeline: Timeline) -> tuple[list[_Lane], float]:
    """Packs each lane into rows and gives all of them a place; returns the lanes and their height in pixels."""
    sizes = ((12, 24, 2), (28, 17, 2), (64, 11, 1), (1 << 30, 8, 1))
    single, gap = next((size, gap) for most, size, gap in sizes if len(timeline.lanes) <= most)
    lanes: list[_Lane] = []
    top = 0.0
    for label, spans in timeline.lanes:
        packed = pack(spans, MAX_ROWS_PER_LANE)
        row_height = single if len(packed) <= 1 else max(3.0, min(12.0, 192 / len(packed)))
        rows = [
            _Row(top + gap + number * row_height, max(2.0, row_height - (1 if len(packed) > 1 else 0)), row)
            for number, row in enumerate(packed)
        ]
        height = len(packed) * row_height + 2 * gap
        lanes.append(_Lane(label, top, height, rows, sum(span.runs for span in spans)))
        top += height
    return lanes, top


def _svg(height: float, content: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" height="{height:g}" preserveAspectRatio="none" aria-hidden="true">'
        f"{content}</svg>"
    )


def _paths(drawn: Iterable[tuple[_Row, list[Span]]], timeline: Timeline) -> str:
    """Returns one path for each task and kind of state, whatever the number of spans; failures last, so on top."""
    scale = WIDTH / timeline.total_seconds
    parts: dict[tuple[int, str], list[str]] = {}
    for row, spans in drawn:
        for span in spans:
            kind = timeline.states[span.state][1]
            # A failure is wider than its time and stands out of its row: it shows without its colour too.
            least, out = (3.0, 1.5) if kind == "failed" else (0.5, 0)
            width = max((span.end - span.start) * scale, least)
            left = min(span.start * scale, WIDTH - width)
            parts.setdefault((span.task, kind), []).append(
                f"M{left:.1f} {row.top - out:g}h{width:.1f}v{row.height + 2 * out:g}h-{width:.1f}z"
            )
    ordered = sorted(parts.items(), key=lambda item: (item[0][1] == "failed", item[0]))
    return "".join(f'<path class="{colour_class(task)} {kind}" d="{"".join(path)}"/>' for (task, kind), path in ordered)


def _failure_strip(failed: list[Span], timeline: Timeline) -> str:
    """Returns a strip with a tick for each failure, whichever lane it is in; nothing when nothing failed."""
    if not failed:
        return ""
    scale = WIDTH / timeline.total_seconds
    path = "".join(f"M{min(span.end * scale, WIDTH - 2):.1f} 0h2v12h-2z" for span in failed)
    drawing = _svg(12, f'<path class="failed" d="{path}"/>')
    return (
        f'<div class="side failures-side">{len(failed)} failed</div>'
        f'<div class="plot failures" id="failures">{drawing}</div>'
    )


def _activity(timeline: Timeline) -> str:
    """Returns stacked areas, one for each task: how many of its runs ran at once."""
    spans = (span for _, lane in timeline.lanes for span in lane)
    levels = activity(spans, len(timeline.tasks), timeline.total_seconds, ACTIVITY_BINS)
    base = [0.0] * ACTIVITY_BINS
    stacked: list[tuple[int, list[float], list[float]]] = []
    for task, level in enumerate(levels):
        top = [low + more for low, more in zip(base, level, strict=True)]
        stacked.append((task, base, top))
        base = top
    most = max(base, default=0.0) or 1.0
    areas = "".join(
        f'<path class="{colour_class(task)} completed" d="{_area(low, high, most)}"/>' for task, low, high in stacked
    )
    return f'{_svg(ACTIVITY_HEIGHT, areas)}<span class="most">{most:.0f}</span>'


def _area(low: list[float], high: list[float], most: float) -> str:
    """Returns a stepped area between two series, in the activity's coordinates."""
    step = WIDTH / len(low)
    scale = (ACTIVITY_HEIGHT - 16) / most

    def outline(series: list[float]) -> Iterator[tuple[float, float]]:
        for bin, value in enumerate(series):
            yield bin * step, ACTIVITY_HEIGHT - value * scale
            yield (bin + 1) * step, ACTIVITY_HEIGHT - value * scale

    points = [*outline(high), *reversed(list(outline(low)))]
    return "M" + "L".join(f"{x:g} {y:.1f}" for x, y in points) + "z"


def _ticks(total_seconds: float) -> str:
    """Returns about eight labelled ticks at round offsets."""
    step = tick_step(total_seconds / 8)
    # A tick too near the right end has no room for its label.
    number = int(0.96 * total_seconds / step)
    return "".join(
        f'<span style="left:{100 * tick * step / total_seconds:.3f}%">{tick_label(tick * step, step)}</span>'
        for tick in range(number + 1)
    )


def tick_step(least: float) -> float:
    """Returns the smallest round number of seconds (1, 2 or 5 times a power of ten; minutes above 10) from `least`."""
    if least > 10:
        minutes = (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
        return next((step for step in minutes if step >= least), least)
    power = 1e-6
    while True:
        for factor in TICK_STEPS:
            if factor * power >= least * (1 - 1e-9):
                return factor * power
        power *= 10


def tick_label(offset: float, step: float) -> str:
    """Returns an offset with as many digits as the step between two ticks needs."""
    if step >= 15:
        minutes, seconds = divmod(round(offset), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    if offset == 0:
        return "0"
    unit, scale = ("s", 1.0) if step >= 0.1 else ("ms", 1e3) if step >= 1e-4 else ("µs", 1e6)
    return f"{round(offset * scale, 3):g} {unit}"


def _legend(timeline: Timeline) -> str:
    tasks = "".join(
        f'<li><button type="button" data-task="{number}" aria-pressed="false">'
        f'<i class="swatch {colour_class(number)}"></i>{escape(name)}</button></li>'
        for number, name in enumerate(timeline.tasks)
    )
    kinds = {kind for _, kind in timeline.states}
    others = "".join(
        f'<li><i class="swatch t0 {kind}"></i>{label}</li>'
        for kind, label in (("failed", "failed or crashed"), ("cached", "cached"), ("cancelled", "cancelled"))
        if kind in kinds
    )
    return (
        f'<div class="legend"><ul>{tasks}{others}</ul>'
        '<p class="hint"><span>drag to zoom, double-click for all</span>'
        '<button type="button" id="zoom-out" hidden>show all</button></p></div>'
    )


def _data(timeline: Timeline, lanes: list[_Lane], height: float, apart: frozenset[int]) -> str:
    """Returns what the script needs, as JSON that is safe inside a script element.

    Times are whole microseconds; each row's spans are one flat list of start, length, task, state, call, runs.
    """
    rows = [row for lane in lanes for row in lane.rows]
    merged = merge_to([row.spans for row in rows], timeline.total_seconds, MAX_EMBEDDED_SPANS, apart)
    names: dict[str, str] = {}
    packed = []
    for number, (row, spans) in enumerate(zip(rows, merged, strict=True)):
        flat: list[int] = []
        for position, span in enumerate(spans):
            if span.name is not None and span.runs == 1:
                names[f"{number}:{position}"] = span.name
            length = max(0.0, span.end - span.start)
            flat += (round(span.start * 1e6), round(length * 1e6), span.task, span.state, span.call, span.runs)
        packed.append([row.top, row.height, flat])
    data = {
        "total": round(timeline.total_seconds * 1e6),
        "height": height,
        "tasks": timeline.tasks,
        "states": timeline.states,
        "lanes": [[lane.label, len(lane.rows)] for lane in lanes],
        "rows": packed,
        "names": names,
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
