"""What becomes of runs whose process is gone."""

from __future__ import annotations

from typing import Any

import pytest

from core_engine.backend.entries import FlowRunChanged, FlowRunUpdated
from core_engine.backend.store import Store
from core_engine.schemas.states import COMPLETED, CRASHED, PENDING, RUNNING, SCHEDULED
from core_engine.testing.conformance import holds
from core_engine.testing.stores.builders import START, TaskRunScript, finish, moved, recorded
from core_engine.testing.stores.suite import StoreSuite

_NOW = START + 1000


def _is_dead(owner: str) -> bool:
    return owner == "dead"


class RecoverySuite(StoreSuite):
    """Flow runs of dead owners crash, and nothing else does."""

    @pytest.fixture
    def left(self, store: Store) -> Any:
        """A running flow run of a dead owner: a child completed, one running, one awaiting retry, one not started."""
        run, tasks = recorded(store, count=4, owner="dead")
        store.apply([FlowRunChanged(moved(run, RUNNING, at=START + 1, owner="dead", run_count=1))])
        scripts = [TaskRunScript(tasks, index) for index in range(3)]
        store.apply([*scripts[0].done(), scripts[1].to(RUNNING)])
        store.apply([scripts[2].to(RUNNING), scripts[2].to(SCHEDULED, "AwaitingRetry", message="again")])
        return run, tasks, scripts

    @holds("D7")
    def test_unfinished_runs_of_a_dead_owner_crash_with_the_reason(self, store: Store, left: Any) -> None:
        run, _, _ = left
        assert store.reconcile(_NOW, is_free=_is_dead) == [run.id]
        read = store.read_flow_run(run.id)
        assert read is not None
        assert read.state is not None
        assert (read.state_type, read.state.timestamp.timestamp(), read.owner) == (CRASHED, _NOW, None)
        assert "ended without reporting" in (read.state.message or "")
        assert read.end_time is not None
        assert read.end_time.timestamp() == _NOW
        states = [child.state_name for child in store.read_task_runs(run.id)]
        assert states == ["Completed", "Crashed", "Crashed", "Pending"]

    @holds("D7")
    def test_the_history_of_crashed_runs_has_every_state(self, store: Store, left: Any) -> None:
        run, tasks, _ = left
        before = len(store.read_events(run.id))
        store.reconcile(_NOW, is_free=_is_dead)
        assert [state.name for state in store.read_states(run.id)] == ["Pending", "Running", "Crashed"]
        names = [[state.name for state in store.read_states(tasks.run_id(index))] for index in (1, 2)]
        assert names == [["Pending", "Running", "Crashed"], ["Pending", "Running", "AwaitingRetry", "Crashed"]]
        events = store.read_events(run.id)
        assert [event.to_name for event in events[before:]] == ["Crashed"] * 3
        ids = {event.id for event in events}
        assert all(event.follows is None or event.follows in ids for event in events)

    @holds("D7")
    def test_a_second_look_finds_nothing_to_do(self, store: Store, left: Any) -> None:
        run, _, _ = left
        store.reconcile(_NOW, is_free=_is_dead)
        history = store.read_states(run.id)
        assert store.reconcile(_NOW + 1, is_free=_is_dead) == []
        assert len(store.read_states(run.id)) == len(history)

    @holds("D7", "I9")
    def test_what_the_dead_process_still_had_to_say_changes_nothing_when_it_arrives_late(
        self, store: Store, left: Any
    ) -> None:
        _, tasks, scripts = left
        store.reconcile(_NOW, is_free=_is_dead)
        store.apply([scripts[1].to(COMPLETED)])
        child = store.read_task_run(tasks.run_id(1))
        assert child is not None
        assert child.state_type is CRASHED

    @holds("D7")
    def test_runs_of_living_owners_of_nobody_and_ended_ones_are_left_alone(self, store: Store) -> None:
        alive, _ = recorded(store, owner="alive")
        nobodys, _ = recorded(store)
        ended, _ = recorded(store, owner="dead")
        finish(store, ended)
        store.apply([FlowRunUpdated(ended.id, {"owner": "dead"})])
        assert store.reconcile(_NOW, is_free=_is_dead) == []
        types = [run.state_type for run in store.read_flow_runs(order="asc")]
        assert types == [PENDING, PENDING, COMPLETED]
        assert nobodys.owner is None
        assert alive.owner == "alive"
