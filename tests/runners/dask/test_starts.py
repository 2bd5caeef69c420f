"""A cluster of the user's that starts calls again by itself, as Dask does by default: each run starts once (D22)."""

import os
import signal
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, Future, LocalCluster

from core_engine import State, flow, task
from runners.dask import DaskTaskRunner
from runners.dask.single_starts import SingleStarts
from tests.support.starts import lines, note, starts
from tests.support.waiting import wait_for

pytestmark = pytest.mark.faults


@pytest.fixture
def default_cluster() -> Iterator[LocalCluster]:
    # A task's definition stays on both workers: Dask would drop one copy after two seconds, without which it could not
    # start the task again.
    keeps_copies = {"distributed.scheduler.active-memory-manager.start": False}
    with dask.config.set(keeps_copies), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    assert cluster.scheduler.allowed_failures > 0
    yield cluster
    cluster.close()


@pytest.fixture(params=[True, False], ids=["plugin", "claims"])
def takes_plugins(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the scheduler takes our plugin; otherwise each start is claimed from the flow's process."""
    if not request.param:

        async def refuse(self: SingleStarts, scheduler: Any) -> None:
            raise RuntimeError("no plugins here")

        monkeypatch.setattr(SingleStarts, "start", refuse)
    return bool(request.param)


@pytest.mark.behaviour("D22", "DASK-12")
@pytest.mark.parametrize("retries", [0, 1])
def test_a_task_that_kills_its_worker_starts_as_often_as_the_runner_allows(
    default_cluster: LocalCluster, takes_plugins: bool, tmp_path: Path, retries: int
) -> None:
    path = tmp_path / "starts"

    @task
    def dies() -> None:
        note(path, "x")
        os.kill(os.getpid(), signal.SIGKILL)

    @flow(task_runner=DaskTaskRunner(cluster=default_cluster, worker_loss_retries=retries))
    def outer() -> State:
        return dies.submit(return_state=True)

    state = outer(return_state=True).result(raise_on_failure=False)

    assert state.is_crashed()
    assert "tcp://" in (state.message or "")
    assert starts(path)["x"] == 1 + retries
    # What was said in the last moment may be lost with the worker.
    assert lines() <= starts(path)


@pytest.mark.behaviour("D22", "I9")
def test_a_finished_task_is_not_executed_again_when_the_worker_with_its_future_dies(
    default_cluster: LocalCluster, takes_plugins: bool, tmp_path: Path
) -> None:
    path, held = tmp_path / "starts", threading.Event()
    scheduler = default_cluster.scheduler

    @task
    def counted() -> int:
        note(path, os.getpid())
        wait_for((tmp_path / "go").exists)
        return os.getpid()

    def keys() -> list[str]:
        return [key for key in list(scheduler.tasks) if key.startswith("counted-") and "definition" not in key]

    def is_gone(key: str) -> bool:
        return key not in scheduler.tasks

    def is_elsewhere(key: str, lost: Any) -> bool:
        # The scheduler's own thread may forget it meanwhile.
        known = scheduler.tasks.get(key)
        return known is None or (known.state == "memory" and lost not in (known.who_has or ()))

    @flow(task_runner=DaskTaskRunner(cluster=default_cluster))
    def outer() -> int:
        future = counted.submit()
        wait_for(path.exists)
        (key,) = keys()
        # Somebody else holds the call, so that Dask keeps it, and makes it again when it is lost.
        with Client(default_cluster, set_as_default=False) as client:
            holder = Future(key, client)
            client._send_to_scheduler({"op": "client-desires-keys", "keys": [key], "client": client.id})
            wait_for(lambda: len(scheduler.tasks[key].who_wants) == 2)
            (tmp_path / "go").touch()
            pid = future.result()
            wait_for(lambda: scheduler.tasks[key].state == "memory")
            (lost,) = scheduler.tasks[key].who_has
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: is_elsewhere(key, lost))
            held.set()
            assert is_gone(key) == takes_plugins
            holder.release()
        return pid

    assert str(outer()) in path.read_text()
    assert held.is_set()
    assert len(path.read_text().split()) == 1
    assert lines() == starts(path)
