"""Deleting flow runs with what belongs to them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from core_engine import ids
from core_engine.backend.entries import (
    CacheStored,
    FlowRunChanged,
    FlowRunCreated,
    InputsDigested,
    TaskRunsCreated,
    TaskRunUpdated,
)
from core_engine.backend.store import DeletionReport, Store
from core_engine.results import LiteralResult, PersistedResult, delete_result, record_from_json
from core_engine.schemas.records import FlowRun
from core_engine.schemas.states import COMPLETED, FAILED, RUNNING, SCHEDULED
from core_engine.testing.conformance import holds
from core_engine.testing.stores.builders import START, TaskRunScript, finish, flow_run, group, log_line, moved, recorded
from core_engine.testing.stores.suite import StoreSuite


def _record(key: str) -> PersistedResult[Any]:
    return PersistedResult(serializer_type="pickle", storage_path="/results", storage_key=key, value_type="int")


def full_run(store: Store, *, at: float = START + 10, key: str = "file", cache_key: str | None = None) -> FlowRun:
    """An ended flow run with all that can belong to one."""
    run, tasks = recorded(store, count=5)
    script = TaskRunScript(tasks, 1)
    entries = [script.to(RUNNING), script.to(SCHEDULED, "AwaitingRetry"), script.to(RUNNING)]
    entries.append(script.to(COMPLETED, data=_record(key)))
    store.apply(entries)
    store.apply([InputsDigested(tasks, 0, 1, bytes(range(16)))])
    store.apply([TaskRunUpdated(tasks, 0, {"name": "first"}), log_line(run.id, "hello", tasks.run_id(1))])
    if cache_key is not None:
        store.apply([CacheStored(cache_key, None, entries[-1].state)])
    return finish(store, run, at=at)


def subflow(store: Store, parent: FlowRun) -> FlowRun:
    """A Pending flow run that `parent` called."""
    stand_in = group(parent.id, kind="subflow", task_key="census.rank", task_name="rank")
    child = flow_run(parent_task_run_id=stand_in.run_id(0))
    store.apply([TaskRunsCreated(stand_in), FlowRunCreated(child)])
    return child


def _keys_of(report: DeletionReport) -> list[str]:
    return [result["storage_key"] for result in report.results]


class RetentionSuite(StoreSuite):
    """Old flow runs go with all that is theirs, and with nothing else."""

    @holds("D31")
    def test_everything_that_belongs_to_an_old_flow_run_goes_and_nothing_else(self, store: Store) -> None:
        young = full_run(store, at=START + 100, key="young", cache_key="y")
        old = full_run(store, key="old", cache_key="k")
        (tasks,) = store.read_task_groups(old.id)
        report = store.delete_flow_runs(older_than=START + 50)
        assert report.flow_runs == [old.id]
        assert (report.task_runs, report.log_lines, report.cache_entries) == (5, 1, 1)
        assert (report.results, report.results_later) == ([], 1)
        for id in (old.id, tasks.run_id(0), tasks.run_id(1)):
            assert (store.read_flow_run(id), store.read_task_run(id), store.read_states(id)) == (None, None, [])
            assert (store.read_events(id), store.read_logs(id), store.read_task_groups(id)) == ([], [], [])
        assert store.read_input_digests(old.id) == {}
        assert len(store.read_input_digests(young.id)) == 1
        assert store.read_cached_state("k", START) is None
        assert store.read_cached_state("y", START) is not None
        assert [run.id for run in store.read_flow_runs()] == [young.id]
        assert (len(store.read_task_runs(young.id)), len(store.read_logs())) == (5, 1)

    @holds("D31")
    def test_a_dry_run_says_the_same_and_changes_nothing(self, store: Store) -> None:
        old = full_run(store, key="old", cache_key="k")
        planned = store.delete_flow_runs(older_than=START + 50, dry_run=True)
        assert len(store.read_task_runs(old.id)) == 5
        assert store.read_cached_state("k", START) is not None
        done = store.delete_flow_runs(older_than=START + 50)
        assert planned.dry_run
        assert not done.dry_run
        for name in ("flow_runs", "task_runs", "log_lines", "cache_entries", "results", "results_later"):
            assert getattr(planned, name) == getattr(done, name)

    @holds("D31")
    def test_expired_cache_entries_and_stray_lines_go_when_they_are_old(self, store: Store) -> None:
        run, tasks = recorded(store, count=1)
        script = TaskRunScript(tasks)
        done = [script.to(RUNNING), script.to(COMPLETED, data=LiteralResult(None))]
        stray = log_line(uuid4(), "stray")._replace(timestamp=START)
        store.apply([*done, CacheStored("k", START + 20, done[1].state), stray])
        store.delete_flow_runs(START - 15)
        assert len(store.read_logs()) == 1
        store.delete_flow_runs(START + 15)
        assert store.read_logs() == []
        assert store.read_cached_state("k", START) is not None
        store.delete_flow_runs(START + 30)
        assert store.read_cached_state("k", START) is None
        assert store.read_flow_run(run.id) is not None

    @holds("D31")
    def test_runs_are_chosen_by_when_they_ended_and_how(self, store: Store) -> None:
        completed = full_run(store)
        failed, _ = recorded(store)
        finish(store, failed, FAILED)
        young = full_run(store, at=START + 100)
        running, _ = recorded(store)
        store.apply([FlowRunChanged(moved(running, RUNNING, at=START))])
        assert store.delete_flow_runs(START + 50, state_types=[FAILED]).flow_runs == [failed.id]
        assert store.delete_flow_runs(START + 50, state_types=[RUNNING]).flow_runs == []
        assert store.delete_flow_runs(START + 50).flow_runs == [completed.id]
        assert {run.id for run in store.read_flow_runs()} == {young.id, running.id}

    @holds("D31")
    def test_subflows_go_with_the_flow_run_that_called_them_and_never_without(self, store: Store) -> None:
        parent, _ = recorded(store)
        child = subflow(store, parent)
        grandchild = subflow(store, child)
        finish(store, grandchild, at=START + 5)
        finish(store, child, at=START + 90)
        assert store.delete_flow_runs(START + 50).flow_runs == []
        finish(store, parent, at=START + 20)
        assert store.delete_flow_runs(START + 50).flow_runs == [parent.id, child.id, grandchild.id]
        assert store.read_flow_runs() == []

    @holds("D31")
    def test_a_flow_run_stays_while_a_subflow_of_it_has_not_ended(self, store: Store) -> None:
        parent, _ = recorded(store)
        child = subflow(store, parent)
        finish(store, parent, at=START)
        assert store.delete_flow_runs(START + 50).flow_runs == []
        finish(store, child)
        assert len(store.delete_flow_runs(START + 50).flow_runs) == 2

    @holds("D31")
    def test_a_result_and_its_cache_entry_go_with_the_last_run_that_refers_to_it(self, store: Store) -> None:
        full_run(store, key="shared", cache_key="k")
        heir = full_run(store, at=START + 60, key="shared")
        assert store.delete_flow_runs(START + 50, dry_run=True).results == []
        assert store.delete_flow_runs(START + 50).results == []
        cached = store.read_cached_state("k", START)
        assert cached is not None
        assert cached.data == _record("shared")
        report = store.delete_flow_runs(START + 70, now=START + 1000)
        assert report.flow_runs == [heir.id]
        assert (report.results, report.results_later) == ([], 1)
        assert store.read_cached_state("k", START) is None
        assert _keys_of(store.delete_flow_runs(START + 70, now=START + 1100)) == ["shared"]

    @holds("D31")
    def test_the_file_of_a_cache_entry_is_not_removed_while_a_run_may_just_have_found_it(self, store: Store) -> None:
        full_run(store, key="found", cache_key="k")
        full_run(store, key="not found", cache_key="l")
        found = store.read_cached_state("k", START)
        assert found is not None
        first = store.delete_flow_runs(START + 50, now=START + 1000)
        assert (first.results, first.results_later) == ([], 2)
        # The run that found it is recorded only now.
        run, tasks = recorded(store, count=1)
        store.apply(TaskRunScript(tasks).done(found.data))
        assert _keys_of(store.delete_flow_runs(START, now=START + 1030)) == []
        second = store.delete_flow_runs(START, now=START + 1100)
        assert (_keys_of(second), second.results_later) == (["not found"], 0)
        store.forget_results(second.results)
        finish(store, run)
        assert _keys_of(store.delete_flow_runs(START + 50, now=START + 1200)) == ["found"]

    @holds("D31")
    def test_two_runs_that_go_together_are_not_heirs_of_each_other(self, store: Store) -> None:
        for _ in range(2):
            full_run(store, key="shared", cache_key="k")
        report = store.delete_flow_runs(START + 50, now=START + 1000)
        assert len(report.flow_runs) == 2
        assert (report.results, report.results_later) == ([], 1)
        assert _keys_of(store.delete_flow_runs(START + 50, now=START + 1061)) == ["shared"]
        assert store.read_cached_state("k", START) is None

    @holds("D31")
    def test_any_number_of_flow_runs_goes(self, store: Store) -> None:
        kept = full_run(store, at=START + 100)
        old = [recorded(store)[0] for _ in range(130)]
        for run in old:
            finish(store, run)
        assert sorted(store.delete_flow_runs(START + 50).flow_runs) == sorted(run.id for run in old)
        assert [run.id for run in store.read_flow_runs()] == [kept.id]

    @holds("D31")
    def test_when_everything_was_deleted_last_is_remembered(self, store: Store) -> None:
        assert store.read_cleaned() is None
        store.note_cleaned(START)
        assert store.read_cleaned() == START

    @holds("D31")
    def test_results_of_flow_runs_themselves_are_references_too(self, store: Store) -> None:
        run, _ = recorded(store)
        store.apply([FlowRunChanged(moved(run, COMPLETED, at=START, data=_record("of the flow")))])
        assert [result["storage_key"] for result in store.delete_flow_runs(START + 50).results] == ["of the flow"]

    @holds("D31")
    def test_files_are_listed_until_they_are_said_to_be_gone_unless_they_were_written_again(self, store: Store) -> None:
        full_run(store, key="one")
        full_run(store, key="two")
        first = store.delete_flow_runs(START + 50).results
        assert len(first) == 2
        store.forget_results(first[:1])
        assert store.delete_flow_runs(START + 50).results == first[1:]
        full_run(store, at=START + 100, key="two")
        assert store.delete_flow_runs(START + 50).results == []

    @holds("D31")
    def test_the_reports_results_are_what_deleting_a_file_takes(self, store: Store, tmp_path: Any) -> None:
        run, tasks = recorded(store, count=1)
        kept: PersistedResult[Any] = PersistedResult(
            serializer_type="json", storage_path=str(tmp_path), storage_key="file", value_type="int"
        )
        (tmp_path / "file").write_text("{}")
        store.apply(TaskRunScript(tasks).done(kept))
        finish(store, run)
        (result,) = store.delete_flow_runs(START + 50).results
        assert isinstance(record_from_json(result), PersistedResult)
        assert delete_result(result)
        assert not (tmp_path / "file").exists()

    @holds("D31")
    def test_a_deleted_groups_keys_are_never_given_to_another(self, store: Store) -> None:
        first, tasks = recorded(store, count=3)
        finish(store, first)
        store.delete_flow_runs(START + 50)
        second, others = recorded(store, count=3)
        store.apply(TaskRunScript(tasks).done())
        assert [child.state_name for child in store.read_task_runs(second.id)] == ["Pending"] * 3
        assert isinstance(others.key, int)

    @holds("D31")
    def test_the_report_names_runs_by_the_ids_that_users_know(self, store: Store) -> None:
        id = ids.new_id()
        run = flow_run(id=id, created=datetime.fromtimestamp(START, UTC))
        store.apply([FlowRunCreated(run)])
        finish(store, run)
        assert store.delete_flow_runs(START + 50).flow_runs == [UUID(str(id))]
