"""The runner for Ray passes the suite that every runner must pass."""

import pytest

from core_engine.task_runners import BaseTaskRunner
from core_engine.testing.conformance import TaskRunnerConformance
from runners.ray import RayTaskRunner


@pytest.mark.behaviour("RAY-1")
class TestRayTaskRunner(TaskRunnerConformance):
    @pytest.fixture
    def task_runner(self, ray_address: str) -> BaseTaskRunner:
        return RayTaskRunner(address=ray_address)
