"""Workers of Dask that die: each run ends in the right state, and no finished one is executed twice."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from core_engine import State, flow, get_client, get_run_logger, task
from core_engine.concurrency.waiting import step
from core_engine.exceptions import MissingResult
from core_engine.tasks import MapOptions
from runners.dask import DaskTaskRunner
from runners.dask.road import DaskRoad
from tests.runners.dask.conftest import local_cluster
from tests.support.starts import lines, note, starts

# Long enough for a start to be reported; a worker that dies sooner may not have told of it.
REPORTED_SECONDS = 0.3


@pytest.fixture
def fragile_cluster() -> Iterator[LocalCluster]:
    cluster = local_cluster()
    yield cluster
    cluster.close()


def states_of(runner: DaskTaskRunner, make: Any) -> list[State]:
    @flow(task_runner=runner)
    def outer() -> Any:
        return make()

    return outer(return_state=True).result(raise_on_failure=False)


@pytest.mark.behaviour("DASK-12", "D22")
def test_a_worker_killed_in_the_middle_of_a_task_crashes_it_alone(
    fragile_cluster: LocalCluster, tmp_path: Path
) -> None:
    path = tmp_path / "starts"

    @task(map_options=MapOptions(batch_size=1))
    def fragile(x: int) -> int:
        note(path, x)
        if x == 3:
            time.sleep(REPORTED_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    states = states_of(DaskTaskRunner(cluster=fragile_cluster), lambda: fragile.map(range(20)))

    assert [x for x, state in enumerate(states) if not state.is_completed()] == [3]
    assert states[3].is_crashed()
    assert "tcp://127.0.0.1" in (states[3].message or "")
    assert starts(path)["3"] == 1
    assert lines() == starts(path)


@pytest.mark.faults
@pytest.mark.behaviour("D22")
def test_what_a_block_had_reported_is_kept_when_its_worker_is_killed(
    fragile_cluster: LocalCluster, tmp_path: Path
) -> None:
    path = tmp_path / "starts"

    @task(map_options=MapOptions(batch_size=10))
    def fragile(x: int) -> int:
        note(path, x)
        if x == 5:
            time.sleep(REPORTED_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    states = states_of(DaskTaskRunner(cluster=fragile_cluster), lambda: fragile.map(range(30)))

    assert [x for x, state in enumerate(states) if not state.is_completed()] == [5]
    assert [state.result() for state in states[:5]] == [0, 1, 2, 3, 4]
    assert set(starts(path).values()) == {1}
    assert lines() == starts(path)


@pytest.mark.faults
@pytest.mark.behaviour("D22")
def test_a_run_lost_with_its_worker_is_executed_again_within_the_runners_budget(
    fragile_cluster: LocalCluster, tmp_path: Path
) -> None:
    path = tmp_path / "starts"

    @task
    def fragile() -> str:
        note(path, "x")
        if starts(path)["x"] == 1:
            time.sleep(REPORTED_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    runner = DaskTaskRunner(cluster=fragile_cluster, worker_loss_retries=1)
    (state,) = states_of(runner, lambda: [fragile.submit()])
    run_id = state.state_details.task_run_id
    assert run_id is not None

    assert state.result() == "done"
    assert starts(path)["x"] == 2
    history = [one.name for one in step(get_client().read_states(run_id))]
    assert history == ["Pending", "Running", "Rerunning", "Completed"]
    assert lines() == starts(path)


@pytest.mark.faults
def test_a_finished_task_is_not_executed_again_because_its_worker_died(
    fragile_cluster: LocalCluster, tmp_path: Path
) -> None:
    path = tmp_path / "starts"

    @task
    def small() -> int:
        note(path, "small")
        return os.getpid()

    @task
    def dies(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        time.sleep(REPORTED_SECONDS)

    @task
    def uses(pid: int) -> int:
        return pid

    @flow(task_runner=DaskTaskRunner(cluster=fragile_cluster, worker_loss_retries=3))
    def outer() -> bool:
        made = small.submit()
        dies.submit(made).wait()
        return uses.submit(made).result() == made.result()

    assert outer()
    assert starts(path)["small"] == 1
    assert lines() == starts(path)


@pytest.mark.faults
def test_the_end_of_all_workers_ends_every_run(tmp_path: Path) -> None:
    path = tmp_path / "starts"
    cluster = local_cluster(n_workers=2)
    try:

        @task
        def dies(x: int) -> None:
            note(path, x)
            time.sleep(REPORTED_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)

        states = states_of(DaskTaskRunner(cluster=cluster), lambda: dies.map(range(4)))
    finally:
        cluster.close()

    assert all(state.is_crashed() for state in states)
    assert lines() == starts(path) == Counter("0123")


def kill_worker_of(state: State) -> None:
    """Kill the worker that executed a run, without a word to anybody."""
    run = step(get_client().read_task_run(state.state_details.task_run_id))
    assert run.worker is not None
    for worker, pid in PIDS.items():
        if worker == run.worker:
            os.kill(pid, signal.SIGKILL)


PIDS: dict[str, int] = {}


@pytest.fixture
def pids(fragile_cluster: LocalCluster) -> None:
    """The process of each worker, by its address."""
    with Client(fragile_cluster, set_as_default=False) as client:
        client.wait_for_workers(2)
        PIDS.clear()
        PIDS.update(client.run(os.getpid))


@pytest.mark.faults
@pytest.mark.behaviour("D12", "D22", "D26")
def test_a_large_value_that_is_lost_with_its_worker_is_missing_and_what_needs_it_says_so(
    fragile_cluster: LocalCluster, pids: None, tmp_path: Path
) -> None:
    path = tmp_path / "starts"

    @task
    def large(x: int) -> bytes:
        note(path, x)
        return bytes([x]) * 300_000

    @task
    def size(data: bytes) -> int:
        return len(data)

    @flow(task_runner=DaskTaskRunner(cluster=fragile_cluster))
    def outer() -> Any:
        lost = large.submit(1)
        kill_worker_of(lost.wait())
        with pytest.raises(MissingResult, match=r"300,0\d\d bytes.*persist_result=True"):
            lost.result()
        return [lost, size.submit(lost), size.submit(large.submit(2))]

    lost, needs_it, other = outer(return_state=True).result(raise_on_failure=False)

    assert lost.is_completed()
    assert needs_it.is_crashed()
    assert "persist_result=True" in (needs_it.message or "")
    assert other.result() == 300_000
    assert starts(path) == Counter({"1": 1, "2": 1})
    assert lines() == starts(path)


@pytest.mark.faults
@pytest.mark.behaviour("D12", "D22")
def test_a_persisted_value_outlives_its_worker(fragile_cluster: LocalCluster, pids: None, tmp_path: Path) -> None:
    path = tmp_path / "starts"

    @task(persist_result=True)
    def large() -> bytes:
        note(path, "x")
        return bytes(300_000)

    @task
    def size(data: bytes) -> int:
        return len(data)

    @flow(task_runner=DaskTaskRunner(cluster=fragile_cluster))
    def outer() -> tuple[int, int]:
        kept = large.submit()
        kill_worker_of(kept.wait())
        return size.submit(kept).result(), len(kept.result())

    assert outer() == (300_000, 300_000)
    assert starts(path)["x"] == 1
    assert lines() == starts(path)


@pytest.mark.faults
@pytest.mark.behaviour("D22", "LOG-API-11")
def test_lines_of_a_run_that_is_lost_are_there_once_and_others_go_on(
    fragile_cluster: LocalCluster, tmp_path: Path
) -> None:
    path = tmp_path / "starts"

    @task(map_options=MapOptions(batch_size=5))
    def says(x: int) -> int:
        note(path, x)
        for line in range(10):
            get_run_logger().info("line %d of %d", line, x)
        time.sleep(REPORTED_SECONDS)
        if x == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        get_run_logger().info("line 10 of %d", x)
        return x

    states = states_of(DaskTaskRunner(cluster=fragile_cluster), lambda: says.map(range(20)))
    stored = step(get_client().read_logs(states[0].state_details.flow_run_id))
    said = Counter(one.entry.message for one in stored if one.entry.message.startswith("line "))

    assert [x for x, state in enumerate(states) if not state.is_completed()] == [7]
    assert set(starts(path).values()) == {1}
    assert said == Counter(f"line {line} of {x}" for x in range(20) for line in range(11) if (line, x) != (10, 7))
    assert lines() == starts(path)


@pytest.mark.faults
@pytest.mark.behaviour("D22", "DASK-12")
def test_runs_go_on_when_all_workers_died_and_others_came(fragile_cluster: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "starts"

    @task(map_options=MapOptions(batch_size=1))
    def slow(x: int) -> int:
        note(path, x)
        time.sleep(REPORTED_SECONDS)
        return x

    @flow(task_runner=DaskTaskRunner(cluster=fragile_cluster))
    def outer() -> Any:
        futures = slow.map(range(20))
        for future in futures[:4]:
            future.wait()
        with Client(fragile_cluster, set_as_default=False) as client:
            for pid in client.run(os.getpid).values():
                os.kill(pid, signal.SIGKILL)
        return futures

    states = outer(return_state=True).result(raise_on_failure=False)

    crashed = [state for state in states if not state.is_completed()]
    assert len(crashed) <= 2
    assert all(state.is_crashed() and "tcp://" in (state.message or "") for state in crashed)
    assert len(starts(path)) == 20
    assert sum(starts(path).values()) <= 22
    assert lines() == starts(path)


@pytest.mark.faults
@pytest.mark.behaviour("D22", "I8")
def test_a_worker_that_dies_while_a_definition_is_put_on_all_holds_up_neither_tasks_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "starts"
    spread = DaskRoad._spread
    pids: list[int] = []

    async def spread_and_lose_a_worker(road: DaskRoad, key: str, content: bytes) -> Any:
        if pids:
            os.kill(pids.pop(), signal.SIGKILL)
        return await spread(road, key, content)

    monkeypatch.setattr(DaskRoad, "_spread", spread_and_lose_a_worker)

    @task
    def first() -> int:
        return os.getpid()

    @task
    def second(x: int) -> int:
        note(path, x)
        return x

    @task
    def third(x: int) -> int:
        note(path, x)
        return x

    @flow(task_runner=DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}))
    def outer() -> Any:
        pids.append(first.submit().result())
        futures = [second.submit(0), third.submit(1)]
        for future in futures:
            future.wait()
        times.append(time.monotonic())
        return futures

    times: list[float] = []
    states = outer(return_state=True).result(raise_on_failure=False)

    assert [state.result() for state in states] == [0, 1]
    assert time.monotonic() - times[0] < 15
    assert lines() == starts(path) == Counter("01")
