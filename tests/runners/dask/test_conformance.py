"""The runner for Dask passes the suite that every runner must pass, on each kind of cluster."""

from collections.abc import Iterator

import pytest
from distributed import Client, LocalCluster

from core_engine.task_runners import BaseTaskRunner
from core_engine.testing.conformance import TaskRunnerConformance
from runners.dask import DaskTaskRunner
from tests.support.dask_processes import DaskProcesses, expect_clean


@pytest.mark.behaviour("DASK-1")
class TestOnAClusterOfProcesses(TaskRunnerConformance):
    @pytest.fixture
    def task_runner(self, dask_cluster: LocalCluster) -> BaseTaskRunner:
        return DaskTaskRunner(cluster=dask_cluster)


@pytest.mark.behaviour("DASK-1", "DASK-5")
class TestOnAClusterWithAnAddress(TaskRunnerConformance):
    """A scheduler and workers that were started as separate processes; each test leaves them clean."""

    @pytest.fixture
    def task_runner(self, dask_processes: DaskProcesses) -> Iterator[BaseTaskRunner]:
        yield DaskTaskRunner(address=dask_processes.address)
        with Client(dask_processes.address, set_as_default=False) as client:
            expect_clean(client)
            assert not any(client.run(data_of_worker).values())


def data_of_worker(dask_worker: object = None) -> list[str]:
    return list(dask_worker.data)  # type: ignore[attr-defined]


@pytest.mark.behaviour("DASK-1")
class TestOnAClusterOfThreads(TaskRunnerConformance):
    @pytest.fixture
    def task_runner(self) -> BaseTaskRunner:
        return DaskTaskRunner(cluster_kwargs={"processes": False, "n_workers": 1, "threads_per_worker": 2})


@pytest.mark.faults
@pytest.mark.behaviour("DASK-1")
class TestOnItsOwnCluster(TaskRunnerConformance):
    @pytest.fixture
    def task_runner(self) -> BaseTaskRunner:
        return DaskTaskRunner()
