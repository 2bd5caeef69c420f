"""A cluster of two workers with one thread each, in a process of its own that all contenders connect to.

Run as ``python -m benchmarks.cluster_hosts KIND``, it prints the cluster's address and lives until its input ends.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contenders.workloads import SLOTS
from benchmarks.processes import END_SECONDS, ROOT, WorkerError, clean_environment

# Ray keeps values in shared memory; more is written to disk.
RAY_STORE_BYTES = 4_000_000_000
# Of the host and of whoever connects to it: Ray's token would have to be handed on, too.
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled"}


@dataclass(slots=True, frozen=True)
class Cluster:
    """A running cluster: ``kind`` is "dask" or "ray", ``host`` the process id of its host."""

    kind: str
    address: str
    host: int


@contextmanager
def running_cluster(kind: str, folder: Path) -> Iterator[Cluster]:
    """Starts a cluster, and ends it afterwards; `folder` is for its log.

    Raises:
        WorkerError: It did not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log_path = folder / "cluster.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.cluster_hosts", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            env={**clean_environment(folder / "home"), **ENVIRONMENT},
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = process.stdout.readline().decode().strip()
        if not address:
            raise WorkerError(f"The cluster of {kind} did not start:\n{log_path.read_text(errors='replace')[-2_000:]}")
        yield Cluster(kind, address, process.pid)
    finally:
        process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def main() -> None:
    """Runs the cluster that the first argument names until the input ends."""
    with {"dask": _dask, "ray": _ray}[sys.argv[1]]() as address:
        print(address, flush=True)
        sys.stdin.read()


@contextmanager
def _dask() -> Iterator[str]:
    import dask
    from distributed import LocalCluster

    make_cluster: Any = LocalCluster
    # As the engine's own temporary clusters: starts are counted by the engine.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        make_cluster(n_workers=SLOTS, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        yield cluster.scheduler_address


@contextmanager
def _ray() -> Iterator[str]:
    import ray

    context = ray.init(
        num_cpus=SLOTS,
        object_store_memory=RAY_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        yield context.address_info["gcs_address"]
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
