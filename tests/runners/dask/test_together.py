"""Subflows on several clusters, and what a scheduler keeps of many runs."""

import gc
from typing import Any

import psutil
import pytest
from distributed import Client, LocalCluster

from core_engine import flow, task
from runners.dask import DaskTaskRunner
from tests.support.dask_processes import DaskProcesses, expect_clean


@task
def double(x: int) -> int:
    return 2 * x


@task
def address_of_worker() -> str:
    from distributed import get_worker

    return str(get_worker().address)


@pytest.mark.behaviour("RUN-7", "FLOW-SUB-1")
def test_subflows_have_their_own_runner_or_the_same_cluster(
    dask_cluster: LocalCluster, dask_processes: DaskProcesses
) -> None:
    here = DaskTaskRunner(cluster=dask_cluster)

    @flow(task_runner=here)
    def same() -> str:
        return address_of_worker.submit().result()

    @flow(task_runner=DaskTaskRunner(address=dask_processes.address))
    def another() -> str:
        return address_of_worker.submit().result()

    @flow(task_runner="sequential")
    def none() -> int:
        return double.submit(4).result()

    @flow(task_runner=here)
    def parent() -> tuple[str, str, int, int]:
        before = double.submit(1)
        return same(), another(), none(), double.submit(before).result()

    one, other, *numbers = parent()

    assert one in dask_cluster.scheduler_info["workers"]
    assert other not in dask_cluster.scheduler_info["workers"]
    assert numbers == [8, 4]


def state_of_scheduler(dask_scheduler: Any = None) -> dict[str, int]:
    gc.collect()
    return {
        "resident": psutil.Process().memory_info().rss,
        "prefixes": len(dask_scheduler.task_prefixes),
        "plugins": len(dask_scheduler.plugins),
        "topics": sum(len(topic.events) for topic in dask_scheduler._broker._topics.values()),
        "clients": len(dask_scheduler.clients),
    }


@pytest.mark.faults
@pytest.mark.behaviour("I10", "DASK-5")
def test_ten_thousand_runs_leave_nothing_in_the_scheduler(dask_processes: DaskProcesses) -> None:
    @task
    def tiny(x: int) -> int:
        return x + 1

    @flow(task_runner=DaskTaskRunner(address=dask_processes.address))
    def many() -> int:
        return sum(future.result() for future in tiny.map(range(10_000)))

    rounds = []
    with Client(dask_processes.address, set_as_default=False) as client:
        for _ in range(4):
            assert many() == sum(range(1, 10_001))
            expect_clean(client)
            rounds.append(client.run_on_scheduler(state_of_scheduler))

    # The first one loads code.
    first, last = rounds[1], rounds[-1]
    assert last["resident"] - first["resident"] < 10_000_000
    for what in ("prefixes", "plugins", "clients"):
        assert last[what] == first[what]
    # Dask's own, of which it keeps a few for each client.
    assert last["topics"] - first["topics"] < 1_000
