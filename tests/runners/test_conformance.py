"""The runners of this process pass the suite that every runner must pass."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest

from core_engine import State
from core_engine.states import Crashed
from core_engine.task_runners import BaseTaskRunner, TaskConcurrencyType
from core_engine.testing.conformance import TaskRunnerConformance
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner


class TestSequentialTaskRunner(TaskRunnerConformance):
    @pytest.fixture
    def task_runner(self) -> BaseTaskRunner:
        return SequentialTaskRunner()


class TestConcurrentTaskRunner(TaskRunnerConformance):
    @pytest.fixture
    def task_runner(self) -> BaseTaskRunner:
        return ConcurrentTaskRunner()


class TestConcurrentTaskRunnerWithFewWorkers(TaskRunnerConformance):
    @pytest.fixture
    def task_runner(self) -> BaseTaskRunner:
        return ConcurrentTaskRunner(max_workers=2)


class FourMembersTaskRunner(BaseTaskRunner):
    """The least that a runner can be: no blocks, no capabilities, every call a coroutine on the loop it is given in."""

    concurrency_type = TaskConcurrencyType.CONCURRENT

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[Any, asyncio.Task[State]] | None = None

    def duplicate(self) -> Self:
        return type(self)()

    @asynccontextmanager
    async def start(self) -> AsyncIterator[Self]:
        if self._calls is not None:
            raise RuntimeError("started already")
        self._calls = {}
        try:
            yield self
        finally:
            calls, self._calls = self._calls, None
            await asyncio.gather(*calls.values(), return_exceptions=True)

    async def submit(self, key: Any, call: Callable[[], Awaitable[State]]) -> None:
        if self._calls is None:
            raise RuntimeError("not started")
        self._calls[key] = asyncio.ensure_future(call())

    async def wait(self, key: Any, timeout: float | None = None) -> State | None:
        assert self._calls is not None
        call = self._calls[key]
        await asyncio.wait({call}, timeout=timeout)
        if not call.done():
            return None
        exception = call.exception()
        return call.result() if exception is None else Crashed(data=exception)

    def __setstate__(self, options: dict[str, Any]) -> None:
        self.__init__()


class TestFourMembersTaskRunner(TaskRunnerConformance):
    """A runner with only the four basic members works, without the benefits of more."""

    @pytest.fixture
    def task_runner(self) -> BaseTaskRunner:
        return FourMembersTaskRunner()
