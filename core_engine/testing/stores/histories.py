"""States and events: however entries fall into batches, and however often they are sent, the same is read back."""

from __future__ import annotations

from typing import Any

import pytest

from core_engine import ids
from core_engine.backend.entries import Entry, FlowRunChanged, FlowRunCreated, TaskRunChanged, TaskRunsCreated
from core_engine.backend.store import Store
from core_engine.exceptions import StoreError
from core_engine.schemas.records import Event
from core_engine.schemas.states import COMPLETED, CRASHED, FAILED, RUNNING, State, make_state
from core_engine.testing.conformance import holds
from core_engine.testing.stores.builders import START, TaskRunScript, all_said, flow_run, group, moved, recorded, said
from core_engine.testing.stores.lives import LIVES, check_history, plan_of_all, play
from core_engine.testing.stores.suite import StoreSuite


def _late(script: TaskRunScript, ordinal: int, type: Any) -> TaskRunChanged:
    state = make_state(type, script.time, script.group, script.index, ordinal)
    return TaskRunChanged(state, 1, 1, script.start_time, None, 0.0, 1, "worker-late")


class HistoriesSuite(StoreSuite):
    """States and events of runs."""

    @holds("I2", "D5")
    @pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
    def test_history_does_not_depend_on_how_entries_fall_into_batches(self, store: Store, size: int) -> None:
        run, _ = recorded(store)
        scripts, played = play(list(LIVES), plan_of_all(size), run.id)
        for batch in played:
            store.apply(batch)
        check_history(store, scripts)

    @holds("I2", "D5")
    @pytest.mark.parametrize("size", [1, 3, 1000])
    def test_a_resent_batch_changes_nothing_also_when_it_begins_earlier_or_is_sent_in_part(
        self, store: Store, size: int
    ) -> None:
        run, _ = recorded(store)
        scripts, played = play(list(LIVES), plan_of_all(size), run.id)
        sent: list[Entry] = []
        for batch in played:
            sent += batch
            for piece in (batch, batch, sent[-size:], sent[len(sent) // 2 :], sent[:2]):
                store.apply(piece)
        check_history(store, scripts)

    @holds("I2")
    def test_a_run_of_which_only_the_end_is_told_was_running_since_its_start(self, store: Store) -> None:
        _, tasks = recorded(store, count=1)
        script = TaskRunScript(tasks)
        started, ended = script.to(RUNNING), script.to(COMPLETED)
        store.apply([ended])
        store.apply([started])
        assert all_said(store.read_states(tasks.run_id(0))) == all_said(script.states)

    @holds("I1")
    def test_a_batch_that_is_refused_leaves_nothing(self, store: Store) -> None:
        run, orphan = flow_run(), group(ids.new_id(), 2)
        tasks = group(run.id)
        with pytest.raises(StoreError, match="not in the store"):
            store.apply(
                [FlowRunCreated(run), TaskRunsCreated(tasks), *TaskRunScript(tasks).done(), TaskRunsCreated(orphan)]
            )
        assert store.read_flow_runs() == []
        assert store.read_task_run(tasks.run_id(0)) is None
        assert (tasks.key, orphan.key) == (None, None)

    @holds("I2", "D5")
    def test_events_read_on_by_cursor_are_those_read_at_once_without_gap_or_repetition(self, store: Store) -> None:
        run, _ = recorded(store)
        scripts, played = play(list(LIVES), plan_of_all(7), run.id)
        followed: list[Event] = []
        for batch in played:
            store.apply(batch)
            while True:
                after = followed[-1].cursor if followed else None
                read = store.read_events(run.id, after=after, limit=4)
                if not read:
                    break
                followed += read
        assert followed == store.read_events(run.id)
        assert len(followed) == 1 + sum(len(script.states) for script in scripts)

    @holds("I2", "D5")
    def test_events_of_a_commit_are_in_the_order_of_their_times(self, store: Store) -> None:
        run, tasks = recorded(store, count=2)
        slow, quick = TaskRunScript(tasks, 0), TaskRunScript(tasks, 1)
        store.apply([slow.to(RUNNING), quick.to(RUNNING, seconds=0.7), slow.to(COMPLETED, seconds=5), quick.to(FAILED)])
        ends = [event.to_name for event in store.read_events(run.id)]
        assert ends == ["Pending", "Pending", "Pending", "Running", "Running", "Failed", "Completed"]

    @holds("I2", "D5")
    def test_a_clock_that_is_set_back_does_not_turn_a_runs_events_round(self, store: Store) -> None:
        run, tasks = recorded(store, count=1)
        script = TaskRunScript(tasks)
        store.apply([script.to(RUNNING, seconds=60), script.to(COMPLETED, seconds=-30)])
        events = [event for event in store.read_events(run.id) if event.task_run_id]
        assert [event.to_name for event in events] == ["Pending", "Running", "Completed"]
        assert events[-1].occurred < events[-2].occurred

    @holds("I2", "D5")
    def test_a_cursor_that_is_none_is_refused_with_its_text(self, store: Store) -> None:
        run, _ = recorded(store)
        with pytest.raises(ValueError, match="'yesterday' is no cursor"):
            store.read_events(run.id, after="yesterday")

    @holds("I2", "D5")
    def test_flow_runs_have_events_and_states_too(self, store: Store) -> None:
        run = flow_run()
        running = moved(run, RUNNING, at=START + 1)
        failed = moved(running, FAILED, at=START + 2, message="1/3 task runs failed")
        store.apply([FlowRunCreated(run), FlowRunChanged(running), FlowRunChanged(failed)])
        states = [run.state, running.state, failed.state]
        assert all_said(store.read_states(run.id)) == [said(state) for state in states]
        events = store.read_events(run.id)
        assert [event.id for event in events] == [state.id for state in states if state]
        assert [event.follows for event in events] == [
            None,
            run.state and run.state.id,
            running.state and running.state.id,
        ]
        assert events[-1].message == "1/3 task runs failed"
        assert all(event.task_run_id is None and event.flow_run_id == run.id for event in events)

    @holds("I2", "D5", "I9", "D1")
    def test_a_final_state_is_not_left_within_its_execution(self, store: Store) -> None:
        run, tasks = recorded(store, count=2)
        for index, apart in enumerate((True, False)):
            script = TaskRunScript(tasks, index)
            entries = [*script.done(), script.to(FAILED)]
            for batch in [[entry] for entry in entries] if apart else [entries]:
                store.apply(batch)
            assert [state.name for state in store.read_states(tasks.run_id(index))] == [
                "Pending",
                "Running",
                "Completed",
            ]
        ended = moved(run, COMPLETED, at=START + 5)
        store.apply([FlowRunChanged(ended), FlowRunChanged(moved(ended, CRASHED, at=START + 6))])
        assert [state.name for state in store.read_states(run.id)] == ["Pending", "Completed"]

    @holds("I2", "D5", "D1")
    def test_an_entry_of_an_older_execution_changes_nothing_whatever_its_number(self, store: Store) -> None:
        _, tasks = recorded(store, count=1)
        script = TaskRunScript(tasks)
        store.apply([*script.done(), script.to(RUNNING, new_execution=True)])
        for late in ([_late(script, 5, RUNNING)], [_late(script, 6, RUNNING), _late(script, 7, FAILED)]):
            store.apply(late)
        names = [state.name for state in store.read_states(tasks.run_id(0))]
        assert names == ["Pending", "Running", "Completed", "Running"]
        store.apply([_late(script, 8, FAILED), script.to(COMPLETED)])
        assert [state.name for state in store.read_states(tasks.run_id(0))] == [*names, "Completed"]

    @holds("I2", "D5")
    def test_when_a_run_started_is_kept_exactly_through_a_sender_that_knows_it_in_microseconds(
        self, store: Store
    ) -> None:
        _, tasks = recorded(store, count=1)
        script = TaskRunScript(tasks)
        script.time += 1e-7
        store.apply(script.done())
        script.start_time = round(script.start_time or 0, 6)
        store.apply([script.to(RUNNING, new_execution=True), script.to(COMPLETED)])
        assert all_said(store.read_states(tasks.run_id(0))) == all_said(script.states)

    @holds("I2", "D5")
    def test_a_state_that_is_read_knows_its_run(self, store: Store) -> None:
        run, tasks = recorded(store, count=3)
        store.apply(TaskRunScript(tasks, 2).done())
        state: State = store.read_states(tasks.run_id(2))[-1]
        assert state.state_details.task_run_id == tasks.run_id(2)
        assert state.state_details.flow_run_id == run.id
        assert store.read_states(run.id)[0].state_details.flow_run_id == run.id
