import itertools

from hypothesis import given
from hypothesis import strategies as st

from core_engine.page.spans import Span, activity, merge, merge_to, natural, pack

NEVER = frozenset[int]()
moments = st.integers(0, 1000).map(lambda tick: tick / 10)
span_lists = st.lists(
    st.builds(
        lambda start, length, task, state, call: Span(start, start + length, task, state, call),
        moments,
        moments,
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 10**6),
    ),
    max_size=60,
)


def one_row(spans: list[Span]) -> list[Span]:
    """Spans one after the other, as one thread runs them."""
    row, at = [], 0.0
    for span in spans:
        length = (span.end - span.start) / 100
        row.append(span._replace(start=at + 0.01, end=at + 0.01 + length))
        at += 0.01 + length
    return row


@given(span_lists)
def test_packing_keeps_every_span_and_lets_no_two_of_a_row_overlap(spans: list[Span]) -> None:
    rows = pack(spans, max_rows=1000)
    assert sorted(span for row in rows for span in row) == sorted(spans)
    for row in rows:
        assert all(before.end <= after.start for before, after in itertools.pairwise(row))


@given(span_lists)
def test_packing_takes_no_more_rows_than_spans_run_at_once(spans: list[Span]) -> None:
    # A span that ends when another starts does not run at the same time as it, one of no length does.
    starts = [span.start for span in spans]
    most = max((sum(s.start <= at and (s.end > at or s.start == at) for s in spans) for at in starts), default=0)
    assert len(pack(spans, max_rows=1000)) <= most


def test_packing_beyond_the_limit_overlaps_rather_than_grows() -> None:
    spans = [Span(0.0, 1.0, 0, 0, call) for call in range(10)]
    rows = pack(spans, max_rows=3)
    assert sorted(len(row) for row in rows) == [3, 3, 4]


@given(span_lists, st.floats(0, 5))
def test_merging_loses_no_run_and_no_time(spans: list[Span], resolution: float) -> None:
    row = one_row(spans)
    merged = merge(row, resolution)
    assert sum(span.runs for span in merged) == len(row)
    assert {(span.task, span.state) for span in merged} == {(span.task, span.state) for span in row}
    if row:
        assert (merged[0].start, merged[-1].end) == (row[0].start, row[-1].end)


@given(span_lists)
def test_merging_never_joins_what_must_stay_apart(spans: list[Span]) -> None:
    merged = merge(one_row(spans), 10.0, frozenset({1}))
    assert sum(span.state == 1 for span in merged) == sum(span.state == 1 for span in spans)


def test_neighbours_of_another_task_or_state_are_not_merged() -> None:
    row = [Span(0.0, 1.0, 0, 0, 0), Span(1.0, 2.0, 0, 0, 1), Span(2.0, 3.0, 1, 0, 0), Span(3.0, 4.0, 1, 1, 1)]
    assert [(span.start, span.end, span.runs) for span in merge(row, 0.1)] == [(0, 2, 2), (2, 3, 1), (3, 4, 1)]


def test_a_gap_that_can_be_seen_is_not_merged_over() -> None:
    row = [Span(0.0, 1.0, 0, 0, 0), Span(1.5, 2.0, 0, 0, 1)]
    assert len(merge(row, 0.4)) == 2
    assert len(merge(row, 0.6)) == 1


def test_merging_to_a_limit_leaves_rows_alone_that_are_within_it() -> None:
    rows = [one_row([Span(0.0, 1.0, 0, 0, call) for call in range(100)])]
    assert merge_to(rows, 100.0, 100, NEVER) == rows
    assert sum(map(len, merge_to(rows, 100.0, 20, NEVER))) <= 20


@given(span_lists)
def test_activity_adds_up_to_the_time_that_was_spent(spans: list[Span]) -> None:
    levels = activity(spans, tasks=3, total_seconds=200.0, bins=37)
    spent = sum(span.end - span.start for span in spans)
    assert abs(sum(map(sum, levels)) * 200.0 / 37 - spent) < 1e-6 * max(1.0, spent)


def test_natural_order_counts_as_people_do() -> None:
    assert sorted(["worker-10", "worker-2", "worker", "main"], key=natural) == [
        "main",
        "worker",
        "worker-2",
        "worker-10",
    ]
