"""One Ray of two CPUs for all tests that do not break it. This process is connected to it, as a user's may be."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from core_engine.task_runners import BaseTaskRunner
from runners.ray import RayTaskRunner

# What a Ray needs to be small, for tests.
SMALL: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 100_000_000}


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would otherwise write a token into the home of whoever runs the tests."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    from runners.ray.process import process_ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        process_ray.acquire(None, SMALL, logging.getLogger("tests.ray"))
    import ray

    yield ray.get_runtime_context().gcs_address
    process_ray.release()


@pytest.fixture
def task_runner(ray_address: str) -> BaseTaskRunner:
    return RayTaskRunner(address=ray_address)
