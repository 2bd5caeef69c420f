"""When runs start on workers, and what holds them up: their own inputs, not their neighbours."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core_engine import flow, task
from core_engine.task_runners import BaseTaskRunner
from core_engine.tasks import MapOptions
from tests.support.loopback import LoopbackCluster, LoopbackRunner
from tests.support.waiting import wait_for


@pytest.fixture
def single_worker() -> Iterator[LoopbackCluster]:
    cluster = LoopbackCluster(workers=1)
    yield cluster
    cluster.close()


@pytest.mark.behaviour("D12")
def test_downstream_starts_when_its_item_is_reported_not_when_the_block_ends(
    cluster: LoopbackCluster, tmp_path: Path
) -> None:
    @task(map_options=MapOptions(batch_size=2))
    def upstream(x: int) -> int:
        if x == 1:
            wait_for((tmp_path / "downstream of 0").exists)
        return x

    @task
    def downstream(x: int) -> int:
        (tmp_path / f"downstream of {x}").touch()
        return x * 10

    @flow(task_runner=LoopbackRunner.of(cluster))
    def outer() -> list[int]:
        return [future.result() for future in downstream.map(upstream.map([0, 1]))]

    assert outer() == [0, 10]


@pytest.mark.behaviour("D18")
def test_a_plain_call_of_a_task_runs_in_the_flows_process(task_runner: BaseTaskRunner) -> None:
    @task
    def pid() -> int:
        return os.getpid()

    @flow(task_runner=task_runner)
    def outer() -> tuple[int, int]:
        return pid(), pid.submit().result()

    called, submitted = outer()

    assert called == os.getpid()
    assert submitted != os.getpid()


@pytest.mark.behaviour("D20", "TASK-TIME-1")
def test_runs_go_on_after_one_whose_code_cannot_be_interrupted(single_worker: LoopbackCluster) -> None:
    """On its worker, or on the one that takes its place."""

    @task(timeout_seconds=0.2)
    def stuck() -> None:
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()  # for ever, in C

    @task
    def pid() -> int:
        return os.getpid()

    @flow(task_runner=LoopbackRunner.of(single_worker))
    def outer() -> tuple[str, int]:
        state = stuck.submit(return_state=True)
        return state.name or "", pid.submit().result()

    name, where = outer()

    assert name == "TimedOut"
    assert where != os.getpid()
