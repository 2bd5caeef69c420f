"""A flow run's task runner: duplicated, started on the engine loop, and stopped whatever happens."""

from __future__ import annotations

import threading
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from core_engine.concurrency.loops import engine_loop
from core_engine.concurrency.waiting import Latch, Outcome, run_blocking
from core_engine.engine.task_loops import AsyncCalls

if TYPE_CHECKING:
    from core_engine.logging.run_loggers import RunLogger
    from core_engine.task_runners import BaseTaskRunner

ASYNC_WINDOW = 1_000


class RunnerSession:
    """A started task runner; its whole life is one task of the engine loop, as its context manager may require.

    Parameters:
        runner: The flow's runner; a duplicate of it is started.
        logger: Of the flow run, for the warning about a runner that cannot be duplicated.
    """

    def __init__(self, runner: BaseTaskRunner, logger: RunLogger) -> None:
        duplicate = runner.duplicate()
        if duplicate is NotImplemented:
            logger.warning(
                "Task runner %s does not implement `duplicate` and is used itself: "
                "concurrent runs of this flow will fail.",
                type(runner).__name__,
            )
            duplicate = runner
        self.runner = duplicate
        self._stop = Latch()
        self._started: Outcome[None] = Outcome()
        self._ended: Outcome[None] | None = None
        # Keeps two calls at once from starting two local runners.
        self._lock = threading.Lock()
        self._local_started: Outcome[BaseTaskRunner] = Outcome()
        self._local: RunnerSession | None = None
        self._async_calls: AsyncCalls | None = None
        self._logger = logger

    async def start(self) -> None:
        """Starts the runner.

        Raises:
            Exception: What its start raised.
        """
        self._ended = engine_loop().submit(self._live)
        await self._started.arrive_result()

    async def _live(self) -> None:
        try:
            async with self.runner.start():
                self._started.give(None)
                await self._stop
        except BaseException as error:
            if self._started.is_set():
                raise
            self._started.fail(error)

    async def stop(self) -> None:
        """Stops the runner and what was started beside it; waits until it has stopped."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._stop_runner)
            if self._async_calls is not None:
                stack.push_async_callback(run_blocking, self._async_calls.stop)
            if self._local is not None:
                stack.push_async_callback(self._local.stop)

    async def _stop_runner(self) -> None:
        self._stop.set()
        if self._ended is not None:
            await self._ended.arrive_result()

    def async_calls(self) -> AsyncCalls:
        """Returns the loop for async tasks of a runner that brings none of its own."""
        with self._lock:
            if self._async_calls is None:
                self._async_calls = AsyncCalls(ASYNC_WINDOW)
            return self._async_calls

    async def local_runner(self) -> BaseTaskRunner:
        """Returns a runner that runs calls in this process: the flow's own, or a concurrent one beside it (D18)."""
        if self.runner.shares_memory:
            return self.runner
        with self._lock:
            started, starts = self._local_started, self._local is None
            if starts:
                self._local = self._new_local()
        if starts:
            await self._start_local(started)
        await started
        return started.peek()

    def _new_local(self) -> RunnerSession:
        from core_engine.task_runners import get_task_runner

        return RunnerSession(get_task_runner("concurrent")(), self._logger)

    async def _start_local(self, started: Outcome[BaseTaskRunner]) -> None:
        """Starts the local runner; where that fails, those who wait for it are told, and the next who asks tries."""
        local = self._local
        assert local is not None
        try:
            await local.start()
        except BaseException as error:
            with self._lock:
                self._local_started, self._local = Outcome(), None
            started.fail(error)
            await local.stop()
            raise
        started.give(local.runner)
