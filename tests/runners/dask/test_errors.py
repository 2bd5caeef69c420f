"""What cannot travel to Dask's workers, or is missing there."""

from collections.abc import Iterator

import dask
import pytest
from distributed import Client, LocalCluster

from tests.support.cluster_tests.errors import ErrorsBetweenWorkers, ErrorsOnACluster, TwoPlaces
from tests.support.dask_processes import expect_clean


@pytest.fixture(autouse=True)
def left_clean(dask_cluster: LocalCluster) -> Iterator[None]:
    yield
    with Client(dask_cluster, set_as_default=False) as client:
        expect_clean(client)


class TestErrors(ErrorsOnACluster):
    worker_prefix = "tcp://"


class TestErrorsBetweenWorkers(ErrorsBetweenWorkers):
    @pytest.fixture
    def two_places(self, dask_cluster: LocalCluster) -> TwoPlaces:
        first, second = dask_cluster.scheduler_info["workers"]
        return dask.annotate(workers=[first]), dask.annotate(workers=[second])
