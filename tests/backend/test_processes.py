"""Several processes on one file."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from core_engine.backend import connections, gates
from core_engine.backend.connections import connect
from core_engine.backend.entries import FlowRunCreated
from core_engine.backend.sqlite import SqliteStore
from core_engine.backend.transactions import writing
from core_engine.exceptions import StoreUnavailable
from core_engine.schemas.states import COMPLETED
from tests.backend.builders import TaskRunScript, flow_run, recorded
from tests.backend.processes import ends_well, python, says

_WRITES = """
import sys
from core_engine.backend.journal import Journal
from core_engine.backend.sqlite import SqliteStore
from tests.backend.builders import TaskRunScript, log_line, recorded
store = SqliteStore(sys.argv[1])
journal = Journal(store)
print("ready", flush=True)
sys.stdin.readline()
run, tasks = recorded(store, count=int(sys.argv[2]))
for index in range(tasks.count):
    for entry in TaskRunScript(tasks, index).done():
        position = journal.append(entry)
    journal.append(log_line(run.id, f"{index}", tasks.run_id(index)))
    if index % 10 == 0:
        assert journal.wait(position, 30)
journal.close()
store.close()
"""


@pytest.mark.parametrize("processes", [4])
def test_processes_that_write_at_once_lose_nothing_of_each_other(path: Path, processes: int) -> None:
    count = 400
    with python(_WRITES, path, count) as first:
        others = [python(_WRITES, path, count) for _ in range(processes - 1)]
        writers = [first, *[other.__enter__() for other in others]]
        try:
            assert [says(writer) for writer in writers] == ["ready"] * processes
            for writer in writers:
                assert writer.stdin is not None
                writer.stdin.write("go\n")
                writer.stdin.flush()
            for writer in writers:
                ends_well(writer)
        finally:
            for other in others:
                other.__exit__(None, None, None)
    store = SqliteStore(path)
    runs = store.read_flow_runs()
    assert len(runs) == processes
    for run in runs:
        assert len(store.read_task_runs(run.id, state_types=[COMPLETED])) == count
        assert [stored.entry.message for stored in store.read_logs(run.id)] == [f"{index}" for index in range(count)]
        assert len(store.read_events(run.id)) == 1 + 3 * count
    keys = [group.key for run in runs for group in store.read_task_groups(run.id)]
    assert len(set(keys)) == processes
    store.close()


# Forked from one process that has imported everything: what they do at once is to start.
_STARTS = """
import os, sys
from core_engine.backend import embedded
from core_engine.backend.entries import FlowRunCreated
from core_engine.settings import get_current_settings
from tests.backend.builders import flow_run
get_current_settings()
held, gate = os.pipe()
children = []
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        os.close(gate)
        os.read(held, 1)
        status = 1
        try:
            backend = embedded.open_backend()
            backend.journal.append(FlowRunCreated(flow_run()))
            backend.close()
            status = 0
        finally:
            os._exit(status)
    children.append(child)
os.close(gate)
print([os.waitpid(child, 0)[1] for child in children])
"""


@pytest.mark.behaviour("D30")
@pytest.mark.parametrize("processes", [20, pytest.param(50, marks=pytest.mark.faults)])
def test_first_starts_at_once_on_an_empty_home_make_one_database(home: Path, processes: int) -> None:
    with python(_STARTS, processes) as parent:
        assert ends_well(parent) == f"{[0] * processes}\n"
    store = SqliteStore(home / "core_engine.db")
    assert len(store.read_flow_runs()) == processes
    store.close()


def test_a_writer_waits_for_another_one_that_holds_the_database(store: SqliteStore) -> None:
    other = connect(store.path)
    began = threading.Event()
    entered = threading.Event()

    def hold() -> None:
        with writing(other):
            began.set()
            assert entered.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert began.wait(30)
    done = threading.Thread(target=store.apply, args=([FlowRunCreated(flow_run())],))
    done.start()
    # Reading never waits for a writer.
    assert store.read_flow_runs() == []
    entered.set()
    holder.join(30)
    done.join(30)
    other.close()
    assert len(store.read_flow_runs()) == 1


def test_a_database_that_stays_locked_is_said_to_be_so(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BUSY_TIMEOUT_SECONDS", 0.05)
    store._writer.execute("PRAGMA busy_timeout = 0")
    other = connect(store.path, gated=False)
    with writing(other), pytest.raises(StoreUnavailable, match="was locked by another process for"):
        store.apply([FlowRunCreated(flow_run())])
    other.close()
    store.apply([FlowRunCreated(flow_run())])


def test_waiting_long_for_another_process_is_said_and_ends_when_that_one_goes_on(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "_PATIENCE_SECONDS", 0.001)
    said = threading.Event()
    monkeypatch.setattr(gates._logger, "warning", lambda *arguments: said.set())
    other = connect(store.path)
    with writing(other):
        waiting = threading.Thread(target=store.apply, args=([FlowRunCreated(flow_run())],))
        waiting.start()
        assert said.wait(30)
        assert waiting.is_alive()
    waiting.join(30)
    other.close()
    assert len(store.read_flow_runs()) == 1


_HOLDS_THE_GATE = """
import sys
from pathlib import Path
from core_engine.backend.connections import connect
from core_engine.backend.transactions import writing
db = connect(Path(sys.argv[1]))
with writing(db):
    db.execute("INSERT INTO concurrency_limit VALUES ('db', 1)")
    print("inside", flush=True)
    sys.stdin.read()
"""


def test_a_process_that_is_killed_while_it_writes_lets_the_next_one_in(store: SqliteStore) -> None:
    with python(_HOLDS_THE_GATE, store.path) as process:
        assert says(process) == "inside"
        waiting = threading.Thread(target=store.apply, args=([FlowRunCreated(flow_run())],))
        waiting.start()
        process.kill()
        waiting.join(30)
    assert len(store.read_flow_runs()) == 1
    assert store.read_concurrency_limits() == {}


def test_reading_is_of_one_moment_however_long_it_takes(store: SqliteStore) -> None:
    run, tasks = recorded(store, count=3000)
    times = store.task_run_times(run.id)
    next(times)
    store.apply([entry for index in range(3000) for entry in TaskRunScript(tasks, index).done()])
    assert {line.state_name for line in times} == {"Pending"}
