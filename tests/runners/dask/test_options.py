"""What a DaskTaskRunner takes, and which clusters it makes, finds and closes."""

import logging
import pickle
import warnings
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from distributed import LocalCluster

from core_engine import flow, task
from runners.dask import DaskTaskRunner, get_async_dask_client, get_dask_client
from tests.runners.dask.conftest import local_cluster

# What a temporary cluster needs to be small, for tests.
SMALL = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}


@task
def double(x: int) -> int:
    return 2 * x


def doubled(runner: DaskTaskRunner) -> list[int]:
    @flow(task_runner=runner)
    def doubles() -> list[int]:
        return [future.result() for future in double.map([1, 2, 3])]

    return doubles()


@pytest.mark.behaviour("DASK-3")
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"address": "tcp://x:1", "cluster": object()}, "cluster"),
        ({"address": "tcp://x:1", "cluster_class": "a.B"}, "cluster_class"),
        ({"address": "tcp://x:1", "cluster_kwargs": {"n_workers": 1}}, "cluster_kwargs"),
        ({"address": "tcp://x:1", "adapt_kwargs": {"maximum": 1}}, "adapt_kwargs"),
        ({"cluster": object(), "cluster_class": "a.B"}, "cluster_class"),
        ({"cluster": object(), "cluster_kwargs": {"n_workers": 1}}, "cluster_kwargs"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_options_that_exclude_each_other_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        DaskTaskRunner(**options)


@pytest.mark.behaviour("DASK-4")
@pytest.mark.parametrize("name", ["client_kwargs", "cluster_kwargs"])
def test_asynchronous_is_not_the_users_to_choose(name: str) -> None:
    options: dict[str, Any] = {name: {"asynchronous": True}}
    with pytest.raises(ValueError, match=f"asynchronous.*{name}"):
        DaskTaskRunner(**options)


@pytest.mark.behaviour("DASK-2", "RUN-2", "RUN-11")
def test_a_runner_is_its_options() -> None:
    runner = DaskTaskRunner(cluster_kwargs={"n_workers": 3}, adapt_kwargs={"maximum": 5}, worker_loss_retries=2)

    assert runner.duplicate() == runner
    assert pickle.loads(pickle.dumps(runner)) == runner
    assert runner != DaskTaskRunner(cluster_kwargs={"n_workers": 4})
    assert "n_workers" in repr(runner)


@pytest.mark.behaviour("DASK-5", "DASK-16", "I8")
def test_a_temporary_cluster_is_made_named_and_closed(caplog: pytest.LogCaptureFixture) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with caplog.at_level(logging.INFO, logger="core_engine.task_runner.dask"):
        assert doubled(DaskTaskRunner(cluster_kwargs=dict(SMALL))) == [2, 4, 6]

    assert "LocalCluster" in caplog.text
    after = {
        process.pid
        for process in psutil.Process().children(recursive=True)
        if process.pid not in before and "resource_tracker" not in " ".join(process.cmdline())
    }
    assert not after


@pytest.mark.behaviour("DASK-6", "DASK-7")
def test_a_cluster_class_can_be_named_and_scaled() -> None:
    runner = DaskTaskRunner(
        cluster_class="distributed.LocalCluster",
        cluster_kwargs={**SMALL, "n_workers": 0},
        adapt_kwargs={"minimum": 0, "maximum": 1},
    )

    assert doubled(runner) == [2, 4, 6]


@pytest.mark.behaviour("DASK-6", "DASK-7")
def test_a_cluster_may_be_made_by_a_function_and_scaled_by_a_coroutine() -> None:
    scaled: list[dict[str, Any]] = []

    class Scaled(LocalCluster):
        async def adapt(self, **options: Any) -> None:  # type: ignore[override]
            scaled.append(options)

    def make(**options: Any) -> LocalCluster:
        return Scaled(**options)

    runner = DaskTaskRunner(cluster_class=make, cluster_kwargs=dict(SMALL), adapt_kwargs={"minimum": 1, "maximum": 2})

    assert doubled(runner) == [2, 4, 6]
    assert scaled == [{"minimum": 1, "maximum": 2}]


@pytest.mark.behaviour("DASK-1", "DASK-5")
def test_workers_may_be_threads_of_the_flows_process(capfd: pytest.CaptureFixture[str]) -> None:
    from core_engine import get_run_logger

    @task
    def says() -> int:
        get_run_logger().info("said once")
        return 1

    @flow(task_runner=DaskTaskRunner(cluster_kwargs={"processes": False, "dashboard_address": ":0", "n_workers": 1}))
    def inside() -> int:
        return says.submit().result()

    assert inside() == 1
    assert capfd.readouterr().err.count("said once") == 1


@pytest.mark.behaviour("DASK-5")
def test_an_existing_cluster_is_used_and_left_clean(dask_cluster: LocalCluster) -> None:
    assert doubled(DaskTaskRunner(cluster=dask_cluster)) == [2, 4, 6]
    assert doubled(DaskTaskRunner(address=dask_cluster.scheduler_address)) == [2, 4, 6]

    assert dask_cluster.status.name == "running"
    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(wait_until_empty, dask_cluster)


async def wait_until_empty(cluster: LocalCluster) -> None:
    with anyio.fail_after(10):
        while cluster.scheduler.tasks:
            await anyio.sleep(0.01)


@pytest.mark.behaviour("DASK-4")
@pytest.mark.parametrize("asked", [False, True])
def test_the_client_is_not_made_dasks_default_unless_asked(dask_cluster: LocalCluster, asked: bool) -> None:
    from distributed import default_client

    options = {"set_as_default": True} if asked else None

    @flow(task_runner=DaskTaskRunner(cluster=dask_cluster, client_kwargs=options))
    def has_default() -> bool:
        double.submit(1).wait()
        try:
            default_client()
        except ValueError:
            return False
        return True

    assert has_default() == asked
    with pytest.raises(ValueError, match="No client"):
        default_client()


@pytest.mark.behaviour("DASK-16")
def test_a_cluster_that_cannot_be_made_is_logged_and_raised(caplog: pytest.LogCaptureFixture) -> None:
    def broken(**options: Any) -> Any:
        raise OSError("no machines left")

    with pytest.raises(OSError, match="no machines left"):
        doubled(DaskTaskRunner(cluster_class=broken))
    assert "could not be started" in caplog.text


def test_a_scheduler_that_does_not_answer_is_named_within_seconds() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ConnectionError, match="tcp://127.0.0.1:9"):
            doubled(DaskTaskRunner(address="tcp://127.0.0.1:9", client_kwargs={"timeout": 1}))


