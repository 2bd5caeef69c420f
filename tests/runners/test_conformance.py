"""The runners of this process pass the suite that every runner must pass."""

import pytest

from core_engine.task_runners import BaseTaskRunner
from core_engine.testing.conformance import TaskRunnerConformance
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner


class TestSequentialTaskRunner(TaskRunnerConformance):
    @pytest.fixture
    def task_runner(self) -> BaseTaskRunner:
        return SequentialTaskRunner()


class TestConcurrentTaskRunner(TaskRunnerConformance):
    @pytest.fixture
    def task_runner(self) -> BaseTaskRunner:
        return ConcurrentTaskRunner()


class TestConcurrentTaskRunnerWithFewWorkers(TaskRunnerConformance):
    @pytest.fixture
    def task_runner(self) -> BaseTaskRunner:
        return ConcurrentTaskRunner(max_workers=2)
