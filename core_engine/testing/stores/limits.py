"""Concurrency limits by tag and the slots of running task runs."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest

from core_engine.backend.store import Store
from core_engine.orchestration.facts import SLOTS_GRANTED, SlotAnswer
from core_engine.testing.conformance import holds
from core_engine.testing.stores.suite import StoreSuite


class LimitsSuite(StoreSuite):
    """Limits, and the slots that runs take."""

    @holds("ORCH-22")
    def test_a_tag_gives_as_many_slots_as_its_limit(self, store: Store, owner: str) -> None:
        store.set_concurrency_limit("db", 2)
        runs = [uuid4() for _ in range(3)]
        answers = [store.take_slots(run, ["db", "unlimited"], owner) for run in runs]
        assert answers == [SLOTS_GRANTED, SLOTS_GRANTED, SlotAnswer.full("db")]
        store.release_slots(runs[0])
        assert store.take_slots(runs[2], ["db"], owner) == SLOTS_GRANTED

    @holds("ORCH-22")
    def test_the_limit_zero_gives_none_and_says_so(self, store: Store, owner: str) -> None:
        store.set_concurrency_limit("db", 0)
        assert store.take_slots(uuid4(), ["db"], owner) == SlotAnswer.zero("db")

    @holds("ORCH-24")
    def test_limits_that_are_made_lowered_raised_or_deleted_count_for_the_next_attempt(
        self, store: Store, owner: str
    ) -> None:
        runs = [uuid4() for _ in range(4)]
        assert store.take_slots(runs[0], ["db"], owner) == SLOTS_GRANTED
        store.set_concurrency_limit("db", 2)
        assert [store.take_slots(run, ["db"], owner) for run in runs[1:3]] == [SLOTS_GRANTED] * 2
        store.set_concurrency_limit("db", 1)
        assert store.take_slots(runs[3], ["db"], owner) == SlotAnswer.full("db")
        store.set_concurrency_limit("db", 3)
        assert store.take_slots(runs[3], ["db"], owner) == SLOTS_GRANTED
        assert store.take_slots(uuid4(), ["db"], owner) == SlotAnswer.full("db")
        assert store.delete_concurrency_limit("db")
        assert not store.delete_concurrency_limit("db")
        assert store.take_slots(uuid4(), ["db"], owner) == SLOTS_GRANTED

    def test_limits_are_read_by_tag(self, store: Store) -> None:
        for tag, limit in (("a", 1), ("b", 2), ("ü'", 0)):
            store.set_concurrency_limit(tag, limit)
        assert store.read_concurrency_limits() == {"a": 1, "b": 2, "ü'": 0}
        assert store.read_concurrency_limits(["ü'", "a", "x"]) == {"a": 1, "ü'": 0}
        assert store.read_concurrency_limits([]) == {}

    def test_a_negative_limit_is_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="must be 0 or more, not -1"):
            store.set_concurrency_limit("db", -1)

    @holds("ORCH-22")
    def test_a_run_never_takes_two_slots_of_one_tag(self, store: Store, owner: str) -> None:
        store.set_concurrency_limit("db", 2)
        run = uuid4()
        for _ in range(3):
            assert store.take_slots(run, ["db"], owner) == SLOTS_GRANTED
        assert store.take_slots(uuid4(), ["db"], owner) == SLOTS_GRANTED
        assert store.take_slots(uuid4(), ["db"], owner) == SlotAnswer.full("db")

    @holds("ORCH-24")
    def test_when_a_later_tag_is_full_the_slots_of_earlier_ones_are_given_back(self, store: Store, owner: str) -> None:
        store.set_concurrency_limit("a", 1)
        store.set_concurrency_limit("b", 1)
        first, second = uuid4(), uuid4()
        store.take_slots(first, ["b"], owner)
        assert store.take_slots(second, ["a", "b"], owner) == SlotAnswer.full("b")
        assert store.take_slots(uuid4(), ["a"], owner) == SLOTS_GRANTED

    @holds("ORCH-22")
    def test_threads_that_take_at_once_never_take_more_than_the_limit(self, store: Store, owner: str) -> None:
        store.set_concurrency_limit("db", 5)
        answers: list[SlotAnswer] = []

        def take() -> None:
            answers.extend(store.take_slots(uuid4(), ["db"], owner) for _ in range(4))

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers.count(SLOTS_GRANTED) == 5

    @holds("ORCH-22", "D7")
    def test_slots_of_an_owner_that_is_gone_are_free(self, store: Store, owner: str) -> None:
        store.set_concurrency_limit("db", 1)
        assert store.take_slots(uuid4(), ["db"], "gone") == SLOTS_GRANTED
        assert store.take_slots(uuid4(), ["db"], owner) == SLOTS_GRANTED
        assert store.take_slots(uuid4(), ["db"], owner) == SlotAnswer.full("db")
