"""``python -m benchmarks.clusters``: mapped no-ops on a cluster of Dask, recorded durably, against Dask's own map.

Both use the same cluster of two processes with one thread each, in turn; what was recorded is read back after each
round. The cluster and the runner's connection are there before the clock starts, for both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def identity(x: int) -> int:
    return x


def main() -> None:
    """Runs the command line and prints a table of rates and ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clusters", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="items of each map")
    parser.add_argument("--single", type=int, default=1_000, help="items of each map with batch_size=1")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["CORE_ENGINE_HOME"] = str(Path(home) / "home")
        os.environ["CORE_ENGINE_LOGGING_LEVEL"] = "ERROR"
        measure(options.count, options.single, options.rounds)


def measure(count: int, single: int, rounds: int) -> None:
    import dask
    from distributed import Client, LocalCluster

    from core_engine.tasks import MapOptions, task

    plain = task(identity)
    alone = plain.with_options(map_options=MapOptions(batch_size=1))
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    client = Client(cluster, set_as_default=False)
    contenders: dict[str, Callable[[], float]] = {
        f"raw client.map + gather, {count:,}": lambda: raw(client, count),
        f"recorded map, {count:,}": lambda: recorded(cluster, plain, count),
        f"raw client.map + gather, {single:,}": lambda: raw(client, single),
        f"recorded map, batch_size=1, {single:,}": lambda: recorded(cluster, alone, single),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    try:
        for number in range(rounds + 1):
            for name, contender in contenders.items():
                took = contender()
                if number:  # the first round warms up
                    seconds[name].append(took)
    finally:
        client.close()
        cluster.close()
    report(seconds, [count, count, single, single])


def raw(client: Any, count: int) -> float:
    started = time.perf_counter()
    results = client.gather(client.map(identity, range(count), pure=False))
    took = time.perf_counter() - started
    assert results == list(range(count))
    return took


def recorded(cluster: Any, mapped: Any, count: int) -> float:
    """Returns how long the map took until every result was returned and durable; checks what is in the store."""
    from core_engine import flow, get_client
    from core_engine.concurrency.waiting import step
    from runners.dask import DaskTaskRunner

    runs: list[Any] = []

    @flow(task_runner=DaskTaskRunner(cluster=cluster), name=f"benchmark-{time.monotonic_ns()}")
    def benchmark() -> float:
        started = time.perf_counter()
        futures = mapped.map(range(count))
        results = [future.result() for future in futures]
        took = time.perf_counter() - started
        assert results == list(range(count))
        runs.append(futures[0].task_run.flow_run_id)
        return took

    took: float = benchmark()
    counts = {one.state_name: one.count for one in step(_counts(get_client(), runs[0]))}
    assert counts == {"Completed": count}, counts
    return took


async def _counts(client: Any, flow_run_id: Any) -> Any:
    await client.journal_committed(client.journal.position)
    return client.store.count_task_runs(flow_run_id)


def report(seconds: dict[str, list[float]], counts: list[int]) -> None:
    print(f"{'':45} {'median s':>9} {'spread':>15} {'per second':>11} {'rate to raw':>12}")
    names = list(seconds)
    for number, name in enumerate(names):
        times = sorted(seconds[name])
        median = statistics.median(times)
        other = statistics.median(seconds[names[number - number % 2]])
        spread = f"{times[0]:.2f} to {times[-1]:.2f}"
        print(f"{name:45} {median:9.2f} {spread:>15} {counts[number] / median:11,.0f} {other / median:12.2f}")


if __name__ == "__main__":
    main()
