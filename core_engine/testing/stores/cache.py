"""What completed runs leave under cache keys."""

from __future__ import annotations

import time

from core_engine.backend.entries import CacheStored, TaskRunChanged
from core_engine.backend.store import Store
from core_engine.results import LiteralResult, PersistedResult, UnpersistedResult
from core_engine.schemas.records import TaskRunGroup
from core_engine.schemas.states import COMPLETED, RUNNING, State
from core_engine.testing.conformance import holds
from core_engine.testing.stores.builders import START, TaskRunScript, recorded
from core_engine.testing.stores.suite import StoreSuite


def _completed(tasks: TaskRunGroup, index: int = 0, data: object = None, at: float = 1.0) -> tuple[State, list[object]]:
    script = TaskRunScript(tasks, index)
    entries: list[object] = [script.to(RUNNING), script.to(COMPLETED, data=data, seconds=at)]
    last = entries[-1]
    assert isinstance(last, TaskRunChanged)
    return last.state, entries


def _stored(store: Store, key: str, expires: float | None, at: float = 1.0, data: object = None) -> State:
    _, tasks = recorded(store, count=1)
    state, entries = _completed(tasks, data=data, at=at)
    store.apply([*entries, CacheStored(key, expires, state)])  # type: ignore[list-item]
    return state


class CacheSuite(StoreSuite):
    """Cached states: which one serves, and for how long."""

    @holds("CACHE-4")
    def test_a_cached_state_is_found_by_its_key_and_names_the_run_that_it_comes_from(self, store: Store) -> None:
        record: PersistedResult[object] = PersistedResult(
            serializer_type="json", storage_path="/results", storage_key="abc", value_type="int", storage_name="s3/x"
        )
        state = _stored(store, "key", None, data=record)
        found = store.read_cached_state("key", time.time())
        assert found is not None
        assert (found.type, found.name, found.id, found.data) == (COMPLETED, "Completed", state.id, record)
        assert found.state_details.task_run_id == state.state_details.task_run_id
        assert found.state_details.flow_run_id == state.state_details.flow_run_id
        assert store.read_cached_state("another", time.time()) is None

    @holds("CACHE-4")
    def test_only_stored_records_come_back_with_a_cached_state(self, store: Store) -> None:
        _stored(store, "literal", None, data=LiteralResult(False))
        _stored(store, "memory", None, data=UnpersistedResult(object()))
        literal, memory = (store.read_cached_state(key, START) for key in ("literal", "memory"))
        assert literal is not None
        assert literal.data == LiteralResult(False)
        assert memory is not None
        assert memory.data is None

    @holds("CACHE-5")
    def test_an_entry_is_valid_until_it_expires_and_one_that_never_was_valid_is_none(self, store: Store) -> None:
        _stored(store, "hour", START + 3600)
        _stored(store, "ever", None)
        _stored(store, "negative", START - 1)
        assert store.read_cached_state("hour", START + 3599) is not None
        assert store.read_cached_state("hour", START + 3600) is None
        assert store.read_cached_state("ever", START + 1e9) is not None
        assert store.read_cached_state("negative", START - 100) is None

    @holds("CACHE-6")
    def test_the_newest_valid_entry_wins_and_when_it_expires_an_older_one_may_serve_again(self, store: Store) -> None:
        old = _stored(store, "key", None, at=1)
        new = _stored(store, "key", START + 100, at=2)
        _stored(store, "key", START + 50, at=1.5)

        def winner(now: float) -> object:
            found = store.read_cached_state("key", now)
            return None if found is None else found.id

        assert winner(START + 10) == new.id
        assert winner(START + 100) == old.id

    def test_many_keys_are_asked_for_at_once(self, store: Store) -> None:
        _, tasks = recorded(store, count=10)
        states = [_completed(tasks, index)[0] for index in range(10)]
        store.apply([CacheStored(f"key-{index}", None, state) for index, state in enumerate(states)])
        found = store.read_cached_states(["key-3", "key-7", "unknown", "ü'\""], START)
        assert {key: state.id for key, state in found.items()} == {"key-3": states[3].id, "key-7": states[7].id}
