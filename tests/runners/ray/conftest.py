"""One Ray of two CPUs for all tests that do not break it. This process is connected to it, as a user's may be."""

import logging
import os
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
    """A Ray of this session; or the one that the variable TEST_RAY_ADDRESS names, to run these tests on another."""
    from runners.ray.process import process_ray

    other = os.environ.get("TEST_RAY_ADDRESS")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        address = process_ray.acquire(other, {} if other else SMALL, logging.getLogger("tests.ray"))
    yield address
    process_ray.release()


@pytest.fixture
def task_runner(ray_address: str) -> BaseTaskRunner:
    return RayTaskRunner(address=ray_address)
