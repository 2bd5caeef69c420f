"""Deleting flow runs leaves no rows of theirs, and gives back the space they took."""

from __future__ import annotations

import threading
import time
from typing import Any
from uuid import uuid4

import pytest

from core_engine.backend import retention
from core_engine.backend.encoding import TYPE_CODES
from core_engine.backend.entries import CacheStored
from core_engine.backend.sqlite import SqliteStore
from core_engine.results import LiteralResult
from core_engine.schemas.states import COMPLETED, FAILED, RUNNING
from core_engine.testing.stores.retention import full_run, subflow
from tests.backend.builders import START, TaskRunScript, finish, log_line, recorded

pytestmark = pytest.mark.behaviour("D31")


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
    assert report.results_later == 1
    later = store.delete_flow_runs(older_than=START, now=time.time() + 100)
    assert [result["storage_key"] for result in later.results] == ["old"]
    store.forget_results(later.results)
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
    for name in ("flow_runs", "task_runs", "log_lines", "cache_entries", "results", "results_later"):
        assert getattr(said, name) == getattr(done, name)


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
    store.delete_flow_runs(START + 50)
    report = store.delete_flow_runs(START + 50, now=time.time() + 100)
    assert [result["storage_key"] for result in report.results] == ["old"]
    store.forget_results(report.results)
    assert rows(store) == {}


def test_no_transaction_of_a_deletion_takes_many_flow_runs(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = retention._delete_families

    def noted(db: Any, roots: Any, *others: Any) -> None:
        sizes.append(len(roots))
        real(db, roots, *others)

    monkeypatch.setattr(retention, "_delete_families", noted)
    for _ in range(120):
        finish(store, recorded(store)[0])
    assert len(store.delete_flow_runs(START + 50).flow_runs) == 120
    assert sizes == [50, 50, 20]


def test_a_flow_run_that_was_taken_up_again_meanwhile_stays(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = finish(store, recorded(store)[0], FAILED)
    real = retention._delete_families

    def after_it_was_resumed(db: Any, *others: Any) -> None:
        db.execute("UPDATE flow_run SET state_type = ?", (TYPE_CODES[RUNNING],))
        real(db, *others)

    monkeypatch.setattr(retention, "_delete_families", after_it_was_resumed)
    assert store.delete_flow_runs(START + 50).flow_runs == []
    assert store.read_flow_run(old.id) is not None
