import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from core_engine.page.charts import bar_chart, chart, histogram
from core_engine.page.format import count, duration, percent, rate
from core_engine.page.model import RunPage
from core_engine.page.render import render_page
from core_engine.page.timeline import tick_label, tick_step
from tests.page.conftest import make_page

VOID = {"meta", "br", "path", "rect", "line"}


class _Balance(HTMLParser):
    """Fails on an end tag that does not fit, and keeps the attributes of every element."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def parse(html: str) -> _Balance:
    parser = _Balance()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def timeline_data(html: str) -> dict[str, object]:
    found = re.search(r'id="timeline-data">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])  # type: ignore[no-any-return]


def drawn_marks(html: str, kind: str) -> int:
    lanes = html[html.index('id="lanes"') :]
    return sum(path.count("M") for path in re.findall(rf'<path class="t\d {kind}" d="([^"]*)"', lanes))


def test_a_page_is_well_formed_and_shows_the_run() -> None:
    html = render_page(make_page())
    parse(html)
    for text in ("census", "lively-otter", "00000000-0000-4000-8000-000000000000", "Completed", "worker-3", "sum up"):
        assert text in html
    assert "ValueError: no such number" in html


def test_a_page_needs_nothing_from_outside() -> None:
    html = render_page(make_page())
    attributes = parse(html).attributes
    assert not [value for name, value in attributes if name in ("src", "href", "action", "srcset")]
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_text_from_the_run_cannot_become_markup() -> None:
    nasty = "</script><img src=x onerror=alert(1)>"
    page = make_page()
    page.facts = replace(page.facts, run_name=nasty, message=nasty, facts=[("parameters", nasty)])
    page.timeline.tasks[0] = nasty
    page.timeline.lanes[0] = (nasty, page.timeline.lanes[0][1])
    page.tasks[0].name = nasty
    html = render_page(page, [(nasty, "<p>mine</p>")])
    parse(html)
    assert "<img" not in html
    assert "<p>mine</p>" in html


def test_a_failure_among_ten_thousand_runs_is_drawn_on_its_own() -> None:
    html = render_page(make_page(runs=10_000, lanes=8, failed_call=4321))
    assert drawn_marks(html, "failed") == 1
    assert 'id="failures"' in html


def test_neighbours_are_merged_when_there_are_more_than_pixels() -> None:
    page = make_page(runs=10_000, lanes=2, failed_call=None)
    page.timeline.lanes = [(worker, [span._replace(task=0) for span in spans]) for worker, spans in page.timeline.lanes]
    assert drawn_marks(render_page(page), "completed") <= 2 * 1200


def test_the_data_for_zooming_has_every_run() -> None:
    data = timeline_data(render_page(make_page(runs=1000)))
    rows = data["rows"]
    assert isinstance(rows, list)
    assert sum(len(flat) // 6 for _, _, flat in rows) == 1000


def test_the_data_for_zooming_stays_bounded_and_accounts_for_every_run() -> None:
    html = render_page(make_page(runs=100_000, lanes=2))
    rows = timeline_data(html)["rows"]
    assert isinstance(rows, list)
    assert sum(sum(flat[5::6]) for _, _, flat in rows) == 100_000
    assert len(html) < 6_000_000


def test_a_lane_with_runs_at_once_has_a_row_for_each() -> None:
    page = make_page(runs=2, lanes=1, failed_call=None)
    spans = [span._replace(start=0.0, end=0.001) for span in page.timeline.lanes[0][1]]
    page.timeline.lanes = [("loop", spans)]
    assert timeline_data(render_page(page))["lanes"] == [["loop", 2]]


def test_a_run_without_task_runs_has_a_page_without_timeline() -> None:
    page = make_page()
    empty = RunPage(page.facts, [], replace(page.timeline, tasks=[], lanes=[]), [])
    html = render_page(empty)
    parse(html)
    assert "timeline-data" not in html.replace(html[html.index("<script>") :], "")


def test_sections_of_ones_own_come_first() -> None:
    html = render_page(make_page(), [("Results & more", "<p>forty-two</p>")])
    assert html.index("Results &amp; more") < html.index("<h2>Timeline")


def test_charts_are_well_formed_and_escape_their_labels() -> None:
    bars = bar_chart([("<a>", 3), ("b", 1.5), ("c", 0)], unit=" s")
    parse(chart("Times & more", "by <file>", bars))
    assert "&lt;a&gt;" in bars
    assert ">1.5 s<" in bars
    parse(histogram([("1", 4), ("", 0), ("100", 7)]))
    parse(bar_chart([]) + histogram([]))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "\u2013"),
        (0.0000123, "12 µs"),
        (0.0421, "42.1 ms"),
        (4.21, "4.2 s"),
        (125, "2 min 05 s"),
        (7260, "2 h 01 min"),
    ],
)
def test_durations_have_the_unit_that_reads_best(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_counts_and_shares_are_rounded_honestly() -> None:
    assert count(1234567) == "1\u202f234\u202f567"
    assert percent(1, 100_000) == "<1%"
    assert percent(99_999, 100_000) == ">99%"
    assert percent(0, 0) == "0%"
    assert rate(5000, 2.0) == "2\u202f500"
    assert rate(5, 0.0) == "\u2013"


def test_ticks_are_round() -> None:
    assert [tick_step(least) for least in (0.3, 3.0, 12, 40)] == pytest.approx([0.5, 5, 15, 60])
    assert tick_label(0.0, 0.5) == "0"
    assert tick_label(1.5, 0.5) == "1.5 s"
    assert tick_label(0.015, 0.005) == "15 ms"
    assert tick_label(75, 15) == "1:15"
    assert tick_label(3700, 600) == "1:01:40"
