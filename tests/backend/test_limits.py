"""Concurrency limits by tag: several processes and stores that take slots from one database."""

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
