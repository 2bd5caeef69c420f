"""Streams: the lazy form of a map. The input is read in a window while the caller iterates finished futures (D8)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.interrupts import interruptible
from core_engine.concurrency.waiting import Latch, step
from core_engine.context import FlowRunContext, TaskRunContext
from core_engine.engine.failure_policy import end_rest
from core_engine.engine.inputs import inputs_by_parameter, listed_upstreams
from core_engine.engine.run_sets import RunSet
from core_engine.engine.task_calls import check_can_run_tasks, create_run_set, create_task_run_then_submit, preflight
from core_engine.futures import TaskFuture
from core_engine.map_options import MapOptions

if TYPE_CHECKING:
    from core_engine.tasks import Task

DEFAULT_WINDOW = 1_000
LONGEST_READ_SECONDS = 0.01


class _Stream:
    """A stream's window: what has been read and has not been yielded.

    Parameters:
        task: The task.
        context: The flow run's.
        name: The parameter that the items are for.
        shared: The other parameters, the same for all runs.
        wait_for: Upstreams without data; None: none.
    """

    def __init__(
        self, task: Task[..., Any], context: FlowRunContext, name: str, shared: dict[str, Any], wait_for: Any
    ) -> None:
        options = task.map_options or MapOptions()
        self._task = task
        self._context = context
        self._name = name
        self._shared = shared
        self._wait_for = wait_for
        self._inputs = inputs_by_parameter(shared, wait_for)
        assert context.run is not None
        self._flow_run = context.run
        self._key = f"{task.task_key}#stream-{self._flow_run.reserve(f'{task.task_key}#stream', 1)}"
        self._ordered = options.ordered
        self._window = options.window or DEFAULT_WINDOW
        self.chunk_size = max(1, min(256, self._window // 4))
        self._read: deque[TaskFuture[Any]] = deque()
        self._ended: deque[TaskFuture[Any]] = deque()
        self._in_flight = 0
        self._is_checked = False
        self._something_ended = Latch()

    def has_room(self) -> bool:
        """Returns whether another chunk may be read."""
        return self._in_flight + self.chunk_size <= self._window

    def is_empty(self) -> bool:
        return self._in_flight == 0

    def is_ready(self) -> bool:
        """Returns whether the next future can be yielded at once."""
        if not self._ordered:
            return bool(self._ended)
        return bool(self._read) and self._read[0]._run_set.committed_state(self._read[0]._index) is not None

    async def submit(self, items: list[Any]) -> None:
        """Makes and dispatches the runs of a chunk."""
        if not self._is_checked:
            preflight(self._task, self._context, {**self._shared, self._name: items[0]}, None)
            self._is_checked = True
        run_set = create_run_set(
            self._task,
            self._context,
            shared=self._shared,
            columns={self._name: items},
            count=len(items),
            wait_for=self._wait_for,
            task_inputs=self._inputs,
            is_map=True,
            task_key=self._key,
        )
        self._in_flight += len(items)
        futures = run_set.futures()
        if self._ordered:
            self._read.extend(futures)
        else:
            for future in futures:
                run_set.durably_ended(future._index).add_callback(self._note(future))
        await create_task_run_then_submit(run_set, self._context, None)

    def _note(self, future: TaskFuture[Any]) -> Any:
        def ended() -> None:
            self._ended.append(future)
            self._something_ended.set()

        return ended

    async def next(self) -> TaskFuture[Any]:
        """Waits for the next future to yield."""
        if self._ordered:
            future = self._read.popleft()
            await future._arrive()
        else:
            while not self._ended:
                self._something_ended = latch = Latch()
                if not self._ended:
                    await latch
            future = self._ended.popleft()
        self._in_flight -= 1
        return future

    def leave(self) -> None:
        """The caller is gone: what is in flight is cancelled, what has not started never starts."""
        run_sets: dict[int, RunSet] = {id(future._run_set): future._run_set for future in self._read}
        if not self._ordered:
            run_sets |= {id(run_set): run_set for run_set in self._flow_run.open_sets() if self._is_mine(run_set)}
        for run_set in run_sets.values():
            run_set.closed = run_set.closed or "The stream was left before this run started."
            end_rest(run_set, cancel_running=True)

    def _is_mine(self, run_set: RunSet) -> bool:
        return run_set.group.task_key == self._key


def stream(
    task: Task[..., Any], iterable: Any, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any
) -> Iterator[TaskFuture[Any]] | AsyncIterator[TaskFuture[Any]]:
    """What ``Task.stream`` does: an iterator of finished futures, async if both task and flow are.

    Raises:
        RuntimeError: Outside a flow run, or inside a task.
        TypeError: The task has no parameter, or an async iterable is given where nothing can await it.
        ParameterBindError: The other arguments do not fit.
    """
    context = check_can_run_tasks(task, FlowRunContext.get(), TaskRunContext.get())
    names = task.signature.parameter_names
    if not names:
        raise TypeError(f"Task {task.name!r} has no parameter that the items of a stream could be given to.")
    bound = task.signature.bind((None, *args), kwargs)
    name = names[0]
    shared = {key: value for key, value in bound.items() if key != name}
    window = _Stream(task, context, name, shared, listed_upstreams(wait_for))
    if task.isasync and context.flow.isasync:
        return _async_stream(window, iterable)
    if not isinstance(iterable, Iterable):
        raise TypeError(
            f"stream needs an iterable here, not {type(iterable).__name__}; async ones need an async task and flow."
        )
    return _sync_stream(window, iter(iterable))


def _sync_stream(window: _Stream, items: Iterator[Any]) -> Generator[TaskFuture[Any]]:
    exhausted = False
    try:
        while True:
            while not exhausted and window.has_room():
                chunk, exhausted = _read_chunk(items, window.chunk_size)
                if chunk:
                    step(window.submit(chunk))
                if window.is_ready():
                    break  # a slow source does not hold up what has ended
            if window.is_empty():
                return
            yield step(window.next())
    finally:
        window.leave()


@interruptible
def _read_chunk(items: Iterator[Any], size: int) -> tuple[list[Any], bool]:
    """Reads up to `size` items, fewer from a slow source; returns them and whether the source is at its end."""
    chunk: list[Any] = []
    limit = time.monotonic() + LONGEST_READ_SECONDS
    while len(chunk) < size:
        try:
            chunk.append(next(items))
        except StopIteration:
            return chunk, True
        if time.monotonic() > limit:
            break
    return chunk, False


async def _async_stream(window: _Stream, iterable: Any) -> AsyncGenerator[TaskFuture[Any]]:
    items = aiter(iterable) if isinstance(iterable, AsyncIterable) else _as_async(iterable)
    exhausted = False
    try:
        while True:
            while not exhausted and window.has_room():
                chunk, exhausted = await _read_chunk_async(items, window.chunk_size)
                if chunk:
                    await window.submit(chunk)
                if window.is_ready():
                    break
            if window.is_empty():
                return
            yield await window.next()
    finally:
        window.leave()


async def _as_async(iterable: Iterable[Any]) -> AsyncIterator[Any]:
    for item in iterable:
        yield item


async def _read_chunk_async(items: AsyncIterator[Any], size: int) -> tuple[list[Any], bool]:
    chunk: list[Any] = []
    limit = time.monotonic() + LONGEST_READ_SECONDS
    while len(chunk) < size:
        try:
            chunk.append(await anext(items))
        except StopAsyncIteration:
            return chunk, True
        if time.monotonic() > limit:
            break
    return chunk, False
