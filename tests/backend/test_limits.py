"""Concurrency limits by tag and the slots of running task runs."""

from __future__ import annotations

import threading
from uuid import UUID, uuid4

import pytest

from core_engine.backend import leases
from core_engine.backend.sqlite import SqliteStore
from core_engine.orchestration.facts import SLOTS_GRANTED, SlotAnswer
from tests.backend.processes import python, says


@pytest.fixture
def owner(store: SqliteStore) -> str:
    return leases.own_lease(store.path.parent).name


def held(store: SqliteStore) -> list[tuple[str, UUID]]:
    with store._pool.reading() as db:
        return [(tag, UUID(bytes=id)) for tag, id in db.execute("SELECT tag, task_run_id FROM slot ORDER BY tag")]


@pytest.mark.behaviour("ORCH-22")
def test_a_tag_gives_as_many_slots_as_its_limit(store: SqliteStore, owner: str) -> None:
    store.set_concurrency_limit("db", 2)
    runs = [uuid4() for _ in range(3)]
    answers = [store.take_slots(run, ["db", "unlimited"], owner) for run in runs]
    assert answers == [SLOTS_GRANTED, SLOTS_GRANTED, SlotAnswer.full("db")]
    store.release_slots(runs[0])
    assert store.take_slots(runs[2], ["db"], owner) == SLOTS_GRANTED


@pytest.mark.behaviour("ORCH-22")
def test_the_limit_zero_gives_none_and_says_so(store: SqliteStore, owner: str) -> None:
    store.set_concurrency_limit("db", 0)
    assert store.take_slots(uuid4(), ["db"], owner) == SlotAnswer.zero("db")


@pytest.mark.behaviour("ORCH-22")
def test_a_run_never_takes_two_slots_of_one_tag(store: SqliteStore, owner: str) -> None:
    store.set_concurrency_limit("db", 1)
    run = uuid4()
    for _ in range(3):
        assert store.take_slots(run, ["db"], owner) == SLOTS_GRANTED
    assert held(store) == [("db", run)]


@pytest.mark.behaviour("ORCH-24")
def test_when_a_later_tag_is_full_the_slots_of_earlier_ones_are_given_back(store: SqliteStore, owner: str) -> None:
    store.set_concurrency_limit("a", 5)
    store.set_concurrency_limit("b", 1)
    first, second = uuid4(), uuid4()
    store.take_slots(first, ["b"], owner)
    assert store.take_slots(second, ["a", "b"], owner) == SlotAnswer.full("b")
    assert held(store) == [("b", first)]


@pytest.mark.behaviour("ORCH-24")
def test_limits_that_are_made_lowered_raised_or_deleted_count_for_the_next_attempt(
    store: SqliteStore, owner: str
) -> None:
    runs = [uuid4() for _ in range(4)]
    assert store.take_slots(runs[0], ["db"], owner) == SLOTS_GRANTED
    store.set_concurrency_limit("db", 2)
    assert [store.take_slots(run, ["db"], owner) for run in runs[1:3]] == [SLOTS_GRANTED] * 2
    store.set_concurrency_limit("db", 1)
    assert len(held(store)) == 2
    assert store.take_slots(runs[3], ["db"], owner) == SlotAnswer.full("db")
    store.set_concurrency_limit("db", 3)
    assert store.take_slots(runs[3], ["db"], owner) == SLOTS_GRANTED
    assert store.delete_concurrency_limit("db")
    assert not store.delete_concurrency_limit("db")
    assert store.take_slots(uuid4(), ["db"], owner) == SLOTS_GRANTED


def test_limits_are_read_by_tag(store: SqliteStore) -> None:
    for tag, limit in (("a", 1), ("b", 2), ("ü'", 0)):
        store.set_concurrency_limit(tag, limit)
    assert store.read_concurrency_limits() == {"a": 1, "b": 2, "ü'": 0}
    assert store.read_concurrency_limits(["ü'", "a", "x"]) == {"a": 1, "ü'": 0}
    assert store.read_concurrency_limits([]) == {}


def test_a_negative_limit_is_refused(store: SqliteStore) -> None:
    with pytest.raises(ValueError, match="must be 0 or more, not -1"):
        store.set_concurrency_limit("db", -1)


@pytest.mark.behaviour("ORCH-22")
def test_threads_and_stores_that_take_at_once_never_take_more_than_the_limit(store: SqliteStore, owner: str) -> None:
    store.set_concurrency_limit("db", 5)
    second = SqliteStore(store.path, synchronous="off")
    answers: list[SlotAnswer] = []

    def take(mine: SqliteStore) -> None:
        answers.extend(mine.take_slots(uuid4(), ["db"], owner) for _ in range(4))

    threads = [threading.Thread(target=take, args=(mine,)) for mine in (store, second) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second.close()
    assert answers.count(SLOTS_GRANTED) == 5
    assert len(held(store)) == 5


_HOLDER = """
import sys, uuid
from pathlib import Path
from core_engine.backend import leases
from core_engine.backend.sqlite import SqliteStore
path = Path(sys.argv[1])
store = SqliteStore(path)
print(store.take_slots(uuid.uuid4(), ["db"], leases.own_lease(path.parent).name).outcome.name, flush=True)
sys.stdin.read()
"""


@pytest.mark.behaviour("ORCH-22", "D7")
def test_slots_of_a_killed_process_are_free_and_those_of_a_living_one_are_not(store: SqliteStore, owner: str) -> None:
    store.set_concurrency_limit("db", 1)
    with python(_HOLDER, store.path) as process:
        assert says(process) == "GRANTED"
        assert store.take_slots(uuid4(), ["db"], owner) == SlotAnswer.full("db")
        process.kill()
        process.wait(30)
        assert store.take_slots(uuid4(), ["db"], owner) == SLOTS_GRANTED
