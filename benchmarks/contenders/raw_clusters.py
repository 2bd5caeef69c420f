"""Dask and Ray as they are, on the clusters that the engine's flows are measured on. Nothing is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter_ns
from typing import Any

from benchmarks.contenders import workloads
from benchmarks.contenders.base import Contender, Round
from benchmarks.watching import Memory, received_bytes, watched_memory


class _Raw(Contender):
    """Parameters as ``EngineOnCluster``; `case` is the name of the engine's flow that does the same."""

    def __init__(self, case: str, kind: str, address: str, host: int) -> None:
        self._case = case
        self._host = host
        self._connect(address)

    def prepare(self, round: Round) -> None:
        ready_workers()

    def run(self, round: Round) -> None:
        with watched_in_chains(self._case, self._host) as memory:
            before, start = received_bytes(), perf_counter_ns()
            value = self._work(round.size)
            self._report = {
                "times_ns": [perf_counter_ns() - start],
                "received_bytes": received_bytes() - before,
                "value": value,
            }
        self._report["cluster_peak_bytes"] = memory.peak

    def report(self, round: Round) -> dict[str, Any]:
        return self._report

    def _work(self, size: int) -> int:
        case = self._case.removesuffix(", singly")
        if case == "identities":
            return sum(self._mapped(workloads.identity, range(size)))
        if case == "one after another":
            return sum(self._one_by_one(workloads.identity, size))
        if case == "chain of maps":
            return sum(self._chained((workloads.make_value, workloads.change_value, workloads.first_of_value), size))
        seconds = workloads.durations(case, size)
        assert self._mapped(workloads.nap, seconds) == seconds
        return len(seconds)

    def _connect(self, address: str) -> None:
        raise NotImplementedError

    def _mapped(self, function: Any, items: Any) -> list[Any]:
        raise NotImplementedError

    def _one_by_one(self, function: Any, size: int) -> Iterator[Any]:
        raise NotImplementedError

    def _chained(self, functions: Any, size: int) -> list[Any]:
        raise NotImplementedError


class RawDask(_Raw):
    """``client.map`` and ``gather``."""

    def _connect(self, address: str) -> None:
        from distributed import Client

        self._client: Any = Client(address, set_as_default=False)

    def _mapped(self, function: Any, items: Any) -> list[Any]:
        return list(self._client.gather(self._client.map(function, items, pure=False)))

    def _one_by_one(self, function: Any, size: int) -> Iterator[Any]:
        return (self._client.submit(function, number, pure=False).result() for number in range(size))

    def _chained(self, functions: Any, size: int) -> list[Any]:
        items: Any = range(size)
        for function in functions:
            items = self._client.map(function, items, pure=False)
        return list(self._client.gather(items))


class RawRay(_Raw):
    """``remote`` and ``get``."""

    def _connect(self, address: str) -> None:
        self._ray: Any = connect_ray(address)

    def _mapped(self, function: Any, items: Any) -> list[Any]:
        remote = self._ray.remote(num_cpus=1)(function)
        return list(self._ray.get([remote.remote(item) for item in items]))

    def _one_by_one(self, function: Any, size: int) -> Iterator[Any]:
        remote = self._ray.remote(num_cpus=1)(function)
        return (self._ray.get(remote.remote(number)) for number in range(size))

    def _chained(self, functions: Any, size: int) -> list[Any]:
        items: Any = range(size)
        for function in functions:
            remote = self._ray.remote(num_cpus=1)(function)
            items = [remote.remote(item) for item in items]
        return list(self._ray.get(items))


def watched_in_chains(case: str, host: int) -> AbstractContextManager[Memory]:
    """Watches the memory of a host's children where it is asked for: watching takes a good part of a core."""
    return watched_memory(host) if case == "chain of maps" else nullcontext(Memory())


def ready_workers() -> None:
    """Has Ray start this process's workers, which end whenever another process's take their place."""
    import ray

    if ray.is_initialized():
        together = ray.remote(num_cpus=1)(workloads.load_and_nap)
        ray.get([together.remote(0.1) for _ in range(2 * workloads.SLOTS)])


def connect_ray(address: str) -> Any:
    """Connects this process to a Ray that runs; returns the module."""
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    return ray
