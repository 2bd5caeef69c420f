"""A scheduler and workers in processes of their own: settings, versions, encrypted connections, errors at the start."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from distributed.security import Security

import runners.dask.workers
from core_engine import flow, get_client, task
from core_engine.concurrency.waiting import step
from core_engine.task_runners import BaseTaskRunner
from runners.dask import DaskTaskRunner
from tests.support.cluster_tests.settings import AskWorkers, SettingsOnACluster
from tests.support.dask_processes import DaskProcesses, make_certificate
from tests.support.waiting import wait_for


@task
def add(x: int, y: int) -> int:
    return x + y


@pytest.fixture
def growing(processes_folder: Path) -> Iterator[DaskProcesses]:
    """A scheduler of the test's own, which no worker has joined yet."""
    cluster = DaskProcesses(processes_folder)
    yield cluster
    cluster.close()


# Settings


class TestSettings(SettingsOnACluster):
    @pytest.fixture
    def task_runner(self, dask_processes: DaskProcesses) -> BaseTaskRunner:
        return DaskTaskRunner(address=dask_processes.address)

    @pytest.fixture
    def ask_workers(self, dask_processes: DaskProcesses) -> AskWorkers:
        def ask(function: Callable[[], Any]) -> list[tuple[int, Any]]:
            def answer() -> tuple[int, Any]:
                return os.getpid(), function()

            with Client(dask_processes.address, set_as_default=False) as client:
                client.wait_for_workers(2)
                workers = list(client.scheduler_info()["workers"])
                on_threads_of_calls = [client.submit(answer, workers=[one], pure=False) for one in workers]
                return [*client.run(answer).values(), *client.gather(on_threads_of_calls)]

        return ask


# Versions


