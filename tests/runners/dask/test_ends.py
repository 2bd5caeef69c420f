"""Task and flow runs on Dask that are cancelled, or whose time is over, whatever their code does (D20)."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from core_engine import flow, get_client, get_run_logger, task
from core_engine.concurrency.waiting import step
from core_engine.remote.reporting import pulse
from runners.dask import DaskTaskRunner
from tests.runners.dask.conftest import local_cluster
from tests.support.busy import WAYS, busy, cancelled_while_busy, small, times_of
from tests.support.dask_processes import PATIENCE, expect_clean, leftovers
from tests.support.promptness import soon
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def single_worker() -> Iterator[LocalCluster]:
    """A cluster of one worker with one thread: it serves others only when the thread is free."""
    cluster = local_cluster(n_workers=1)
    yield cluster
    cluster.close()


def expect_idle(cluster: LocalCluster) -> None:
    with Client(cluster, set_as_default=False) as client:
        expect_clean(client)
        assert client.submit(sum, [1, 2], pure=False).result(timeout=PATIENCE) == 3


@pytest.mark.behaviour("D20", "DASK-12")
@pytest.mark.parametrize("way", WAYS)
def test_a_cancelled_task_run_is_cancelled_within_a_moment(
    single_worker: LocalCluster, tmp_path: Path, way: str
) -> None:
    @flow(task_runner=DaskTaskRunner(cluster=single_worker))
    def outer() -> Any:
        future = busy(way).submit(tmp_path / "begun")
        wait_for((tmp_path / "begun").exists)
        asked = time.time()
        future.cancel()
        return asked, [future, small.submit()]

    asked, states = outer(return_state=True).result(raise_on_failure=False)

    assert [state.name for state in states] == ["Cancelled", "Completed"]
    assert times_of(states[0].state_details.task_run_id)["Cancelled"] - asked < soon()
    expect_idle(single_worker)


@pytest.mark.behaviour("D20", "RUN-10", "TASK-TIME-1")
@pytest.mark.parametrize("way", WAYS)
def test_a_task_run_over_its_limit_is_timed_out_and_its_worker_serves_others(
    single_worker: LocalCluster, tmp_path: Path, way: str
) -> None:
    @flow(task_runner=DaskTaskRunner(cluster=single_worker))
    def outer() -> Any:
        future = busy(way, timeout_seconds=0.5).submit(tmp_path / "begun")
        future.wait()
        ended = time.monotonic()
        other = small.submit()
        other.wait()
        return time.monotonic() - ended, [future, other]

    seconds, states = outer(return_state=True).result(raise_on_failure=False)

    assert [state.name for state in states] == ["TimedOut", "Completed"]
    times = times_of(states[0].state_details.task_run_id)
    assert 0.5 <= times["TimedOut"] - times["Running"] < 0.5 + soon()
    # The one thread of the worker was free at once.
    assert seconds < soon(3)
    expect_idle(single_worker)


@pytest.mark.behaviour("D20", "D25")
@pytest.mark.parametrize("way", WAYS)
def test_a_cancelled_flow_run_is_cancelled_with_its_task_runs(
    single_worker: LocalCluster, tmp_path: Path, way: str
) -> None:
    state, id, asked = cancelled_while_busy(DaskTaskRunner(cluster=single_worker), way, tmp_path)

    assert state.is_cancelled()
    assert [run.state_name for run in step(get_client().read_task_runs(id))] == ["Cancelled"] * 2
    for run in step(get_client().read_task_runs(id)):
        assert times_of(run.id)["Cancelled"] - asked < soon()
    assert times_of(id)["Cancelled"] - asked < soon()
    expect_idle(single_worker)


def has_fallen_silent() -> bool:
    """Return whether no call of this worker process reports any more: to be run there."""
    return all(block._report._is_silent for block in list(pulse._blocks))  # type: ignore[attr-defined]


@pytest.mark.behaviour("D20", "D23")
def test_what_code_that_goes_on_says_after_the_flow_is_not_kept_in_the_scheduler(
    single_worker: LocalCluster, tmp_path: Path
) -> None:
    @task
    def goes_on() -> None:
        (tmp_path / "begun").touch()
        while not (tmp_path / "over").exists():
            with contextlib.suppress(BaseException):
                get_run_logger().info("still here")
                time.sleep(0.001)

    @flow(task_runner=DaskTaskRunner(cluster=single_worker))
    def outer() -> Any:
        future = goes_on.submit()
        wait_for((tmp_path / "begun").exists)
        future.cancel()
        return [future]

    (state,) = outer(return_state=True).result(raise_on_failure=False)
    with Client(single_worker, set_as_default=False) as client:
        wait_for(lambda: all(client.run(has_fallen_silent).values()))
        (tmp_path / "over").touch()
        # What the worker tells the scheduler arrives in order.
        assert client.submit(sum, [1, 2], pure=False).result(timeout=PATIENCE) == 3
        left = client.run_on_scheduler(leftovers)

    assert state.is_cancelled()
    assert left["messages"] == []
