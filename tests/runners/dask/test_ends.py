"""Task and flow runs on Dask that are cancelled, or whose time is over, whatever their code does (D20)."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from core_engine import State, flow, get_client, task
from core_engine.concurrency.waiting import step
from runners.dask import DaskTaskRunner
from tests.runners.dask.conftest import local_cluster
from tests.support.dask_processes import PATIENCE, expect_clean, wait_for

WAYS = ("awaits", "sleeps", "computes", "blocks")
# A second is promised; the machine of the tests may be busy.
SOON = 5.0


def keep_busy(way: str, begun: Path) -> None:
    """Go on for long: in Python, or in C code that nothing interrupts."""
    begun.touch()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if way == "sleeps":
            time.sleep(0.01)
        elif way == "blocks":
            subprocess.run([sys.executable, "-c", "import time; time.sleep(3)"], check=True)
            return


async def keep_waiting(begun: Path) -> None:
    import anyio

    await anyio.Path(begun).touch()
    await anyio.sleep(PATIENCE)


def busy(way: str, **options: Any) -> Any:
    """Return a task that goes on for long, to be given the path of a file that it touches first."""
    if way == "awaits":
        return task(keep_waiting, **options)

    @task(**options)
    def goes_on(begun: Path) -> None:
        keep_busy(way, begun)

    return goes_on


@task
def small() -> int:
    return os.getpid()


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
        asked = time.monotonic()
        future.cancel()
        future.wait()
        return time.monotonic() - asked, [future, small.submit()]

    seconds, states = outer(return_state=True).result(raise_on_failure=False)

    assert [state.name for state in states] == ["Cancelled", "Completed"]
    assert seconds < SOON
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
    # The one thread of the worker was free at once.
    assert seconds < 3 if way == "blocks" else seconds < SOON
    expect_idle(single_worker)


@pytest.mark.behaviour("D20", "D25")
@pytest.mark.parametrize("way", WAYS)
def test_a_cancelled_flow_run_is_cancelled_with_its_task_runs(
    single_worker: LocalCluster, tmp_path: Path, way: str
) -> None:
    ids: list[Any] = []
    times: list[float] = []

    @flow(task_runner=DaskTaskRunner(cluster=single_worker))
    def outer() -> Any:
        from core_engine.context import FlowRunContext

        context = FlowRunContext.get()
        assert context is not None
        ids.append(context.flow_run.id)
        futures = [busy(way).submit(tmp_path / "begun"), small.submit()]
        return [future.result() for future in futures]

    def cancel() -> None:
        wait_for((tmp_path / "begun").exists)
        times.append(time.monotonic())
        step(get_client().cancel_flow_run(ids[0]))

    thread = threading.Thread(target=cancel)
    thread.start()
    state: State = outer(return_state=True)
    times.append(time.monotonic())
    thread.join()

    assert state.is_cancelled()
    assert [run.state_name for run in step(get_client().read_task_runs(ids[0]))] == ["Cancelled"] * 2
    assert times[1] - times[0] < 2 * SOON
    expect_idle(single_worker)
