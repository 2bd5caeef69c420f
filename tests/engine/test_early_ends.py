"""What is promised of runs that end early, on the runners of this process."""

import pytest

from core_engine.task_runners import BaseTaskRunner
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner
from tests.support.early_ends import EarlyEnds


class TestEarlyEnds(EarlyEnds):
    @pytest.fixture(params=[SequentialTaskRunner, ConcurrentTaskRunner], ids=["sequential", "concurrent"])
    def task_runner(self, request: pytest.FixtureRequest) -> BaseTaskRunner:
        return request.param()
