"""The default task runner: async functions on a loop of their own, sync ones in worker threads, in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Self

from core_engine.schemas import State
from core_engine.settings import get_current_settings
from core_engine.task_runners import (
    AsyncCalls,
    BaseTaskRunner,
    CallBlock,
    CallThreads,
    Outcome,
    TaskConcurrencyType,
    check_count,
    exception_to_crashed_state,
    run_blocking,
)

__all__ = ["ConcurrentTaskRunner"]

DEFAULT_MAX_WORKERS = 128
ASYNC_WINDOW = 1_000


class ConcurrentTaskRunner(BaseTaskRunner):
    """Runs calls at the same time in the flow's process.

    Parameters:
        max_workers: At most how many threads run sync tasks, grown on demand; None means the setting
            TASK_RUNNER_MAX_WORKERS, or 128. Waiting for an upstream
            or for a retry takes no thread.

    Raises:
        ValueError: `max_workers` is less than 1.
    """

    shares_memory = True
    takes_blocks = True

    def __init__(self, max_workers: int | None = None) -> None:
        super().__init__()
        self.max_workers = None if max_workers is None else check_count(max_workers, "max_workers", least=1)
        self._threads: CallThreads | None = None
        self._workers: int | None = None
        self._async_calls: AsyncCalls | None = None
        self._outcomes: dict[Any, Outcome[State]] = {}

    @property
    def concurrency_type(self) -> TaskConcurrencyType:
        return TaskConcurrencyType.CONCURRENT

    def duplicate(self) -> Self:
        return type(self)(max_workers=self.max_workers)

    async def submit(self, key: Any, call: Callable[[], Awaitable[State]]) -> None:
        self._check_started()
        assert self._async_calls is not None
        self._outcomes[key] = self._async_calls.submit(call)

    async def wait(self, key: Any, timeout: float | None = None) -> State | None:
        outcome = self._outcomes[key]
        if not await outcome.arrive(timeout):
            return None
        try:
            return outcome.peek()
        except BaseException as error:  # whatever the call raised is the run's crash, not the caller's
            return exception_to_crashed_state(error)

    async def submit_batch(self, block: CallBlock) -> None:
        self._check_started()
        assert self._threads is not None
        assert self._async_calls is not None
        if block.asynchronous:
            self._async_calls.add(block)
        else:
            self._threads.add(block)

    def most_at_once(self, asynchronous: bool) -> int | None:
        return ASYNC_WINDOW if asynchronous else self._workers

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        self._workers = self.max_workers or get_current_settings().task_runner_max_workers or DEFAULT_MAX_WORKERS
        self._threads = CallThreads(self._workers)
        self._async_calls = AsyncCalls(ASYNC_WINDOW)
        self._outcomes = {}
        exit_stack.push_async_callback(self._tear_down)

    async def _tear_down(self) -> None:
        assert self._async_calls is not None
        for outcome in list(self._outcomes.values()):
            await outcome
        await run_blocking(self._async_calls.stop)

    def __setstate__(self, options: dict[str, Any]) -> None:
        super().__setstate__(options)
        self._threads = self._async_calls = None
        self._outcomes = {}
