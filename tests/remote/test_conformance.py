"""Remote execution over plain pipes passes the suite that every runner must pass."""

import pytest

from core_engine.task_runners import BaseTaskRunner
from core_engine.testing.conformance import TaskRunnerConformance
from tests.support.loopback import LoopbackCluster, LoopbackRunner


class TestLoopbackRunner(TaskRunnerConformance):
    @pytest.fixture
    def task_runner(self, cluster: LoopbackCluster) -> BaseTaskRunner:
        return LoopbackRunner.of(cluster)
