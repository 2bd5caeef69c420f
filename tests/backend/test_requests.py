"""How other processes are noticed."""

from __future__ import annotations

import pytest

from core_engine.backend.entries import FlowRunCreated
from core_engine.backend.sqlite import SqliteStore
from tests.backend.builders import flow_run, recorded

pytestmark = pytest.mark.behaviour("D2")


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
