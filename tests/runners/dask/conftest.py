"""One cluster of two worker processes for all tests that do not break it."""

import warnings
from collections.abc import Iterator
from typing import Any

import dask
import pytest
from distributed import LocalCluster

from core_engine.task_runners import BaseTaskRunner
from runners.dask import DaskTaskRunner


def local_cluster(**options: Any) -> LocalCluster:
    """Return a small cluster of processes that counts no failures, as temporary clusters are."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", **options}
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LocalCluster(**options)


@pytest.fixture(scope="session")
def dask_cluster() -> Iterator[LocalCluster]:
    cluster = local_cluster()
    yield cluster
    cluster.close()


@pytest.fixture
def task_runner(dask_cluster: LocalCluster) -> BaseTaskRunner:
    return DaskTaskRunner(cluster=dask_cluster)
