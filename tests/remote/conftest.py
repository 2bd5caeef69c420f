"""One small cluster for all tests here: processes at the ends of pipes."""

from collections.abc import Iterator

import pytest

from core_engine.task_runners import BaseTaskRunner
from tests.support.loopback import LoopbackCluster, LoopbackRunner


@pytest.fixture(scope="session")
def cluster() -> Iterator[LoopbackCluster]:
    cluster = LoopbackCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def task_runner(cluster: LoopbackCluster) -> BaseTaskRunner:
    return LoopbackRunner.of(cluster)
