"""The inbox through which others ask the owner of a flow run for something."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from core_engine.backend.entries import FlowRunCreated, FlowRunUpdated
from core_engine.backend.sqlite import SqliteStore
from core_engine.exceptions import ObjectNotFound
from tests.backend.builders import finish, flow_run, recorded

pytestmark = pytest.mark.behaviour("D2")


def test_a_request_is_read_by_its_flow_run_and_by_the_owner_until_it_is_finished(store: SqliteStore) -> None:
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


def test_the_number_of_a_finished_request_is_never_given_again(store: SqliteStore) -> None:
    run, _ = recorded(store)
    numbers = []
    for _ in range(5):
        numbers.append(store.write_request("cancel", run.id))
        store.finish_request(numbers[-1])
    assert numbers == sorted(set(numbers))


def test_a_request_about_an_unknown_run_is_refused(store: SqliteStore) -> None:
    _, tasks = recorded(store, count=3)
    for id in (uuid4(), tasks.run_id(3)):
        with pytest.raises(ObjectNotFound, match="'cancel'"):
            store.write_request("cancel", id)


def test_requests_go_to_whoever_owns_the_flow_run_now(store: SqliteStore) -> None:
    run, _ = recorded(store, owner="first")
    store.write_request("cancel", run.id)
    store.apply([FlowRunUpdated(run.id, {"owner": "second"})])
    assert store.read_requests(owner="first") == []
    assert len(store.read_requests(owner="second")) == 1


def test_requests_that_nobody_can_fulfil_any_more_go_when_the_store_is_put_in_order(store: SqliteStore) -> None:
    ended, _ = recorded(store)
    open_one, _ = recorded(store)
    dead, _ = recorded(store, owner="dead")
    for run in (ended, open_one, dead):
        store.write_request("cancel", run.id)
    finish(store, ended)
    store.reconcile(time.time(), is_free=lambda owner: owner == "dead")
    assert [request.run_id for request in store.read_requests()] == [open_one.id]


def test_the_data_version_changes_with_a_commit_and_only_then(store: SqliteStore) -> None:
    other = SqliteStore(store.path, synchronous="off")
    versions = [store.data_version(), store.data_version()]
    assert versions[0] == versions[1]
    other.apply([FlowRunCreated(flow_run())])
    assert store.data_version() != versions[1]
    changed = store.data_version()
    store.read_flow_runs()
    assert store.data_version() == changed
    run, _ = recorded(other)
    other.write_request("cancel", run.id)
    assert store.data_version() != changed
    other.close()
