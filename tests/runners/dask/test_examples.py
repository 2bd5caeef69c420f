"""The examples on Dask: the same results as in the flow's process, and large arrays that stay on the workers (I6)."""

from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

from core_engine.task_runners import BaseTaskRunner
from runners.dask import DaskTaskRunner
from runners.sequential import SequentialTaskRunner


def received() -> int:
    """Return how many bytes this process has read so far, from anywhere."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("rchar"):
            return int(line.split()[1])
    pytest.skip("The system does not count what a process reads")


@pytest.mark.behaviour("I6", "D12", "DASK-8")
def test_less_than_one_percent_of_large_arrays_passes_the_flows_process(dask_cluster: LocalCluster) -> None:
    from examples.large_arrays import landscape

    tiles, size = 24, 700
    bytes_of_arrays = 2 * tiles * size * size * 8  # as made, and blurred

    expected = landscape.with_options(task_runner=SequentialTaskRunner())(tiles, size, 2)
    on_dask = landscape.with_options(task_runner=DaskTaskRunner(cluster=dask_cluster))
    on_dask(2, 10, 2)  # reads modules, which count as well
    before = received()
    # What came from another worker may lie elsewhere in memory, for which numpy adds in another order.
    assert on_dask(tiles, size, 2) == pytest.approx(expected, rel=1e-9)
    passed = received() - before

    assert passed < bytes_of_arrays / 100, f"{passed:,} of {bytes_of_arrays:,} bytes"


def test_the_census_counts_the_same_as_sequentially(dask_cluster: LocalCluster, tmp_path: Path) -> None:
    from examples.source_census import census

    sources = tmp_path / "sources"
    sources.mkdir()
    for number in range(40):
        (sources / f"file_{number}.py").write_text(f"import os\n\ndef f{number}(x):\n    return x\n" * (1 + number % 5))
    (sources / "broken.py").write_text("def (:\n")

    def count(runner: BaseTaskRunner, name: str) -> Any:
        counted = census.with_options(task_runner=runner, on_completion=None)
        return counted(100, [sources], tmp_path / name)

    assert count(DaskTaskRunner(cluster=dask_cluster), "dask.html") == count(SequentialTaskRunner(), "here.html")
