"""Clusters for all tests that do not break them: one of two worker processes, one of separately started processes."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import LocalCluster

from core_engine.task_runners import BaseTaskRunner
from runners.dask import DaskTaskRunner
from tests.support.cluster_tests.settings import OTHER_DEFAULTS
from tests.support.dask_processes import DaskProcesses


@contextmanager
def handlers_as_they_are() -> Iterator[None]:
    """Keep the levels of pytest's handlers, which it gives to Dask's logger too, and which a cluster silences there."""
    levels = {handler: handler.level for handler in logging.getLogger().handlers}
    try:
        yield
    finally:
        for handler, level in levels.items():
            handler.setLevel(level)


def local_cluster(**options: Any) -> LocalCluster:
    """Return a small cluster of processes that counts no failures, as temporary clusters are."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", **options}
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with handlers_as_they_are():
            return LocalCluster(**options)


@pytest.fixture(scope="session")
def dask_cluster() -> Iterator[LocalCluster]:
    cluster = local_cluster()
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def dask_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    """A scheduler and two workers as the commands start them, with Dask's own defaults."""
    cluster = DaskProcesses(tmp_path_factory.mktemp("dask"), environment=OTHER_DEFAULTS)
    for _ in range(2):
        cluster.start_worker("--no-nanny")
    yield cluster
    cluster.close()


@pytest.fixture
def processes_folder(tmp_path: Path) -> Path:
    return tmp_path / "dask-processes"


@pytest.fixture
def task_runner(dask_cluster: LocalCluster) -> BaseTaskRunner:
    return DaskTaskRunner(cluster=dask_cluster)
