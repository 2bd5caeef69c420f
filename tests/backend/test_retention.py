"""Deleting flow runs with what belongs to them, and the space they took."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from core_engine import ids
from core_engine.backend import retention
from core_engine.backend.entries import CacheStored, FlowRunChanged, FlowRunCreated, TaskRunsCreated, TaskRunUpdated
from core_engine.backend.sqlite import SqliteStore
from core_engine.results import LiteralResult, PersistedResult
from core_engine.schemas.records import FlowRun
from core_engine.schemas.states import COMPLETED, FAILED, RUNNING, SCHEDULED
from tests.backend.builders import START, TaskRunScript, finish, flow_run, group, log_line, moved, recorded

pytestmark = pytest.mark.behaviour("D31")


def record(key: str) -> PersistedResult[Any]:
    return PersistedResult(serializer_type="pickle", storage_path="/results", storage_key=key, value_type="int")


def full_run(store: SqliteStore, *, at: float = START + 10, key: str = "file", cache_key: str | None = None) -> FlowRun:
    """An ended flow run with all that can belong to one."""
    run, tasks = recorded(store, count=5)
    script = TaskRunScript(tasks, 1)
    entries = [script.to(RUNNING), script.to(SCHEDULED, "AwaitingRetry"), script.to(RUNNING)]
    entries.append(script.to(COMPLETED, data=record(key)))
    store.apply(entries)
    store.apply([TaskRunUpdated(tasks, 0, {"name": "first"}), log_line(run.id, "hello", tasks.run_id(1))])
    if cache_key is not None:
        store.apply([CacheStored(cache_key, None, entries[-1].state)])
    return finish(store, run, at=at)


def rows(store: SqliteStore) -> dict[str, int]:
    with store._pool.reading() as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        counted = {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}
    return {name: count for name, count in counted.items() if count and name not in ("counter", "alembic_version")}


def test_everything_that_belongs_to_an_old_flow_run_goes_and_nothing_else(store: SqliteStore) -> None:
    full_run(store, at=START + 100, key="young")
    before = rows(store)
    old = full_run(store, key="old", cache_key="k")
    report = store.delete_flow_runs(older_than=START + 50)
    assert report.flow_runs == [old.id]
    assert (report.task_runs, report.log_lines, report.cache_entries) == (5, 1, 1)
    assert [result["storage_key"] for result in report.results] == ["old"]
    store.forget_results(report.results)
    assert rows(store) == before
    assert store.read_flow_run(old.id) is None
    assert store.read_cached_state("k", START) is None


def test_a_dry_run_says_the_same_and_changes_nothing(store: SqliteStore) -> None:
    full_run(store, key="old", cache_key="k")
    before = rows(store)
    said = store.delete_flow_runs(older_than=START + 50, dry_run=True)
    assert rows(store) == before
    done = store.delete_flow_runs(older_than=START + 50)
    assert said.dry_run
    assert not done.dry_run
    for name in ("flow_runs", "task_runs", "log_lines", "cache_entries", "results"):
        assert getattr(said, name) == getattr(done, name)


def test_runs_are_chosen_by_when_they_ended_and_how(store: SqliteStore) -> None:
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


def subflow(store: SqliteStore, parent: FlowRun) -> FlowRun:
    stand_in = group(parent.id, kind="subflow", task_key="census.rank", task_name="rank")
    child = flow_run(parent_task_run_id=stand_in.run_id(0))
    store.apply([TaskRunsCreated(stand_in), FlowRunCreated(child)])
    return child


def test_subflows_go_with_the_flow_run_that_called_them_and_never_without(store: SqliteStore) -> None:
    parent, _ = recorded(store)
    child = subflow(store, parent)
    grandchild = subflow(store, child)
    finish(store, grandchild, at=START + 5)
    finish(store, child, at=START + 90)
    assert store.delete_flow_runs(START + 50).flow_runs == []
    finish(store, parent, at=START + 20)
    assert store.delete_flow_runs(START + 50).flow_runs == [parent.id, child.id, grandchild.id]
    assert rows(store) == {}


def test_a_flow_run_stays_while_a_subflow_of_it_has_not_ended(store: SqliteStore) -> None:
    parent, _ = recorded(store)
    child = subflow(store, parent)
    finish(store, parent, at=START)
    assert store.delete_flow_runs(START + 50).flow_runs == []
    finish(store, child)
    assert len(store.delete_flow_runs(START + 50).flow_runs) == 2


def test_a_result_and_its_cache_entry_go_with_the_last_run_that_refers_to_it(store: SqliteStore) -> None:
    full_run(store, key="shared", cache_key="k")
    heir = full_run(store, at=START + 60, key="shared")
    assert store.delete_flow_runs(START + 50, dry_run=True).results == []
    assert store.delete_flow_runs(START + 50).results == []
    cached = store.read_cached_state("k", START)
    assert cached is not None
    assert cached.data == record("shared")
    report = store.delete_flow_runs(START + 70)
    assert report.flow_runs == [heir.id]
    assert [result["storage_key"] for result in report.results] == ["shared"]
    assert store.read_cached_state("k", START) is None


def test_two_runs_that_go_together_are_not_heirs_of_each_other(store: SqliteStore) -> None:
    for _ in range(2):
        full_run(store, key="shared", cache_key="k")
    report = store.delete_flow_runs(START + 50)
    assert len(report.flow_runs) == 2
    assert [result["storage_key"] for result in report.results] == ["shared"]
    assert store.read_cached_state("k", START) is None


def test_results_of_flow_runs_themselves_are_references_too(store: SqliteStore) -> None:
    run, _ = recorded(store)
    store.apply([FlowRunChanged(moved(run, COMPLETED, at=START, data=record("of the flow")))])
    assert [result["storage_key"] for result in store.delete_flow_runs(START + 50).results] == ["of the flow"]


def test_files_are_listed_until_they_are_said_to_be_gone_unless_they_were_written_again(store: SqliteStore) -> None:
    full_run(store, key="one")
    full_run(store, key="two")
    first = store.delete_flow_runs(START + 50).results
    assert len(first) == 2
    store.forget_results(first[:1])
    assert store.delete_flow_runs(START + 50).results == first[1:]
    full_run(store, at=START + 100, key="two")
    assert store.delete_flow_runs(START + 50).results == []


def test_the_reports_results_are_what_deleting_a_file_takes(store: SqliteStore, tmp_path: Any) -> None:
    from core_engine.results import delete_result, record_from_json

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


def test_expired_cache_entries_and_stray_lines_go_when_they_are_old(store: SqliteStore) -> None:
    run, tasks = recorded(store, count=1)
    script = TaskRunScript(tasks)
    done = [script.to(RUNNING), script.to(COMPLETED, data=LiteralResult(None))]
    stray = log_line(uuid4(), "stray")._replace(timestamp=START)
    store.apply([*done, CacheStored("k", START + 20, done[1].state), stray])
    store.delete_flow_runs(START + 15)
    assert "cache_entry" in rows(store)
    store.delete_flow_runs(START + 30)
    assert "cache_entry" not in rows(store)
    assert store.read_logs() == []
    assert store.read_flow_run(run.id) is not None


def test_space_is_given_back_while_another_process_keeps_writing(store: SqliteStore) -> None:
    run, tasks = recorded(store, count=20_000)
    store.apply([entry for index in range(20_000) for entry in TaskRunScript(tasks, index).done()])
    store.apply([log_line(run.id, "x" * 200) for _ in range(5_000)])
    finish(store, run)
    other = SqliteStore(store.path, synchronous="off")
    kept, many = recorded(other, count=5_000)
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        while not stop.is_set() and len(written) < 5_000:
            other.apply(TaskRunScript(many, len(written)).done())
            written.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    report = store.delete_flow_runs(START + 50)
    stop.set()
    writer.join()
    other.close()
    assert report.task_runs == 20_000
    assert report.bytes_freed > 2_000_000
    with store._pool.reading() as db:
        assert db.execute("PRAGMA freelist_count").fetchone()[0] < 100
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(store.read_task_runs(kept.id, state_types=[COMPLETED])) == len(written)
    store.close()
    assert store.size_bytes() < 2_000_000


def test_a_deletion_that_is_cut_short_is_invisible_and_finished_by_the_next(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = full_run(store, key="old", cache_key="k")
    tasks = store.read_task_groups(old.id)[0]

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retention, "_sweep", killed)
        with pytest.raises(KeyboardInterrupt):
            store.delete_flow_runs(START + 50)
    assert store.read_flow_runs() == []
    assert store.read_task_run(tasks.run_id(1)) is None
    assert store.read_states(tasks.run_id(1)) == []
    assert store.read_logs() == []
    assert store.read_logs(task_run_id=tasks.run_id(1)) == []
    report = store.delete_flow_runs(START + 50)
    assert [result["storage_key"] for result in report.results] == ["old"]
    store.forget_results(report.results)
    assert rows(store) == {}


def test_a_deleted_groups_keys_are_never_given_to_another(store: SqliteStore) -> None:
    first, tasks = recorded(store, count=3)
    finish(store, first)
    store.delete_flow_runs(START + 50)
    second, others = recorded(store, count=3)
    store.apply(TaskRunScript(tasks).done())
    assert [child.state_name for child in store.read_task_runs(second.id)] == ["Pending"] * 3
    assert isinstance(others.key, int)


def test_the_report_names_runs_by_the_ids_that_users_know(store: SqliteStore) -> None:
    id = ids.new_id()
    run = flow_run(id=id, created=datetime.fromtimestamp(START, UTC))
    store.apply([FlowRunCreated(run)])
    finish(store, run)
    assert store.delete_flow_runs(START + 50).flow_runs == [UUID(str(id))]
