"""Log lines and cache entries, written through a journal or directly."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from core_engine.backend.entries import CacheStored, TaskRunChanged
from core_engine.backend.journal import Journal
from core_engine.backend.sqlite import SqliteStore
from core_engine.results import LiteralResult, PersistedResult, UnpersistedResult
from core_engine.schemas.records import TaskRunGroup
from core_engine.schemas.states import COMPLETED, RUNNING, State
from tests.backend.builders import START, TaskRunScript, log_line, recorded

# Log lines.


@pytest.mark.behaviour("LOG-API-1")
def test_a_line_is_read_back_as_it_was_logged_and_in_order(store: SqliteStore) -> None:
    run, tasks = recorded(store, count=2)
    lines = [
        log_line(run.id, "of the flow"),
        log_line(run.id, "of a task\nwith a second line", tasks.run_id(1), level=40),
        log_line(run.id, "elsewhere")._replace(worker="node-1", name="my.logger"),
    ]
    store.apply(lines)
    read = store.read_logs(run.id)
    assert [stored.entry for stored in read] == lines
    assert sorted(stored.cursor for stored in read) == [stored.cursor for stored in read]


def test_lines_are_chosen_by_run_and_level_and_read_on_by_cursor(store: SqliteStore) -> None:
    run, tasks = recorded(store, count=2)
    other, _ = recorded(store)
    store.apply([log_line(run.id, f"{index}", tasks.run_id(index % 2), level=10 * (index % 5)) for index in range(20)])
    store.apply([log_line(other.id, "of another run")])

    def messages(**filters: object) -> list[str]:
        return [stored.entry.message for stored in store.read_logs(**filters)]  # type: ignore[arg-type]

    assert messages(flow_run_id=run.id) == [f"{index}" for index in range(20)]
    assert messages(task_run_id=tasks.run_id(1)) == [f"{index}" for index in range(1, 20, 2)]
    assert messages(flow_run_id=run.id, min_level=30) == [f"{index}" for index in range(20) if index % 5 >= 3]
    assert messages(flow_run_id=other.id, task_run_id=tasks.run_id(1)) == []
    assert len(messages()) == 21
    first = store.read_logs(run.id, limit=7)
    assert messages(flow_run_id=run.id, after=first[-1].cursor) == [f"{index}" for index in range(7, 20)]
    assert messages(flow_run_id=run.id, after=first[-1].cursor, limit=1) == ["7"]


@pytest.mark.behaviour("LOG-API-2")
def test_lines_of_a_flow_run_that_the_store_does_not_hold_are_kept_under_its_id(store: SqliteStore) -> None:
    run, _ = recorded(store)
    stranger = uuid4()
    store.apply([log_line(stranger, "one"), log_line(run.id, "between"), log_line(stranger, "two", uuid4())])
    assert [stored.entry.message for stored in store.read_logs(stranger)] == ["one", "two"]
    assert [stored.entry.flow_run_id for stored in store.read_logs()] == [stranger, run.id, stranger]
    assert store.read_logs(task_run_id=uuid4()) == []


def test_a_line_that_utf8_cannot_say_does_not_lose_its_neighbours(store: SqliteStore) -> None:
    run, _ = recorded(store)
    store.apply([log_line(run.id, message) for message in ("before", "file \udce9", "nul \x00 byte", "after")])
    messages = [stored.entry.message for stored in store.read_logs(run.id)]
    assert messages == ["before", "file \\udce9", "nul \x00 byte", "after"]


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


@pytest.mark.behaviour("CACHE-4")
def test_a_cached_state_is_found_by_its_key_and_names_the_run_that_it_comes_from(store: SqliteStore) -> None:
    record: PersistedResult[object] = PersistedResult(
        serializer_type="json", storage_path="/results", storage_key="abc", value_type="int", storage_name="s3/x"
    )
    state = stored(store, "key", None, data=record)
    found = store.read_cached_state("key", time.time())
    assert found is not None
    assert (found.type, found.name, found.id, found.data) == (COMPLETED, "Completed", state.id, record)
    assert found.state_details.task_run_id == state.state_details.task_run_id
    assert found.state_details.flow_run_id == state.state_details.flow_run_id
    assert store.read_cached_state("another", time.time()) is None


@pytest.mark.behaviour("CACHE-4")
def test_only_stored_records_come_back_with_a_cached_state(store: SqliteStore) -> None:
    stored(store, "literal", None, data=LiteralResult(False))
    stored(store, "memory", None, data=UnpersistedResult(object()))
    literal, memory = (store.read_cached_state(key, START) for key in ("literal", "memory"))
    assert literal is not None
    assert literal.data == LiteralResult(False)
    assert memory is not None
    assert memory.data is None


@pytest.mark.behaviour("CACHE-5")
def test_an_entry_is_valid_until_it_expires_and_one_that_never_was_valid_is_none(store: SqliteStore) -> None:
    stored(store, "hour", START + 3600)
    stored(store, "ever", None)
    stored(store, "negative", START - 1)
    assert store.read_cached_state("hour", START + 3599) is not None
    assert store.read_cached_state("hour", START + 3600) is None
    assert store.read_cached_state("ever", START + 1e9) is not None
    assert store.read_cached_state("negative", START - 100) is None


@pytest.mark.behaviour("CACHE-6")
def test_the_newest_valid_entry_wins_and_when_it_expires_an_older_one_may_serve_again(store: SqliteStore) -> None:
    old = stored(store, "key", None, at=1)
    new = stored(store, "key", START + 100, at=2)
    stored(store, "key", START + 50, at=1.5)

    def winner(now: float) -> object:
        found = store.read_cached_state("key", now)
        return None if found is None else found.id

    assert winner(START + 10) == new.id
    assert winner(START + 100) == old.id


@pytest.mark.behaviour("D31")
def test_entries_that_can_never_win_again_are_dropped_when_a_newer_one_comes(store: SqliteStore) -> None:
    for number in range(20):
        stored(store, "key", None if number % 2 else START + 100 + number, at=1 + number)
    with store._pool.reading() as db:
        assert db.execute("SELECT count(*) FROM cache_entry").fetchone() == (1,)


def test_many_keys_are_asked_for_at_once(store: SqliteStore) -> None:
    _, tasks = recorded(store, count=10)
    states = [completed(tasks, index)[0] for index in range(10)]
    store.apply([CacheStored(f"key-{index}", None, state) for index, state in enumerate(states)])
    found = store.read_cached_states(["key-3", "key-7", "unknown", "ü'\""], START)
    assert {key: state.id for key, state in found.items()} == {"key-3": states[3].id, "key-7": states[7].id}


@pytest.mark.behaviour("D4")
def test_a_cache_entry_is_never_missed_between_the_journal_and_the_store(store: SqliteStore, journal: Journal) -> None:
    _, tasks = recorded(store, count=300)
    for index in range(300):
        state, _ = completed(tasks, index)
        journal.append(CacheStored(f"key-{index}", None, state))
        for _ in range(3):
            assert journal.cached(f"key-{index}") or store.read_cached_state(f"key-{index}", START)