@pytest.fixture
def other_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process takes itself for one with another version of cloudpickle than all others."""
    ours = runners.dask.workers.versions

    def versions(library: str) -> dict[str, str]:
        return {**ours(library), "cloudpickle": "0.0.1"}

    monkeypatch.setattr(runners.dask.workers, "versions", versions)


@pytest.mark.behaviour("D21")
def test_other_versions_are_named_at_the_start_and_for_workers_that_join_later(
    growing: DaskProcesses, other_version: None, caplog: pytest.LogCaptureFixture
) -> None:
    growing.start_worker("--no-nanny", "--name", "first")

    def names(address: str) -> bool:
        return f"Dask worker {address} has another version than this process: cloudpickle: " in caplog.text

    @flow(task_runner=DaskTaskRunner(address=growing.address))
    def outer() -> None:
        with Client(growing.address, set_as_default=False) as client:
            (first,) = client.scheduler_info()["workers"]
            assert names(first)
            assert "The Dask scheduler has another version than this process" in caplog.text
            growing.start_worker("--no-nanny", "--name", "second")
            client.wait_for_workers(2)
            (second,) = client.scheduler_info()["workers"].keys() - {first}
            wait_for(lambda: names(second))

    with Client(growing.address, set_as_default=False) as client:
        client.wait_for_workers(1)
    with caplog.at_level(logging.WARNING, logger="core_engine.task_runner.dask"):
        outer()

    assert "0.0.1 here" in caplog.text


@pytest.mark.behaviour("D21")
def test_a_worker_without_core_engine_is_named_at_the_start(growing: DaskProcesses, tmp_path: Path) -> None:
    hides = tmp_path / "hides.py"
    hides.write_text("import sys\nsys.modules['core_engine'] = None\n")
    growing.start_worker("--no-nanny", "--preload", str(hides))
    with Client(growing.address, set_as_default=False) as client:
        client.wait_for_workers(1)

    @flow(task_runner=DaskTaskRunner(address=growing.address))
    def outer() -> None:
        raise AssertionError("the flow began")

    with pytest.raises(RuntimeError, match=r"core_engine is not installed on the Dask worker tcp://"):
        outer()


# Connections


@pytest.mark.behaviour("DASK-2", "DASK-5", "DASK-16")
def test_connections_may_be_encrypted(processes_folder: Path, tmp_path: Path) -> None:
    from runners.dask import get_async_dask_client, get_dask_client

    certificate, key = map(str, make_certificate(tmp_path))
    options = ["--protocol", "tls", "--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key]
    security = Security(
        tls_ca_file=certificate, tls_client_cert=certificate, tls_client_key=key, require_encryption=True
    )
    cluster = DaskProcesses(processes_folder, options)
    try:
        assert cluster.address.startswith("tls://")
        for _ in range(2):
            cluster.start_worker("--no-nanny")

        @task
        def large(x: int) -> bytes:
            return bytes([x]) * 1_000_000

        @task
        def measure(one: bytes, other: bytes) -> int:
            return len(one) + len(other)

        @task
        def sums() -> int:
            with get_dask_client() as client:
                return client.submit(sum, [1, 2], pure=False).result()

        @task
        async def sums_async() -> int:
            async with get_async_dask_client() as client:
                return await client.submit(sum, [3, 4], pure=False)

        @flow(task_runner=DaskTaskRunner(address=cluster.address, client_kwargs={"security": security}))
        def outer() -> Any:
            sizes = measure.map(large.map(range(4)), large.map(range(4)))
            futures: Any = [sums.submit(), sums_async.submit()]
            return [future.result() for future in [*sizes, *futures]]

        assert outer() == [2_000_000] * 4 + [3, 7]
    finally:
        cluster.close()


def test_an_address_where_nobody_answers_is_named_within_seconds() -> None:
    @flow(task_runner=DaskTaskRunner(address="tcp://127.0.0.1:9", client_kwargs={"timeout": 1}))
    def outer() -> None:
        raise AssertionError("the flow began")

    with pytest.raises(ConnectionError, match=r"tcp://127\.0\.0\.1:9 within 1 seconds"):
        outer()


# What is wanting


@pytest.mark.behaviour("DASK-15")
def test_a_task_waits_for_the_worker_with_its_resources_and_that_is_said(
    growing: DaskProcesses, caplog: pytest.LogCaptureFixture
) -> None:
    import dask

    growing.start_worker("--no-nanny", "--name", "plain")

    @flow(task_runner=DaskTaskRunner(address=growing.address))
    def outer() -> tuple[int, int]:
        with dask.annotate(resources={"GPU": 1}):
            special = add.submit(1, 2)
        plain = add.submit(3, 4).result()
        wait_for(lambda: "Task 'add' waits for a worker with the resources {'GPU': 1}" in caplog.text)
        growing.start_worker("--no-nanny", "--name", "special", "--resources", "GPU=1")
        return special.result(), plain

    with caplog.at_level(logging.WARNING, logger="core_engine.task_runner.dask"):
        assert outer() == (3, 7)
    assert caplog.text.count("waits for") == 1


@pytest.mark.behaviour("DASK-15")
def test_a_task_runs_on_the_worker_that_it_names_and_waits_for_one_that_is_not_there(
    growing: DaskProcesses, caplog: pytest.LogCaptureFixture
) -> None:
    import dask

    for name in ("first", "second"):
        growing.start_worker("--no-nanny", "--name", name)
    with Client(growing.address, set_as_default=False) as client:
        client.wait_for_workers(2)

    @task
    def name_of_worker() -> str:
        from distributed import get_worker

        return str(get_worker().name)

    @flow(task_runner=DaskTaskRunner(address=growing.address))
    def outer() -> list[str]:
        names = []
        for name in ("second", "first", "second"):
            with dask.annotate(workers=[name]):
                names.append(name_of_worker.submit().result())
        with dask.annotate(workers=["tcp://127.0.0.1:9"]):
            absent = name_of_worker.submit()
        wait_for(lambda: "waits for a worker of tcp://127.0.0.1:9" in caplog.text)
        absent.cancel()
        return names

    assert outer() == ["second", "first", "second"]


def test_a_cluster_without_workers_is_waited_for_and_that_is_said(
    growing: DaskProcesses, caplog: pytest.LogCaptureFixture
) -> None:
    @flow(task_runner=DaskTaskRunner(address=growing.address))
    def outer() -> int:
        future = add.submit(1, 2)
        wait_for(lambda: "Task 'add' waits for a worker" in caplog.text)
        why = step(get_client().why(future.task_run_id))
        assert (why.reason, why.details["executing"]) == ("runner", 0)
        assert "the dask task runner, where no worker executes anything of this flow run now" in why.text
        growing.start_worker("--no-nanny")
        return future.result()

    assert outer() == 3


def test_dasks_own_limit_for_waiting_ends_the_run(processes_folder: Path) -> None:
    environment = {"DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT": "1s"}
    cluster = DaskProcesses(processes_folder, environment=environment)
    try:

        @flow(task_runner=DaskTaskRunner(address=cluster.address))
        def outer() -> Any:
            return [add.submit(1, 2)]

        (state,) = outer(return_state=True).result(raise_on_failure=False)
    finally:
        cluster.close()

    assert state.is_crashed()
    assert "NoWorkerError" in (state.message or "")
