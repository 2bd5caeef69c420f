"""Which call goes where and when: clusters that grow and shrink, deeper maps first."""

import logging
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client, LocalCluster

from core_engine import flow, task
from core_engine.tasks import MapOptions
from runners.dask import DaskTaskRunner
from tests.runners.dask.conftest import local_cluster
from tests.support.waiting import wait_for


@task(map_options=MapOptions(batch_size=1))
def meets(folder: Path, x: int, others: int) -> str:
    """Run until as many others run at the same time."""
    from distributed import get_worker

    (folder / str(x)).touch()
    wait_for(lambda: len(list(folder.iterdir())) >= others)
    return str(get_worker().address)


def is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


@pytest.mark.faults
@pytest.mark.behaviour("DASK-7", "D15")
def test_a_cluster_grows_with_what_waits_and_shrinks_afterwards(tmp_path: Path) -> None:
    def workers() -> int:
        return sum(is_worker(child) for child in psutil.Process().children(recursive=True))

    before = workers()
    runner = DaskTaskRunner(
        cluster_kwargs={"n_workers": 0, "threads_per_worker": 1},
        adapt_kwargs={"minimum": 0, "maximum": 3, "interval": "200ms", "wait_count": 2, "target_duration": "50ms"},
    )

    @flow(task_runner=runner)
    def outer() -> set[str]:
        # Three calls that run at once need three workers.
        futures = meets.map(tmp_path, range(3), 3)  # type: ignore[call-overload]
        addresses = {future.result() for future in futures}
        # One stays, which holds what the flow's calls share.
        wait_for(lambda: workers() - before == 1, "the leaving of the workers")
        # They come back for what is submitted then.
        (tmp_path / "again").mkdir()
        for future in meets.map(tmp_path / "again", range(2), 2):  # type: ignore[call-overload]
            assert future.result()
        return addresses

    assert len(outer()) == 3


@pytest.mark.behaviour("D12", "D15")
def test_what_upstreams_made_is_used_up_before_more_is_made(tmp_path: Path) -> None:
    """Depth first: of a chain of maps the last ones end long before the first map has."""
    cluster = local_cluster(n_workers=1)
    order: list[tuple[str, int]] = []
    notes = tmp_path / "order"

    @task(map_options=MapOptions(batch_size=1))
    def make(x: int) -> int:
        threading.Event().wait(0.02)
        note("make", x)
        return x

    @task(map_options=MapOptions(batch_size=1))
    def use(x: int) -> int:
        note("use", x)
        return x

    def note(what: str, x: int) -> None:
        with notes.open("a") as file:
            file.write(f"{what} {x}\n")

    @flow(task_runner=DaskTaskRunner(cluster=cluster))
    def chain() -> int:
        return sum(future.result() for future in use.map(make.map(range(60))))

    try:
        assert chain() == sum(range(60))
    finally:
        cluster.close()
    order = [(what, int(x)) for what, x in map(str.split, notes.read_text().splitlines())]
    waiting, most = 0, 0
    for what, _ in order:
        waiting += 1 if what == "make" else -1
        most = max(most, waiting)
    # As many values wait as calls are on their way, not as the map has.
    assert most < 20


@pytest.mark.behaviour("DASK-15")
def test_an_annotated_priority_comes_before_others(tmp_path: Path) -> None:
    import dask

    cluster = local_cluster(n_workers=1, threads_per_worker=2)
    notes = tmp_path / "order"

    @task
    def holds(name: str) -> None:
        (tmp_path / name).touch()
        wait_for((tmp_path / f"{name} goes").exists)

    @task
    def says(word: str) -> None:
        with notes.open("a") as file:
            file.write(f"{word}\n")

    @flow(task_runner=DaskTaskRunner(cluster=cluster))
    def outer() -> Any:
        for name in ("first", "second"):
            holds.submit(name)
            wait_for((tmp_path / name).exists)
        ordinary = says.submit("ordinary")
        with dask.annotate(priority=100):
            urgent = says.submit("urgent")
        with Client(cluster, set_as_default=False) as client:
            wait_for(lambda: sum(map(len, client.processing().values())) == 4, "the arrival of both")
        # One thread of the two is free, which takes one after the other.
        (tmp_path / "first goes").touch()
        for future in (ordinary, urgent):
            future.wait()
        (tmp_path / "second goes").touch()
        return [ordinary, urgent]

    try:
        outer()
    finally:
        cluster.close()

    assert notes.read_text().split() == ["urgent", "ordinary"]


@pytest.mark.behaviour("DASK-13", "DASK-16")
def test_the_dashboard_is_named(dask_cluster: LocalCluster, caplog: pytest.LogCaptureFixture) -> None:
    @flow(task_runner=DaskTaskRunner(cluster=dask_cluster))
    def outer() -> None: ...

    with caplog.at_level(logging.INFO, logger="core_engine.task_runner.dask"):
        outer()

    assert f"The Dask dashboard is available at {dask_cluster.dashboard_link}" in caplog.text


@pytest.mark.behaviour("DASK-15", "D15")
def test_tasks_that_wait_for_a_resource_keep_no_others_waiting(dask_cluster: LocalCluster) -> None:
    @task(resources={"a resource that is not there": 1})
    def special(x: int) -> int:
        return x

    @task
    def plain(x: int) -> int:
        return x

    @flow(task_runner=DaskTaskRunner(cluster=dask_cluster))
    def outer() -> int:
        waiting = special.map(range(100))
        total = sum(future.result() for future in plain.map(range(100)))
        for future in waiting:
            future.cancel()
        return total

    assert outer(return_state=True).result(raise_on_failure=False) == sum(range(100))
