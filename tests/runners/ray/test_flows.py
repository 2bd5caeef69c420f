"""Flows on Ray."""

import os
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from core_engine import flow, get_run_logger, task
from core_engine.settings import temporary_settings
from core_engine.task_runners import BaseTaskRunner
from core_engine.tasks import MapOptions
from runners.ray import RayTaskRunner
from tests.runners.ray.support import messages
from tests.support.cluster_tests.flows import FlowsOnACluster
from tests.support.waiting import wait_for


class TestFlows(FlowsOnACluster):
    @pytest.fixture
    def bytes_received(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
        """Count what Ray gives to this process; it may lie in memory that both share, where nothing is read."""
        import ray

        given = 0
        get = ray.get

        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal given
            value = get(*arguments, **options)
            given += len(pickle.dumps(value))
            return value

        monkeypatch.setattr(ray, "get", counted)
        return lambda: given


@pytest.mark.behaviour("RAY-4")
def test_a_subflow_with_a_runner_of_its_own_and_the_outer_flow_share_one_ray(task_runner: BaseTaskRunner) -> None:
    @task
    def double(x: int) -> int:
        return 2 * x

    @flow(task_runner=RayTaskRunner())
    def inner(x: int) -> int:
        return double.submit(x).result()

    @flow(task_runner=task_runner)
    def outer() -> list[int]:
        first = double.submit(1)
        return [inner(first), double.submit(first).result()]

    assert outer() == [4, 4]


@pytest.mark.behaviour("D28")
def test_two_flows_at_once_log_each_by_its_own_level(
    task_runner: BaseTaskRunner, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    @task
    def says(name: str, other: str) -> None:
        (tmp_path / name).touch()
        wait_for((tmp_path / other).exists)
        logger = get_run_logger()
        logger.debug("debug of %s", name)
        logger.error("error of %s", name)

    @flow(task_runner=task_runner)
    def outer(name: str, other: str) -> Any:
        return [says.submit(name, other)]

    def run(level: str, name: str, other: str) -> list[str]:
        with temporary_settings({"LOGGING_LEVEL": level}):
            (state,) = outer(name, other, return_state=True).result()
        return [line for line in messages(state.state_details.flow_run_id) if " of " in line]

    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(run, "DEBUG", "a", "b"), threads.submit(run, "ERROR", "b", "a")]
        stored = [one.result() for one in asked]

    assert stored == [["debug of a", "error of a"], ["error of b"]]
    shown = capfd.readouterr().err
    assert [shown.count(line) for line in ("error of a", "error of b")] == [1, 1]


@pytest.mark.faults
@pytest.mark.behaviour("D20")
@pytest.mark.parametrize("size", [1, 2])
def test_a_worker_that_cannot_be_interrupted_is_replaced_when_the_flow_ends(
    task_runner: BaseTaskRunner, tmp_path: Path, size: int
) -> None:
    @task(map_options=MapOptions(batch_size=size))
    def stuck(x: int) -> None:
        (tmp_path / f"pid-{os.getpid()}").touch()
        time.sleep(300)

    @flow(task_runner=task_runner)
    def outer() -> list[Any]:
        futures = stuck.map(range(size))
        wait_for(lambda: any(tmp_path.glob("pid-*")))
        for future in futures:
            future.cancel()
        return futures

    started = time.monotonic()
    states = outer(return_state=True).result(raise_on_failure=False)

    assert all(state.is_cancelled() for state in states)
    assert time.monotonic() - started < 30
    stuck_in = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in stuck_in))
