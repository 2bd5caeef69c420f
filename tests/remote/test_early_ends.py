"""What is promised of runs that end early, in other processes."""

from collections.abc import Iterator

import pytest

from core_engine.task_runners import BaseTaskRunner
from tests.support.early_ends import EarlyEnds
from tests.support.loopback import LoopbackCluster, LoopbackRunner


class TestEarlyEnds(EarlyEnds):
    @pytest.fixture
    def task_runner(self) -> Iterator[BaseTaskRunner]:
        """On a cluster of its own, whose workers are replaced when their code cannot be interrupted."""
        cluster = LoopbackCluster()
        yield LoopbackRunner.of(cluster)
        cluster.close()
