"""Fixtures of the fault tests."""

import signal
from collections.abc import Iterator

import pytest

from core_engine.task_runners import BaseTaskRunner
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner


@pytest.fixture(params=[SequentialTaskRunner, ConcurrentTaskRunner], ids=["sequential", "concurrent"])
def runner(request: pytest.FixtureRequest) -> BaseTaskRunner:
    """Each task runner of this process in turn."""
    return request.param()


@pytest.fixture(autouse=True)
def plain_signals() -> Iterator[None]:
    """Signals as an ordinary program has them, whatever runs the tests; and the test puts none of its own in place."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGURG)}
    yield
    try:
        assert {number: signal.getsignal(number) for number in handlers} == handlers
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGINT, before)
