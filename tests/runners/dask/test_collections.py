"""Dask's collections as inputs and results: what is to be computed travels, and is computed on the same cluster."""

import os
from typing import Any

import pandas
import pytest
from dask import dataframe
from distributed import Client, LocalCluster

from core_engine import flow, task
from runners.dask import DaskTaskRunner, get_dask_client

TOTALS = {"even": 2_450, "odd": 2_500}


@task
def load(rows: int) -> Any:
    """Return a dataframe of which each partition notes who computes it."""
    numbers = pandas.DataFrame({"x": range(rows)})

    def prepare(part: pandas.DataFrame) -> pandas.DataFrame:
        return part.assign(kind=part["x"].map(lambda x: "odd" if x % 2 else "even"), process=os.getpid())

    return dataframe.from_pandas(numbers, npartitions=4).map_partitions(prepare)


def totals(frame: Any) -> tuple[dict[str, int], set[int]]:
    """Return the totals of each kind, and the processes that computed the parts."""
    computed = frame.compute()
    return computed.groupby("kind")["x"].sum().to_dict(), set(computed["process"])


@task
def totals_on_the_cluster(frame: Any) -> tuple[dict[str, int], set[int]]:
    with get_dask_client():
        return totals(frame)


@pytest.mark.behaviour("DASK-10", "DASK-16")
def test_a_task_computes_a_dask_dataframe_of_another_on_the_same_cluster(dask_cluster: LocalCluster) -> None:
    @flow(task_runner=DaskTaskRunner(cluster=dask_cluster))
    def outer() -> Any:
        loaded: Any = load.submit(100)
        ways = [*totals_on_the_cluster.map([loaded, loaded.result()]), totals_on_the_cluster.submit(loaded)]
        return [future.result() for future in ways]

    with Client(dask_cluster, set_as_default=False) as client:
        workers = set(client.run(os.getpid).values())
    for found, processes in outer():
        assert found == TOTALS
        assert processes <= workers


@pytest.mark.behaviour("DASK-10")
def test_a_flow_computes_a_dask_dataframe_of_a_task_with_a_client_of_its_own(dask_cluster: LocalCluster) -> None:
    @flow(task_runner=DaskTaskRunner(cluster=dask_cluster))
    def outer() -> Any:
        loaded: Any = load.submit(100)
        with Client(dask_cluster, set_as_default=False) as client, client.as_current():
            return totals(loaded.result())

    found, processes = outer()

    assert found == TOTALS
    assert os.getpid() not in processes
