import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_engine.cli.bars import Bar, Meter, render_bars
from core_engine.cli.terminal import ansi

counts = st.integers(0, 10**6)
bars = st.builds(
    Bar,
    label=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40),
    running=counts,
    completed=counts,
    failed=counts,
    cached=counts,
    cancelled=counts,
    started=st.just(1.0),
).flatmap(
    lambda bar: counts.map(
        lambda left: Bar(
            bar.label, bar.done + left, bar.running, bar.completed, bar.failed, bar.cached, bar.cancelled, bar.started
        )
    )
)


def text_of(*arguments: object, **options: object) -> list[str]:
    return [ansi(line, colours=False) for line in render_bars(*arguments, **options)]  # type: ignore[arg-type]


@given(st.lists(bars, min_size=1, max_size=6), st.integers(10, 200), st.floats(0.1, 1e6))
def test_no_line_is_wider_than_the_terminal(shown: list[Bar], width: int, rate: float) -> None:
    assert all(len(line) <= width for line in text_of(shown, [rate] * len(shown), width))


@given(bars)
def test_a_bar_is_full_only_when_its_task_is_done(bar: Bar) -> None:
    line = text_of([bar], [None], 80)[1]
    assert ("─" not in line) == bar.is_done


def test_eighty_columns_show_everything() -> None:
    bar = Bar("read-and-parse", 5000, running=8, completed=4700, failed=37, cached=120, started=1.0)
    head, line = text_of([bar], [143.0], 80)
    assert head.split() == ["done", "failed", "cached", "running", "rate", "ETA"]
    assert line.split()[0] == "read-and-parse"
    assert line.split()[2:] == ["4857/5000", "37", "120", "8", "143/s", "0:01"]


def test_one_failure_in_ten_thousand_has_a_cell_of_its_own() -> None:
    bar = Bar("t", 20_000, completed=9_999, failed=1, started=1.0)
    line = render_bars([bar], [None], 80)[1]
    assert [len(text) for text, style in line if style == "red"] == [1]


def test_a_narrow_terminal_keeps_what_matters_most() -> None:
    bar = Bar("read-and-parse", 5000, running=8, completed=4700, failed=37, started=1.0)
    head, line = text_of([bar], [143.0], 42)
    assert head.split() == ["done", "failed", "ETA"]
    assert "4737/5000" in line


def test_where_there_is_no_room_tasks_that_are_done_are_left_out() -> None:
    shown = [Bar(f"task-{number}", 1, completed=number % 2, started=1.0) for number in range(10)]
    lines = text_of(shown, [None] * 10, 80, 5)
    assert [line.split()[0] for line in lines[1:5]] == ["task-2", "task-4", "task-6", "task-8"]
    assert lines[5] == "and 6 more tasks"


def test_a_terminal_without_line_drawing_gets_plain_characters() -> None:
    line = text_of([Bar("t", 2, completed=1, started=1.0)], [None], 80, ascii_only=True)[1]
    assert line.isascii()


def test_the_rate_is_that_of_the_last_seconds_and_of_the_whole_when_done() -> None:
    meter, bar = Meter(), Bar("t", 1000, started=0.0)
    assert meter.rate(bar, 0.0) is None
    for now in range(1, 9):
        bar.completed = now * (10 if now < 5 else 100)
        rate = meter.rate(bar, float(now))
    assert rate is not None
    assert rate > 50
    bar.completed = 1000
    assert meter.rate(bar, 10.0) == pytest.approx(100)
    assert meter.rate(bar, 99.0) == pytest.approx(100)


def test_bars_of_one_name_add_up() -> None:
    bar = Bar("t", 10, running=1, completed=2, started=5.0)
    bar.add(Bar("t", 5, failed=1, started=3.0))
    assert (bar.total, bar.running, bar.done, bar.started) == (15, 1, 3, 3.0)
