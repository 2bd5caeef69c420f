"""Workers of Dask that die: each run ends in the right state, and no finished one is executed twice."""

import functools
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from core_engine import State, flow, get_client, task
from core_engine.concurrency.waiting import step
from core_engine.exceptions import MissingResult
from runners.dask import DaskTaskRunner
from runners.dask.road import DaskRoad
from tests.runners.dask.conftest import local_cluster
from tests.support.cluster_tests.losses import LossesOnACluster, MakeRunner
from tests.support.starts import lines, note, starts


@pytest.fixture
def fragile_cluster() -> Iterator[LocalCluster]:
    cluster = local_cluster()
    yield cluster
    cluster.close()


class TestLosses(LossesOnACluster):
    worker_prefix = "tcp://127.0.0.1"

    @pytest.fixture
    def make_runner(self, fragile_cluster: LocalCluster) -> MakeRunner:
        return functools.partial(DaskTaskRunner, cluster=fragile_cluster)


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
