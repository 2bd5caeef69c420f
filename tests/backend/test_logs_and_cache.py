"""Log lines and cache entries: through a journal, between stores, and what becomes of their rows."""

from __future__ import annotations

import pytest

from core_engine.backend.entries import CacheStored, TaskRunChanged
from core_engine.backend.journal import Journal
from core_engine.backend.sqlite import SqliteStore
from core_engine.schemas.records import TaskRunGroup
from core_engine.schemas.states import COMPLETED, RUNNING, State
from tests.backend.builders import START, TaskRunScript, log_line, recorded

# Log lines.


def test_a_follower_sees_every_line_of_two_writing_stores_once_and_in_order(store: SqliteStore) -> None:
    run, _ = recorded(store)
    second = SqliteStore(store.path, synchronous="off")
    seen: list[str] = []
    cursor: int | None = None
    for number in range(10):
        (store if number % 2 else second).apply([log_line(run.id, f"{number}"), log_line(run.id, f"{number}'")])
        for stored in store.read_logs(run.id, after=cursor):
            cursor = stored.cursor
            seen.append(stored.entry.message)
    second.close()
    assert seen == [text for number in range(10) for text in (f"{number}", f"{number}'")]


@pytest.mark.behaviour("D4")
def test_after_waiting_for_its_position_a_read_sees_what_was_appended(store: SqliteStore, journal: Journal) -> None:
    run, tasks = recorded(store, count=50)
    for index in range(50):
        for entry in TaskRunScript(tasks, index).done():
            position = journal.append(entry)
        journal.append(log_line(run.id, f"{index}"))
        assert journal.wait(position, 30)
        read = store.read_task_run(tasks.run_id(index))
        assert read is not None
        assert read.state_type is COMPLETED
    assert journal.flush(30)
    assert len(store.read_logs(run.id)) == 50


# Cache entries.


def completed(tasks: TaskRunGroup, index: int = 0, data: object = None, at: float = 1.0) -> tuple[State, list[object]]:
    script = TaskRunScript(tasks, index)
    entries: list[object] = [script.to(RUNNING), script.to(COMPLETED, data=data, seconds=at)]
    last = entries[-1]
    assert isinstance(last, TaskRunChanged)
    return last.state, entries


def stored(store: SqliteStore, key: str, expires: float | None, at: float = 1.0, data: object = None) -> State:
    _, tasks = recorded(store, count=1)
    state, entries = completed(tasks, data=data, at=at)
    store.apply([*entries, CacheStored(key, expires, state)])  # type: ignore[list-item]
    return state


@pytest.mark.behaviour("D31")
def test_entries_that_can_never_win_again_are_dropped_when_a_newer_one_comes(store: SqliteStore) -> None:
    for number in range(20):
        stored(store, "key", None if number % 2 else START + 100 + number, at=1 + number)
    with store._pool.reading() as db:
        assert db.execute("SELECT count(*) FROM cache_entry").fetchone() == (1,)


@pytest.mark.behaviour("D4")
def test_a_cache_entry_is_never_missed_between_the_journal_and_the_store(store: SqliteStore, journal: Journal) -> None:
    _, tasks = recorded(store, count=300)
    for index in range(300):
        state, _ = completed(tasks, index)
        journal.append(CacheStored(f"key-{index}", None, state))
        for _ in range(3):
            assert journal.cached(f"key-{index}") or store.read_cached_state(f"key-{index}", START)
