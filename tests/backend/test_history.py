"""However entries fall into batches, and however often a batch is sent: what is read back is the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core_engine.backend.entries import Entry, TaskRunChanged
from core_engine.backend.sqlite import SqliteStore
from core_engine.backend.store import Store
from core_engine.testing import MemoryStore
from core_engine.testing.stores.lives import LIVES, check_history, play
from tests.backend.builders import TaskRunScript, recorded

pytestmark = pytest.mark.behaviour("I2", "D5")


@pytest.fixture(params=["sqlite", "memory"])
def any_store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    store: Store = SqliteStore(path, synchronous="off") if request.param == "sqlite" else MemoryStore(path)
    yield store
    store.close()


@st.composite
def batches(draw: st.DrawFn, lives: st.SearchStrategy[list[str]]) -> tuple[list[str], list[list[int]]]:
    """Some lives, and the order in which their runs move, cut into batches."""
    chosen = draw(lives)
    turns = [index for index, life in enumerate(chosen) for _ in LIVES[life]]
    order = draw(st.permutations(turns))
    cuts = draw(st.lists(st.integers(0, len(order)), max_size=6).map(sorted))
    edges = [0, *cuts, len(order)]
    return chosen, [list(order[start:stop]) for start, stop in pairwise(edges)]


_SOME_LIVES = st.lists(st.sampled_from(sorted(LIVES)), min_size=1, max_size=8)

_SETTINGS = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@_SETTINGS
@given(batches(_SOME_LIVES))
def test_history_does_not_depend_on_how_entries_fall_into_batches(
    any_store: Store, drawn: tuple[list[str], list[list[int]]]
) -> None:
    run, _ = recorded(any_store)
    scripts, played = play(*drawn, run.id)
    for batch in played:
        any_store.apply(batch)
    check_history(any_store, scripts)


@_SETTINGS
@given(batches(_SOME_LIVES), st.data())
def test_a_resent_batch_changes_nothing_also_when_it_begins_earlier_or_is_sent_in_part(
    any_store: Store, drawn: tuple[list[str], list[list[int]]], data: st.DataObject
) -> None:
    run, _ = recorded(any_store)
    scripts, played = play(*drawn, run.id)
    sent: list[Entry] = []
    for batch in played:
        sent += batch
        # What a sender whose answer got lost may send: the batch, with some before it, or a first part of it.
        start = data.draw(st.integers(0, len(sent)))
        for piece in (batch, batch, sent[start:], sent[start : start + 2]):
            any_store.apply(piece)
    check_history(any_store, scripts)


def test_looking_at_the_details_of_a_running_state_does_not_give_it_a_row_of_its_own(store: SqliteStore) -> None:
    _, tasks = recorded(store, count=1)
    entries = TaskRunScript(tasks).done()
    for entry in entries:
        assert isinstance(entry, TaskRunChanged)
        assert entry.state.state_details.task_run_id == tasks.run_id(0)
    store.apply(entries)
    with store._pool.reading() as db:
        assert db.execute("SELECT count(*) FROM past_state").fetchone() == (0,)
    assert len(store.read_states(tasks.run_id(0))) == 3
