"""Runs whose code goes on after their end: it is interrupted, and at last its worker is killed (D20)."""

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core_engine import flow, task
from core_engine.remote.commands import Commands
from core_engine.task_runners import BaseTaskRunner
from core_engine.tasks import MapOptions
from tests.support.loopback import LoopbackCluster, LoopbackRunner
from tests.support.waiting import wait_for

PATIENCE = 20.0


@pytest.fixture
def cluster() -> Iterator[LoopbackCluster]:
    """A cluster of the test's own: workers are killed."""
    cluster = LoopbackCluster()
    yield cluster
    cluster.close()


def hold_everything() -> None:
    """Sit in C code, without letting any other thread of the process run Python."""
    ctypes.PyDLL(None).sleep(300)


@pytest.mark.behaviour("D20", "D22")
def test_what_a_killed_worker_had_not_begun_is_executed_elsewhere(cluster: LoopbackCluster, tmp_path: Path) -> None:
    @task(map_options=MapOptions(batch_size=3))
    def stuck(x: int) -> int:
        (tmp_path / f"{x}-{os.getpid()}").touch()
        if x == 0:
            wait_for((tmp_path / "reported").exists)
            (tmp_path / "begun").touch()
            hold_everything()
        return x

    @flow(task_runner=LoopbackRunner.of(cluster))
    def outer() -> list[Any]:
        futures = stuck.map(range(3))
        wait_for(lambda: futures[0].get_state().is_running())
        (tmp_path / "reported").touch()
        wait_for((tmp_path / "begun").exists)
        futures[0].cancel()
        return futures

    states = outer(return_state=True).result(raise_on_failure=False)

    assert [state.name for state in states] == ["Cancelled", "Completed", "Completed"]
    assert sorted(path.name[0] for path in tmp_path.glob("*-*")) == ["0", "1", "2"]


@pytest.mark.behaviour("D20")
def test_a_run_that_is_cancelled_before_its_start_was_heard_of_is_ended_too(
    cluster: LoopbackCluster, tmp_path: Path
) -> None:
    @task
    def stubborn() -> None:
        (tmp_path / f"pid-{os.getpid()}").touch()
        # Once is not enough, as where the interrupt comes while the engine's own code runs.
        with contextlib.suppress(BaseException):
            time.sleep(0.01)
            while True:
                time.sleep(0.01)
        try:
            while True:
                time.sleep(0.01)
        finally:
            (tmp_path / "ended").touch()

    @flow(task_runner=LoopbackRunner.of(cluster))
    def outer() -> list[Any]:
        future = stubborn.submit()
        wait_for(lambda: any(tmp_path.glob("pid-*")))
        future.cancel()
        wait_for((tmp_path / "ended").exists)
        return [future]

    (state,) = outer(return_state=True).result(raise_on_failure=False)

    assert state.is_cancelled()


@pytest.mark.behaviour("D20", "D19")
def test_runs_beside_one_that_does_not_end_go_on(cluster: LoopbackCluster, tmp_path: Path) -> None:
    import asyncio

    @task(map_options=MapOptions(batch_size=2))
    async def side_by_side(x: int) -> int:
        (tmp_path / str(x)).touch()
        deadline = time.monotonic() + PATIENCE
        while not (tmp_path / "go").exists() and time.monotonic() < deadline:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return x

    @flow(task_runner=LoopbackRunner.of(cluster))
    def outer() -> list[Any]:
        futures: Any = side_by_side.map(range(2))
        wait_for(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists())
        began = time.monotonic()
        futures[0].cancel()
        # Longer than the worker of one that is alone would live.
        wait_for(lambda: time.monotonic() > began + 1.5)
        (tmp_path / "go").touch()
        return futures

    states = outer(return_state=True).result(raise_on_failure=False)

    assert [state.name for state in states] == ["Cancelled", "Completed"]


@pytest.mark.behaviour("D23")
def test_a_block_whose_runs_were_all_cancelled_is_ended_as_one(
    task_runner: BaseTaskRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int | None] = []
    send = Commands._send

    def count(self: Commands, worker: str, block: int, attempt: str, what: str, position: int | None = None) -> None:
        if what == "TaskRunCancelled":
            sent.append(position)
        send(self, worker, block, attempt, what, position)

    monkeypatch.setattr(Commands, "_send", count)

    @task(map_options=MapOptions(batch_size=300))
    def item(x: int) -> int:
        if x == 0:
            (tmp_path / "begun").touch()
            wait_for((tmp_path / "go").exists)
        return x

    @flow(task_runner=task_runner)
    def outer() -> list[Any]:
        futures = item.map(range(300))
        wait_for((tmp_path / "begun").exists)
        for future in futures[1:]:
            future.cancel()
        (tmp_path / "go").touch()
        return futures

    states = outer(return_state=True).result(raise_on_failure=False)

    assert [state.name for state in states] == ["Completed"] + 299 * ["Cancelled"]
    assert len(sent) <= 20
