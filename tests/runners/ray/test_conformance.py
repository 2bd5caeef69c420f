"""The runner for Ray passes the suite that every runner must pass, on each kind of Ray."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core_engine.task_runners import BaseTaskRunner
from core_engine.testing.conformance import TaskRunnerConformance
from runners.ray import RayTaskRunner
from tests.runners.ray.support import RayProcesses, can_connect
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[3]
SUITE = "tests/runners/ray/test_conformance.py::TestRayTaskRunner"


@pytest.mark.behaviour("RAY-1")
class TestRayTaskRunner(TaskRunnerConformance):
    @pytest.fixture
    def task_runner(self, ray_address: str) -> BaseTaskRunner:
        return RayTaskRunner(address=ray_address)


def expect_suite_passes(address: str, timeout_seconds: float) -> None:
    """Run the suite in a process of its own, since a process is connected to one Ray only."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", SUITE],
        cwd=ROOT,
        env={**os.environ, "TEST_RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
    )
    assert done.returncode == 0, done.stdout[-10_000:]
    assert " passed" in done.stdout


@pytest.mark.faults
@pytest.mark.timeout(200)
@pytest.mark.behaviour("RAY-1")
def test_the_suite_passes_on_a_temporary_ray() -> None:
    expect_suite_passes("local", 190)


@pytest.mark.faults
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("ray_client_turn")
@pytest.mark.behaviour("RAY-1")
def test_the_suite_passes_by_ray_client(nodes: RayProcesses) -> None:
    nodes.start_head(num_cpus=2)
    wait_for(lambda: can_connect(nodes.client_address.removeprefix("ray://")))
    expect_suite_passes(nodes.client_address, 150)