@pytest.mark.behaviour("DASK-13")
def test_a_performance_report_is_written(dask_cluster: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "report.html"

    pytest.importorskip("bokeh")
    assert doubled(DaskTaskRunner(cluster=dask_cluster, performance_report_path=str(path))) == [2, 4, 6]

    assert "<html" in path.read_text(encoding="utf-8").lower()


@pytest.mark.behaviour("DASK-16")
def test_a_task_can_use_the_client_of_its_worker(dask_cluster: LocalCluster) -> None:
    @task
    def sums() -> int:
        with get_dask_client() as client:
            return sum(client.gather(client.map(abs, [-1, -2, -3], pure=False)))

    @task
    async def sums_async() -> int:
        async with get_async_dask_client() as client:
            return sum(await client.gather(client.map(abs, [-1, -2], pure=False)))

    @flow(task_runner=DaskTaskRunner(cluster=dask_cluster))
    def nested() -> tuple[int, int]:
        futures: Any = sums_async.submit()
        return sums.submit().result(), futures.result()

    assert nested() == (6, 3)


def test_there_is_no_worker_client_outside_of_tasks() -> None:
    with pytest.raises(RuntimeError, match="inside tasks"), get_dask_client():
        pass


@pytest.mark.behaviour("DASK-9", "DASK-15")
def test_keys_begin_with_the_tasks_name_and_annotations_hold(tmp_path: Path) -> None:
    import dask

    cluster = local_cluster(n_workers=2, resources={"GPU": 1})
    try:

        @task
        def keyed() -> str:
            from distributed import get_worker

            return str(get_worker().get_current_task())

        @flow(task_runner=DaskTaskRunner(cluster=cluster))
        def annotated() -> str:
            with dask.annotate(resources={"GPU": 1}, priority=5):
                return keyed.submit().result()

        @task
        def taken() -> dict[str, float]:
            from distributed import get_worker

            worker = get_worker()
            restrictions: dict[str, float] = worker.state.tasks[worker.get_current_task()].resource_restrictions
            return restrictions or {}

        @flow(task_runner=DaskTaskRunner(cluster=cluster))
        def by_option() -> list[dict[str, float]]:
            needs = taken.with_options(resources={"GPU": 1})
            with dask.annotate(resources={"GPU": 0.5}):
                less = needs.submit()
            return [future.result() for future in (taken.submit(), needs.submit(), less)]

        assert annotated().startswith("keyed-")
        assert by_option() == [{}, {"GPU": 1}, {"GPU": 0.5}]
    finally:
        cluster.close()
