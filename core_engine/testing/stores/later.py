"""Runs created for later: deployments, and claims."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from core_engine.backend.entries import FlowRunCreated
from core_engine.backend.store import Store
from core_engine.schemas.records import Deployment, FlowRun
from core_engine.schemas.states import SCHEDULED, State
from core_engine.testing.stores.suite import StoreSuite


def _deployment(name: str = "nightly", **fields: Any) -> Deployment:
    created = datetime(2026, 3, 1, tzinfo=UTC)
    return Deployment(id=uuid4(), name=name, flow_name="f", entrypoint="/f.py:f", created=created, **fields)


class LaterSuite(StoreSuite):
    """What a store must do for runs that are created for later."""

    def test_a_deployment_is_read_back_by_id_and_by_name(self, store: Store) -> None:
        written = _deployment(parameters={"x": [1, None, "text"]})
        assert store.write_deployment(written) == written.id
        assert store.read_deployment(written.id) == written
        assert store.read_deployments("nightly") == [written]
        assert store.read_deployment(uuid4()) is None
        assert store.read_deployments("unknown") == []

    def test_deployments_are_listed_by_name(self, store: Store) -> None:
        for name in ("b", "a", "c"):
            store.write_deployment(_deployment(name))
        assert [found.name for found in store.read_deployments()] == ["a", "b", "c"]

    def test_a_deployment_takes_the_place_and_the_id_of_one_of_its_name(self, store: Store) -> None:
        first, second = _deployment(), _deployment(parameters={"x": 2})
        store.write_deployment(first)
        assert store.write_deployment(second) == first.id
        assert store.read_deployments() == [replace(second, id=first.id)]

    def test_a_flow_run_is_claimed_once(self, store: Store) -> None:
        state = State(SCHEDULED)
        run = FlowRun(id=uuid4(), name="later", flow_name="f", state=state, created=state.timestamp)
        store.apply([FlowRunCreated(run)])
        assert store.claim_flow_run(run.id, "one", None)
        assert not store.claim_flow_run(run.id, "two", None)
        assert not store.claim_flow_run(uuid4(), "one", None)
        found = store.read_flow_run(run.id)
        assert found is not None
        assert found.owner == "one"
        assert store.claim_flow_run(run.id, "two", "one")
