"""Flows on a cluster of Dask."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from distributed import Client, LocalCluster
from distributed.comm import tcp

from core_engine import flow, task
from runners.dask import DaskTaskRunner
from tests.support.cluster_tests.flows import FlowsOnACluster
from tests.support.dask_processes import expect_clean


class TestFlows(FlowsOnACluster):
    @pytest.fixture
    def bytes_received(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
        """Count what Dask's connections bring to this process, which has the scheduler too."""
        came = 0
        from_frames = tcp.from_frames

        async def counted(frames: Any, *arguments: Any, **options: Any) -> Any:
            nonlocal came
            came += sum(map(len, frames))
            return await from_frames(frames, *arguments, **options)

        monkeypatch.setattr(tcp, "from_frames", counted)
        return lambda: came

    @pytest.fixture(autouse=True)
    def left_clean(self, dask_cluster: LocalCluster) -> Iterator[None]:
        yield
        with Client(dask_cluster, set_as_default=False) as client:
            expect_clean(client)


@pytest.mark.behaviour("D31")
def test_large_values_that_nobody_can_ask_for_leave_the_cluster(dask_cluster: LocalCluster) -> None:
    @task
    def make(x: int) -> bytes:
        return bytes([x]) * 200_000

    def kept() -> list[str]:
        return [key for key in map(str, list(dask_cluster.scheduler.tasks)) if key.startswith("core-engine-value-")]

    @flow(task_runner=DaskTaskRunner(cluster=dask_cluster))
    def forgetful() -> tuple[bool, list[str]]:
        for number in range(4):
            future = make.submit(number)
            future.wait()
            was_there = bool(kept())
            del future
        deadline = time.monotonic() + 30
        while kept() and time.monotonic() < deadline:
            time.sleep(0.05)
        return was_there, kept()

    assert forgetful() == (True, [])
