"""The engine, as a user calls it: a flow in a home of its own for each round."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.contenders import flows
from benchmarks.contenders.base import Contender, Round
from benchmarks.contenders.cluster_flows import received
from benchmarks.contenders.raw_clusters import connect_ray, ready_workers, watched_in_chains
from benchmarks.measuring import resident_bytes
from core_engine.backend import open_backend
from core_engine.settings import temporary_settings
from core_engine.task_runners import get_task_runner


def home_of(folder: Path) -> Path:
    """Returns the home that a round in `folder` has."""
    return folder / "home"


class _InHome(Contender):
    def prepare(self, round: Round) -> None:
        self._stack = ExitStack()
        home = home_of(round.folder)
        home.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(temporary_settings({"HOME": home}))
        self._backend = open_backend()

    def settle(self, round: Round) -> None:
        self._backend.journal.flush()

    def close(self, round: Round) -> None:
        self._backend.close()
        self._stack.close()


class EngineFlow(_InHome):
    """One of the flows of ``flows.CASES``.

    Parameters:
        case: Its name there.
        runner: The name of a task runner, or one.
    """

    def __init__(self, case: str, runner: Any) -> None:
        self._case = flows.CASES[case]
        self._flow = self._case.flow.with_options(task_runner=runner)

    def prepare(self, round: Round) -> None:
        super().prepare(round)
        flows.forget()
        if self._case.prepare is not None:
            self._case.prepare(self._flow, round.size)
            self._backend.journal.flush()

    def run(self, round: Round) -> None:
        called = self._flow(round.size, return_state=True)
        self._state = asyncio.run(called) if self._flow.isasync else called

    def report(self, round: Round) -> dict[str, Any]:
        return {
            "flow_run_id": str(self._state.state_details.flow_run_id),
            "value": self._state.result(raise_on_failure=False),
            "times_ns": list(flows.times_ns),
        }

    def close(self, round: Round) -> None:
        del self._state
        super().close(round)


class EngineOnCluster(EngineFlow):
    """One of the flows on a cluster that runs already.

    Parameters:
        case: Its name.
        kind: "dask" or "ray".
        address: Where the cluster is.
        host: Process id of the cluster's host, whose children are watched.
    """

    def __init__(self, case: str, kind: str, address: str, host: int) -> None:
        if kind == "ray":
            # As the bare contender: a process that connects anew has to wait for workers of its own.
            connect_ray(address)
        runner: Any = get_task_runner(kind)
        super().__init__(case, runner(address=address))
        self._case_name = case
        self._host = host

    def prepare(self, round: Round) -> None:
        super().prepare(round)
        ready_workers()

    def run(self, round: Round) -> None:
        with watched_in_chains(self._case_name, self._host) as memory:
            super().run(round)
        self._memory = memory

    def report(self, round: Round) -> dict[str, Any]:
        return {**super().report(round), "cluster_peak_bytes": self._memory.peak, "received_bytes": received[0]}


class EngineCommits(EngineFlow):
    """One process of many on a file: single submits, each of which is committed before its result is seen."""

    def __init__(self) -> None:
        super().__init__("one_by_one", "concurrent")
        self._commit_times: list[int] = []

    def prepare(self, round: Round) -> None:
        super().prepare(round)
        self._commit_times.clear()
        store = self._backend.store
        apply = store.apply

        def timed(entries: Any) -> None:
            start = time.perf_counter_ns()
            apply(entries)
            self._commit_times.append(time.perf_counter_ns() - start)

        store.apply = timed  # type: ignore[method-assign]

    def report(self, round: Round) -> dict[str, Any]:
        return {**super().report(round), "commit_times_ns": list(self._commit_times)}


class EngineMemory(_InHome):
    """What mapped tasks take in the flow's process. Each round needs a process of its own.

    Parameters:
        moment: "pending": all wait for an upstream; "finished": all have ended, and the flow holds their futures;
            "dropped": all have ended, and nobody holds a future.
        traced: Whether to count what Python allocates, rather than what the process occupies.
    """

    def __init__(self, moment: str, traced: bool) -> None:
        self._moment = moment
        self._traced = traced

    def run(self, round: Round) -> None:
        flows.mapped(1_000)
        if self._traced:
            import tracemalloc

            tracemalloc.start()
        self._grown, self._state = _measured_flow(round.size, self._moment, self._occupied)

    def _occupied(self) -> int:
        self._backend.journal.flush()
        gc.collect()
        if not self._traced:
            return resident_bytes()
        import tracemalloc

        return tracemalloc.get_traced_memory()[0]

    def report(self, round: Round) -> dict[str, Any]:
        return {
            "bytes_per_task": self._grown / round.size,
            "flow_run_id": str(self._state.state_details.flow_run_id),
            "value": "done",
        }


def _measured_flow(size: int, moment: str, occupied: Any) -> tuple[int, Any]:
    """Runs a flow that maps `size` no-ops, and returns by how much `occupied` grew at the `moment`; and its state."""
    from core_engine import flow, task

    open_gate = threading.Event()
    grown: list[int] = []

    @task
    def gate() -> None:
        open_gate.wait()

    @flow(name="measured-memory", task_runner="concurrent")
    def measured() -> str:
        upstream = gate.submit()
        if moment != "pending":
            open_gate.set()
            upstream.wait()
        before = occupied()
        futures = flows.noop.map(range(size), wait_for=[upstream] if moment == "pending" else None)
        if moment != "pending":
            for future in futures:
                future.wait()
            del future
        if moment == "dropped":
            del futures
        grown.append(occupied() - before)
        open_gate.set()
        return "done"

    state = measured(return_state=True)
    return grown[0], state
