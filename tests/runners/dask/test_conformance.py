"""The runner for Dask passes the suite that every runner must pass."""

import pytest
from distributed import LocalCluster

from core_engine.task_runners import BaseTaskRunner
from core_engine.testing.conformance import TaskRunnerConformance
from runners.dask import DaskTaskRunner


@pytest.mark.behaviour("DASK-1")
class TestDaskTaskRunner(TaskRunnerConformance):
    @pytest.fixture
    def task_runner(self, dask_cluster: LocalCluster) -> BaseTaskRunner:
        return DaskTaskRunner(address=dask_cluster.scheduler_address)
