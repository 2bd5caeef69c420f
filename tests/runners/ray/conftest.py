"""One Ray for all tests that do not break it, started by `ray start` with defaults of its own. This process is
connected to it, as a user's may be."""

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core_engine.task_runners import BaseTaskRunner
from runners.ray import RayTaskRunner
from tests.runners.ray.support import RayProcesses
from tests.support.cluster_tests.settings import OTHER_DEFAULTS


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would otherwise write a token into the home of whoever runs the tests."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


@contextmanager
def processes() -> Iterator[RayProcesses]:
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        processes = RayProcesses(Path(folder))
        try:
            yield processes
        finally:
            processes.close()


@pytest.fixture
def ray_client_turn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For a test that connects by Ray Client: one at a time on this machine.

    A head starts a server for each client, all heads from the same port on: two that look at once take the same one.
    """
    with (tmp_path_factory.getbasetemp().parent / "ray-client.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def ray_processes() -> Iterator[RayProcesses]:
    """A head whose worker processes run two tasks at once."""
    with processes() as started:
        started.start_head(num_cpus=2, environment=OTHER_DEFAULTS)
        yield started


@pytest.fixture
def nodes() -> Iterator[RayProcesses]:
    """A head and workers as a test starts them, which end with it."""
    with processes() as started:
        yield started


@pytest.fixture(scope="session")
def ray_address(request: pytest.FixtureRequest) -> Iterator[str]:
    """The Ray of this session; or the one that the variable TEST_RAY_ADDRESS names, to run these tests on another."""
    from runners.ray.process import process_ray

    other = os.environ.get("TEST_RAY_ADDRESS")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        wanted = other or request.getfixturevalue("ray_processes").address
        address = process_ray.acquire(wanted, {}, logging.getLogger("tests.ray"))
    yield address
    process_ray.release()


@pytest.fixture
def task_runner(ray_address: str) -> BaseTaskRunner:
    return RayTaskRunner(address=ray_address)
