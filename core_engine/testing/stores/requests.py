"""The inbox through which others ask the owner of a flow run for something."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from core_engine.backend.entries import FlowRunUpdated
from core_engine.backend.store import Store
from core_engine.exceptions import ObjectNotFound
from core_engine.testing.conformance import holds
from core_engine.testing.stores.builders import finish, recorded
from core_engine.testing.stores.suite import StoreSuite


class RequestsSuite(StoreSuite):
    """Leaving, finding and finishing requests."""

    @holds("D2")
    def test_a_request_is_read_by_its_flow_run_and_by_the_owner_until_it_is_finished(self, store: Store) -> None:
        run, tasks = recorded(store, count=3, owner="me")
        other, _ = recorded(store, owner="another")
        before = time.time()
        first = store.write_request("cancel", run.id)
        second = store.write_request("cancel", tasks.run_id(2), {"reason": "ü"})
        third = store.write_request("pause", other.id, {"timeout": 3})
        assert first < second < third
        mine = store.read_requests(owner="me")
        assert [(request.id, request.kind, request.run_id, request.flow_run_id) for request in mine] == [
            (first, "cancel", run.id, run.id),
            (second, "cancel", tasks.run_id(2), run.id),
        ]
        assert (mine[0].payload, mine[1].payload) == ({}, {"reason": "ü"})
        assert before <= mine[0].created <= time.time()
        assert store.read_requests([run.id]) == mine
        assert [request.id for request in store.read_requests([other.id, uuid4()])] == [third]
        assert [request.id for request in store.read_requests(after=first)] == [second, third]
        store.finish_request(first)
        store.finish_request(first)
        assert [request.id for request in store.read_requests(owner="me")] == [second]
        assert not store.is_request_open(first)
        assert store.is_request_open(second)

    @holds("D2")
    def test_an_answered_request_is_out_of_the_inbox_and_its_answer_is_there_until_it_is_finished(
        self, store: Store
    ) -> None:
        run, _ = recorded(store, owner="me")
        first, second = store.write_request("why", run.id), store.write_request("why", run.id)
        assert store.read_answer(first) is None
        store.answer_request(first, {"text": "ü", "ahead": 3})
        assert store.read_answer(first) == {"text": "ü", "ahead": 3}
        assert not store.is_request_open(first)
        assert [request.id for request in store.read_requests(owner="me")] == [second]
        assert [request.id for request in store.read_requests([run.id])] == [second]
        store.finish_request(first)
        assert store.read_answer(first) is None
        store.answer_request(first, {"text": "too late"})
        assert store.read_answer(first) is None

    @holds("D2")
    def test_the_number_of_a_finished_request_is_never_given_again(self, store: Store) -> None:
        run, _ = recorded(store)
        numbers = []
        for _ in range(5):
            numbers.append(store.write_request("cancel", run.id))
            store.finish_request(numbers[-1])
        assert numbers == sorted(set(numbers))

    @holds("D2")
    def test_a_request_about_an_unknown_run_is_refused(self, store: Store) -> None:
        _, tasks = recorded(store, count=3)
        for id in (uuid4(), tasks.run_id(3)):
            with pytest.raises(ObjectNotFound, match="'cancel'"):
                store.write_request("cancel", id)

    @holds("D2")
    def test_requests_go_to_whoever_owns_the_flow_run_now(self, store: Store) -> None:
        run, _ = recorded(store, owner="first")
        store.write_request("cancel", run.id)
        store.apply([FlowRunUpdated(run.id, {"owner": "second"})])
        assert store.read_requests(owner="first") == []
        assert len(store.read_requests(owner="second")) == 1

    @holds("D2")
    def test_requests_that_nobody_can_fulfil_any_more_go_when_the_store_is_put_in_order(self, store: Store) -> None:
        ended, _ = recorded(store)
        open_one, _ = recorded(store)
        dead, _ = recorded(store, owner="dead")
        for run in (ended, open_one, dead):
            store.write_request("cancel", run.id)
        finish(store, ended)
        store.reconcile(time.time(), is_free=lambda owner: owner == "dead")
        assert [request.run_id for request in store.read_requests()] == [open_one.id]

    @holds("D2")
    def test_the_data_version_changes_with_what_is_recorded_and_not_with_what_is_read(self, store: Store) -> None:
        versions = [store.data_version()]
        run, _ = recorded(store)
        versions.append(store.data_version())
        store.read_flow_runs()
        assert store.data_version() == versions[-1]
        store.write_request("cancel", run.id)
        versions.append(store.data_version())
        assert len(set(versions)) == 3
