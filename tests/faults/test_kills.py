"""Kill -9 at any moment of a mapped flow: what its caller had seen is in the store, and nothing is half-written."""

import random
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from core_engine import flow
from core_engine.backend import open_backend
from core_engine.backend.sqlite import SqliteStore
from core_engine.schemas.records import FlowRun
from tests.faults.helpers import script

# Prints the id of each task run once its caller has its result.
MAPS_AND_TELLS = """
    from core_engine import flow, task

    @task
    def double(x):
        return 2 * x

    @task(persist_result=True)
    def keeps(x):
        return [x]

    @flow(task_runner={runner!r})
    def child(n):
        return sum(future.result() for future in double.map(range(n)))

    @flow(task_runner={runner!r})
    def job():
        print("begun", flush=True)
        while True:
            for future in double.map(range(40)):
                future.result()
                print("saw", future.task_run_id, flush=True)
            future = keeps.submit(1)
            future.result()
            print("saw", future.task_run_id, flush=True)
            child(5)

    job()
    """


def kill_at(folder: Path, runner: str, seconds: float) -> list[str]:
    """Kill a script some time after its flow has begun; return the ids of the task runs that its caller had seen."""
    with script(folder, MAPS_AND_TELLS.format(runner=runner)) as running:
        running.await_line("begun")
        time.sleep(seconds)
        running.send(signal.SIGKILL)
        assert running.end()[0] == -signal.SIGKILL
    # The last line may have been cut short.
    words = [line.split() for line in running.lines]
    return [line[1] for line in words if line[0] == "saw" and len(line[-1]) == 36]


def expect_whole_histories(store: SqliteStore, run: FlowRun) -> None:
    """Each run's history begins in Pending and leads, move by move, to the state it is in."""
    for id, state in [(run.id, run.state), *((one.id, one.state) for one in store.read_task_runs(run.id))]:
        history = store.read_states(id)
        assert history[0].is_pending()
        assert history[-1].id == state.id
        times = [one.timestamp for one in history]
        assert times == sorted(times)
        assert not any(one.is_final() for one in history[:-1])


def expect_consistent(task_ids: list[str], since: float) -> None:
    """The database opens and is sound; everything seen is in it; recovery ends what the dead process left."""
    store = open_backend().store
    with closing(sqlite3.connect(store.path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    before = {str(run.id): run for run in store.read_flow_runs(since=since)}
    stored = {str(one.id): one for run in before.values() for one in store.read_task_runs(run.id)}
    for id in task_ids:
        assert stored[id].state.is_completed(), stored[id]
    for run in before.values():
        expect_whole_histories(store, run)

    store.reconcile(time.time())

    for run in store.read_flow_runs(since=since):
        assert run.state.is_final()
        if not before[str(run.id)].state.is_final():
            assert run.state.is_crashed()
            assert "ended without reporting" in run.state.message
        expect_whole_histories(store, run)
        for one in store.read_task_runs(run.id):
            assert one.state.is_final() or one.state.is_pending(), one


def rounds(folder: Path, runner: str, count: int, seed: int) -> None:
    chance = random.Random(seed)
    seen = 0
    for _ in range(count):
        since = time.time()
        task_ids = kill_at(folder, runner, chance.uniform(0.0, 0.4))
        seen += len(task_ids)
        expect_consistent(task_ids, since)
    assert seen > 0
    # The home works as before.
    assert flow(lambda: "alive")() == "alive"


@pytest.mark.behaviour("I1", "I2", "D7", "D29")
@pytest.mark.parametrize("runner", ["sequential", "concurrent"])
def test_a_flow_that_is_killed_leaves_all_that_was_seen_and_nothing_half_written(tmp_path: Path, runner: str):
    rounds(tmp_path, runner, count=1, seed=1)


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.behaviour("I1", "I2", "D7", "D29")
@pytest.mark.parametrize("runner", ["sequential", "concurrent"])
def test_flows_that_are_killed_at_many_moments_leave_all_that_was_seen(tmp_path: Path, runner: str):
    rounds(tmp_path, runner, count=25, seed=2)
