"""The task runner for debugging: each call runs when it is submitted, one after another, in the flow's process.

A sync task of a sync flow runs in the thread that called the flow, so tracebacks are plain and `pdb` works.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Self

from core_engine.schemas import State
from core_engine.task_runners import (
    AsyncCalls,
    BaseTaskRunner,
    CallBlock,
    TaskCall,
    TaskConcurrencyType,
    drives_loop,
    exception_to_crashed_state,
    run_blocking,
    run_in_thread,
)

__all__ = ["SequentialTaskRunner"]

WORKER = "caller"


class SequentialTaskRunner(BaseTaskRunner):
    """Runs calls one after another, in the order in which they are submitted."""

    shares_memory = True
    takes_blocks = True

    def __init__(self) -> None:
        super().__init__()
        self._states: dict[Any, State] = {}
        self._async_calls: AsyncCalls | None = None

    @property
    def concurrency_type(self) -> TaskConcurrencyType:
        return TaskConcurrencyType.SEQUENTIAL

    def duplicate(self) -> Self:
        return type(self)()

    async def submit(self, key: Any, call: Callable[[], Awaitable[State]]) -> None:
        self._check_started()
        try:
            self._states[key] = await call()
        except BaseException as error:  # whatever the call raised is the run's crash, not the caller's
            self._states[key] = exception_to_crashed_state(error)

    async def wait(self, key: Any, timeout: float | None = None) -> State | None:
        return self._states.get(key)

    async def submit_batch(self, block: CallBlock) -> None:
        self._check_started()
        if block.asynchronous:
            await self._run_async(block)
        elif block.in_caller and not drives_loop():
            _run_all(block)
        else:
            await run_in_thread(_run_all, block)

    async def _run_async(self, block: CallBlock) -> None:
        assert self._async_calls is not None
        while (call := block.take()) is not None:
            while (due := await self._async_calls.run(call).arrive_result()) is not None:
                await call.wait_until(due)

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        self._states = {}
        self._async_calls = AsyncCalls(1)
        exit_stack.push_async_callback(run_blocking, self._async_calls.stop)

    def __setstate__(self, options: dict[str, Any]) -> None:
        super().__setstate__(options)
        self._states = {}
        self._async_calls = None


def _run_all(block: CallBlock) -> None:
    while (call := block.take()) is not None:
        _run(call)


def _run(call: TaskCall) -> None:
    while (due := call.run(WORKER)) is not None:
        call.block_until(due)
