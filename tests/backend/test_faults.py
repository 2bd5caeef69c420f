"""Killed processes and full disks: what was acknowledged is there, and nothing is half-written."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from core_engine.backend.entries import FlowRunCreated, TaskRunsCreated
from core_engine.backend.journal import Journal
from core_engine.backend.sqlite import SqliteStore
from core_engine.exceptions import StoreUnavailable
from core_engine.schemas.states import COMPLETED
from tests.backend.builders import TaskRunScript, flow_run, group, log_line, recorded
from tests.backend.processes import python

# Appends for each task run its two states and a line, waits now and then, and says what was acknowledged.
_WRITER = """
import sys
from core_engine.backend.journal import Journal
from core_engine.backend.sqlite import SqliteStore
from tests.backend.builders import TaskRunScript, log_line, recorded
store = SqliteStore(sys.argv[1])
journal = Journal(store, max_batch=int(sys.argv[2]))
run, tasks = recorded(store, count=1_000_000)
print(run.id, flush=True)
for index in range(tasks.count):
    for entry in TaskRunScript(tasks, index).done():
        journal.append(entry)
    position = journal.append(log_line(run.id, f"{index}", tasks.run_id(index)))
    if index % 7 == 0:
        journal.wait(position)
        print(index, flush=True)
"""


@pytest.mark.behaviour("I1", "D29")
@pytest.mark.parametrize("seed", [0, *[pytest.param(seed, marks=pytest.mark.faults) for seed in range(1, 20)]])
def test_a_process_that_is_killed_while_it_writes_leaves_all_that_was_acknowledged_and_nothing_half_written(
    path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    with python(_WRITER, path, chance.choice([2, 50, 5000])) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        for _ in range(chance.randrange(1, 300)):
            process.stdout.readline()
        process.kill()
        lines = process.stdout.read().splitlines()
        process.wait(30)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store = SqliteStore(path)
    run = store.resolve_flow_run_id(run_id)
    acknowledged = int(lines[-1]) if lines and lines[-1].isdigit() else 0
    completed = store.read_task_runs(run, state_types=[COMPLETED])
    messages = [stored.entry.message for stored in store.read_logs(run)]
    assert len(messages) > acknowledged
    # A beginning of what was appended, cut anywhere: no gap, nothing out of order.
    assert messages == [f"{index}" for index in range(len(messages))]
    assert [child.dynamic_key for child in completed] == [f"{index}" for index in range(len(completed))]
    assert len(completed) - len(messages) in (0, 1)
    for child in completed[-3:]:
        assert [state.name for state in store.read_states(child.id)] == ["Pending", "Running", "Completed"]
        assert child.end_time is not None
    store.close()


@pytest.fixture
def nearly_full(store: SqliteStore) -> SqliteStore:
    """A store whose file may grow by a few pages only: to SQLite the same as a full disk."""
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages + 20}")
    return store


def fill(journal: Journal) -> tuple[Any, list[int]]:
    """Appends and waits until the journal fails; returns the group and the indexes that were acknowledged."""
    run = flow_run()
    tasks = group(run.id, 100_000)
    journal.append_many([FlowRunCreated(run), TaskRunsCreated(tasks)])
    acknowledged: list[int] = []
    with pytest.raises(StoreUnavailable, match=r"the disk is full.*What was recorded until now stays"):
        for index in range(tasks.count):
            journal.append_many(TaskRunScript(tasks, index).done())
            journal.wait(journal.append(log_line(run.id, "x" * 500)))
            acknowledged.append(index)
    return tasks, acknowledged


@pytest.mark.behaviour("I1")
def test_a_full_disk_stops_the_journal_with_a_clear_error_and_keeps_what_was_acknowledged(
    nearly_full: SqliteStore,
) -> None:
    journal = Journal(nearly_full)
    tasks, acknowledged = fill(journal)
    assert str(nearly_full.path.parent) in str(journal.failure)
    completed = nearly_full.read_task_runs(tasks.flow_run_id, state_types=[COMPLETED])
    assert [child.dynamic_key for child in completed] == [f"{index}" for index in acknowledged]
    with closing(sqlite3.connect(nearly_full.path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_batch_that_did_not_fit_leaves_no_keys_behind_and_can_be_written_when_there_is_room(
    nearly_full: SqliteStore,
) -> None:
    run, _ = recorded(nearly_full)
    tasks = group(run.id, 10)
    entries = [TaskRunsCreated(tasks), *TaskRunScript(tasks).done(), log_line(run.id, "x" * 200_000)]
    with pytest.raises(StoreUnavailable):
        nearly_full.apply(entries)
    assert tasks.key is None
    assert nearly_full.read_task_groups(run.id) == []
    nearly_full._writer.execute("PRAGMA max_page_count = 100000")
    nearly_full.apply(entries)
    assert len(nearly_full.read_task_runs(run.id, state_types=[COMPLETED])) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte; skips where this user may not mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.faults
@pytest.mark.behaviour("I1")
def test_a_disk_that_is_really_full_loses_nothing_that_was_acknowledged(small_disk: Path) -> None:
    store = SqliteStore(small_disk / "core_engine.db")
    journal = Journal(store)
    tasks, acknowledged = fill(journal)
    store.close()
    again = SqliteStore(small_disk / "core_engine.db")
    completed = again.read_task_runs(tasks.flow_run_id, state_types=[COMPLETED])
    assert len(acknowledged) > 10
    assert [child.dynamic_key for child in completed] == [f"{index}" for index in acknowledged]
    again.close()


class BreaksAtCommit:
    """A connection whose next COMMIT fails."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.broken = True
        self.gate = None

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and self.broken:
            self.broken = False
            raise sqlite3.OperationalError("disk I/O error")
        return self._db.execute(sql, *arguments)

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction


def test_a_commit_that_fails_is_as_if_it_had_never_begun(store: SqliteStore) -> None:
    run, _ = recorded(store)
    store._batches._db = BreaksAtCommit(store._writer)  # type: ignore[assignment]
    tasks = group(run.id, 3)
    entries = [TaskRunsCreated(tasks), *TaskRunScript(tasks).done(), log_line(run.id, "once")]
    with pytest.raises(Exception, match="disk I/O error"):
        store.apply(entries)
    assert store.read_task_groups(run.id) == []
    store.apply(entries)
    assert [child.state_name for child in store.read_task_runs(run.id)] == ["Completed", "Pending", "Pending"]
    assert len(store.read_logs(run.id)) == 1
