"""Several flows and subflows on one cluster, flows called where a loop runs, and what a scheduler keeps of them."""

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from distributed import Client, LocalCluster

from core_engine import flow, task
from core_engine.task_runners import BaseTaskRunner
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


@pytest.mark.behaviour("DASK-5", "D28")
def test_flows_at_once_on_one_cluster_keep_to_themselves(dask_cluster: LocalCluster) -> None:
    @flow(task_runner=DaskTaskRunner(cluster=dask_cluster))
    def sums(start: int) -> int:
        futures = double.map(range(start, start + 300))
        return sum(future.result() for future in futures)

    with ThreadPoolExecutor(3) as pool:
        totals = list(pool.map(sums, [0, 1_000, 2_000]))

    assert totals == [2 * sum(range(start, start + 300)) for start in (0, 1_000, 2_000)]
    with Client(dask_cluster, set_as_default=False) as client:
        expect_clean(client)


@pytest.mark.behaviour("FLOW-CALL-4", "RUN-7")
def test_flows_are_called_where_a_loop_runs_as_in_a_notebook(task_runner: BaseTaskRunner) -> None:
    @task
    async def double_async(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    @flow(task_runner=task_runner)
    async def asynchronous() -> list[int]:
        futures = await double_async.map(range(3))
        return [await future.result() for future in futures]

    @flow(task_runner=task_runner)
    def synchronous() -> list[int]:
        return [future.result() for future in double.map(range(3))]

    async def cell() -> Any:
        return await asynchronous(), synchronous(), await asyncio.gather(asynchronous(), asynchronous())

    assert asyncio.run(cell()) == ([0, 2, 4], [0, 2, 4], [[0, 2, 4], [0, 2, 4]])


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
