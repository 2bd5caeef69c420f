"""The same flow for this engine and for others: only the imports differ. Runs in the environment of each of them.

Of others only the public interface is used. Nothing here may import more than the standard library at the top.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

from benchmarks.contenders.base import Contender, Round

# How long the store may take to hold what the flow has done.
SETTLE_SECONDS = 60.0
POLL_SECONDS = 0.05
MOST_AT_ONCE = 200

DASK_CLUSTER = {"n_workers": 2, "threads_per_worker": 1}
RAY_CLUSTER = {"num_cpus": 2}

# Seconds from the map to the last result, of each flow: what a temporary cluster takes to start is not in it.
_mapped: list[float] = []


class PeerFlow(Contender):
    """A flow that maps a no-op, takes every result, and is read back.

    Parameters:
        engine: "core_engine" or "prefect".
        runner: "threads", "sequential", "dask" or "ray"; clusters are temporary ones, of two workers.
    """

    def __init__(self, engine: str, runner: str) -> None:
        self._engine = engine
        self._flow = _core_engine_flow(runner) if engine == "core_engine" else _prefect_flow(runner)

    def run(self, round: Round) -> None:
        self._state = self._flow(round.size, return_state=True)

    def settle(self, round: Round) -> None:
        """Waits until the store holds the last task run as Completed."""
        flow_run_id = self._state.state_details.flow_run_id
        deadline = time.monotonic() + SETTLE_SECONDS
        while asyncio.run(self._read(flow_run_id, 1, round.size - 1)) == 0 and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def report(self, round: Round) -> dict[str, Any]:
        flow_run_id = self._state.state_details.flow_run_id
        completed = 0
        while found := asyncio.run(self._read(flow_run_id, MOST_AT_ONCE, completed)):
            completed += found
        return {"state": self._state.name, "completed": completed, "version": self._version(), "mapped": _mapped[-1]}

    async def _read(self, flow_run_id: UUID, limit: int, offset: int) -> int:
        """Returns how many completed task runs of the flow run there are after `offset`, up to `limit`."""
        read = _read_core_engine if self._engine == "core_engine" else _read_prefect
        return len(await read(flow_run_id, limit, offset))

    def _version(self) -> str:
        from importlib.metadata import version

        return version("core-engine" if self._engine == "core_engine" else "prefect")


async def _read_core_engine(flow_run_id: UUID, limit: int, offset: int) -> list[Any]:
    from core_engine import get_client

    async with get_client() as client:
        return list(await client.read_task_runs(flow_run_id, state_names=["Completed"], limit=limit, offset=offset))


async def _read_prefect(flow_run_id: UUID, limit: int, offset: int) -> list[Any]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter

    async with get_client() as client:
        return list(
            await client.read_task_runs(
                flow_run_filter=FlowRunFilter(id={"any_": [flow_run_id]}),
                task_run_filter=TaskRunFilter(state={"type": {"any_": ["COMPLETED"]}}),
                limit=limit,
                offset=offset,
            )
        )


def _core_engine_flow(runner: str) -> Any:
    from core_engine import flow, task

    if runner == "dask":
        from runners.dask import DaskTaskRunner

        return _flow(flow, task, DaskTaskRunner(cluster_kwargs=DASK_CLUSTER))
    if runner == "ray":
        from runners.ray import RayTaskRunner

        return _flow(flow, task, RayTaskRunner(init_kwargs=RAY_CLUSTER))
    return _flow(flow, task, "concurrent" if runner == "threads" else "sequential")


def _prefect_flow(runner: str) -> Any:
    from prefect import flow, task, task_runners

    if runner == "sequential":
        return _flow(flow, task, task_runners.SequentialTaskRunner())
    if runner == "dask":
        from prefect_dask import DaskTaskRunner

        return _flow(flow, task, DaskTaskRunner(cluster_kwargs=DASK_CLUSTER))
    if runner == "ray":
        from prefect_ray import RayTaskRunner

        return _flow(flow, task, RayTaskRunner(init_kwargs=RAY_CLUSTER))
    # What the third version calls the runner on threads, and the second.
    names = ("ThreadPoolTaskRunner", "ConcurrentTaskRunner")
    kind = next(kind for name in names if (kind := getattr(task_runners, name, None)) is not None)
    return _flow(flow, task, kind())


def _flow(flow: Any, task: Any, task_runner: Any) -> Any:
    @task
    def noop(number: int) -> None:
        """Does nothing."""

    @flow(task_runner=task_runner)
    def mapped(size: int) -> str:
        start = time.perf_counter()
        for future in noop.map(range(size)):
            future.result()
        _mapped.append(time.perf_counter() - start)
        return "done"

    return mapped
