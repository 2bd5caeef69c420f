"""What cannot travel, or is missing on workers or here: an error that names it, and a cluster that goes on."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client, LocalCluster

from core_engine import flow, task
from core_engine.exceptions import MissingResult, SerializationError
from runners.dask import DaskTaskRunner
from tests.support.cluster_tests.errors import ErrorsOnACluster
from tests.support.dask_processes import DaskProcesses, expect_clean


@pytest.fixture(autouse=True)
def left_clean(dask_cluster: LocalCluster) -> Iterator[None]:
    yield
    with Client(dask_cluster, set_as_default=False) as client:
        expect_clean(client)


@task
def double(x: int) -> int:
    return 2 * x


class TestErrors(ErrorsOnACluster):
    worker_prefix = "tcp://"


class OnlyThere:
    """A value, small or large, that cannot be unpickled in the process that loaded this module first."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __reduce__(self) -> Any:
        return make_there, (os.getppid(), bytes(self.size))


def make_there(parent: int, content: bytes) -> "OnlyThere":
    if os.getpid() == parent:
        raise RuntimeError("not here")
    return OnlyThere(len(content))


@pytest.mark.behaviour("D21", "D12")
@pytest.mark.parametrize("size", [10, 500_000], ids=["small", "large"])
def test_a_value_that_cannot_be_unpickled_here_is_an_error_for_who_asks(
    dask_processes: DaskProcesses, size: int
) -> None:
    @task
    def gives() -> Any:
        return OnlyThere(size)

    @task
    def sizes(value: Any) -> int:
        return int(value.size)

    @flow(task_runner=DaskTaskRunner(address=dask_processes.address))
    def outer() -> Any:
        value = gives.submit()
        with pytest.raises((SerializationError, MissingResult), match="RuntimeError: not here"):
            value.result()
        # The workers know it.
        return [value, sizes.submit(value), double.submit(2)]

    value, known, other = outer(return_state=True).result(raise_on_failure=False)

    assert value.is_completed()
    assert known.result() == size
    assert other.result() == 4


class OnlyWhereMade:
    """A large value that no process but the one that made it can unpickle."""

    def __init__(self) -> None:
        self.content = bytes(500_000)

    def __reduce__(self) -> Any:
        return make_again, (os.getpid(), self.content)


def make_again(pid: int, content: bytes) -> OnlyWhereMade:
    if os.getpid() != pid:
        raise RuntimeError("not in this process")
    return OnlyWhereMade()


@pytest.mark.behaviour("D21", "D12")
def test_a_value_that_another_worker_cannot_unpickle_crashes_the_run_that_needs_it(
    dask_cluster: LocalCluster,
) -> None:
    import dask

    first, second = dask_cluster.scheduler_info["workers"]

    @task
    def gives() -> Any:
        return OnlyWhereMade()

    @task
    def sizes(value: Any) -> int:
        return len(value.content)

    @flow(task_runner=DaskTaskRunner(cluster=dask_cluster))
    def outer() -> Any:
        with dask.annotate(workers=[first]):
            value = gives.submit()
            same = sizes.submit(value)
        with dask.annotate(workers=[second]):
            other = sizes.submit(value)
        return [same, other, double.submit(2)]

    same, other, free = outer(return_state=True).result(raise_on_failure=False)

    assert same.result() == 500_000
    assert other.is_crashed()
    assert "not in this process" in (other.message or "")
    assert free.result() == 4
