"""Handles to task runs."""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload
from uuid import UUID

from core_engine import ids
from core_engine.concurrency.waiting import Latch, drives_loop, step
from core_engine.lineage import link_handed_over
from core_engine.schemas.states import State
from core_engine.states import fetch_state_result, read_state_result

if TYPE_CHECKING:
    from core_engine.engine.run_sets import RunSet
    from core_engine.schemas.records import TaskRun
    from core_engine.tasks import Task

R_co = TypeVar("R_co", covariant=True)
F = TypeVar("F", bound="TaskFuture[Any]")


class TaskFuture(Generic[R_co]):
    """A handle to a task run that `submit` or `map` made.

    ``wait``, ``result`` and ``get_state`` block and return values; those of an ``AsyncTaskFuture`` return awaitables.
    A future of one run equals another of it.
    """

    __slots__ = ("__weakref__", "_index", "_run_set")

    def __init__(self, run_set: RunSet, index: int) -> None:
        self._run_set = run_set
        self._index = index

    def __del__(self) -> None:
        self._run_set.let_go(self._index)

    @property
    def task(self) -> Task[..., Any]:
        return self._run_set.task

    @property
    def name(self) -> str:
        """The task run's name: the one that ``task_run_name`` gives once it has started."""
        given = self._run_set.names.get(self._index)
        if given is not None:
            return given
        group, index = self._run_set.summary.origin(self._index)
        return group.run_name(index)

    @property
    def key(self) -> str:
        """A text that is unique to the run."""
        return f"{self._run_set.task.name}-{self.task_run_id.hex}"

    @property
    def asynchronous(self) -> bool:
        """Whether ``wait``, ``result`` and ``get_state`` are to be awaited."""
        return self._run_set.asynchronous

    @property
    def task_run_id(self) -> UUID:
        group, index = self._run_set.summary.origin(self._index)
        return ids.run_id(group.prefix, index)

    @property
    def task_run(self) -> TaskRun:
        """The run's record, as far as this process has it; ``get_state`` reads the store."""
        return self._run_set.task_run(self._index)

    @property
    def state(self) -> State:
        """The run's state as this process knows it: its outcome if it may be seen, else its first state."""
        committed = self._run_set.committed_state(self._index)
        if committed is not None:
            return committed
        group, index = self._run_set.summary.origin(self._index)
        return group.first_state(index)

    def wait(self, timeout: float | None = None) -> State | None:
        """Waits for the run to end.

        Parameters:
            timeout: Seconds; None waits without a limit.

        Returns:
            The final state, or None at the timeout.
        """
        return self._wait(timeout)

    @overload
    def result(self, timeout: float | None = None, raise_on_failure: Literal[True] = True) -> R_co: ...

    @overload
    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R_co | BaseException: ...

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R_co | BaseException:
        """Waits for the run to end and returns its value.

        Parameters:
            timeout: Seconds; None waits without a limit.
            raise_on_failure: False returns the exception of a run that did not complete instead of raising it.

        Raises:
            TimeoutError: The run did not end in time.
            Exception: What the task raised.
        """
        return cast(R_co, self._value(self._in_time(self._wait(timeout), timeout), raise_on_failure))

    def get_state(self) -> State:
        """Reads the run's current state, which need not be final, from the store."""
        from core_engine.concurrency.waiting import step

        return step(self._read_state())

    def cancel(self) -> bool:
        """Asks for the run to be cancelled. A run that has ended stays as it is.

        Returns:
            Whether the run had not ended yet.
        """
        from core_engine.engine.cancellation import cancel_task_run

        return cancel_task_run(self._run_set, self._index)

    # Waiting ----------------------------------------------------------------------------------------------------------

    def _wait(self, timeout: float | None = None) -> State | None:
        state = self._run_set.committed_state(self._index)
        if state is not None:
            return state
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._run_set.ended(self._index).wait(timeout):
            return None
        # A thread that waits for the journal commits itself if the writer is not at it: no hop to another thread.
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        return self._run_set.recorded_state(self._index, left)

    async def _arrive(self, timeout: float | None = None) -> State | None:
        if not drives_loop():
            return self._wait(timeout)
        state = self._run_set.committed_state(self._index)
        if state is None and await self._run_set.durably_ended(self._index).arrive(timeout):
            state = self._run_set.recorded_state(self._index)
        return state

    async def _arrive_result(self, timeout: float | None, raise_on_failure: bool) -> Any:
        return await fetch_state_result(self._in_time(await self._arrive(timeout), timeout), raise_on_failure)

    def _in_time(self, state: State | None, timeout: float | None) -> State:
        if state is None:
            raise TimeoutError(f"Task run {self.name!r} did not end within {timeout} seconds.")
        return state

    def _value(self, state: State, raise_on_failure: bool) -> Any:
        value = read_state_result(state, raise_on_failure)
        link_handed_over(state, value)
        return value

    async def _read_state(self) -> State:
        run = await self._run_set.flow_run.client.read_task_run(self.task_run_id)
        assert run.state is not None
        return run.state

    # As a value -------------------------------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        warnings.warn(
            f"The future of task run {self.name!r} was tested for truth, which is always true. "
            "Its result was probably meant: future.result().",
            UserWarning,
            stacklevel=2,
        )
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskFuture) and other._run_set is self._run_set and other._index == self._index

    def __hash__(self) -> int:
        return hash((id(self._run_set), self._index))

    def __repr__(self) -> str:
        return f"TaskFuture({self.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """A future that is pickled arrives as the state of its run, once that is final."""
        state = self._wait()
        return _arrived, (state,)


def _arrived(state: State) -> State:
    return state


class AsyncTaskFuture(TaskFuture[R_co]):
    """The future of an async task in an async flow: ``wait``, ``result`` and ``get_state`` are to be awaited."""

    __slots__ = ()

    def wait(self, timeout: float | None = None) -> Coroutine[Any, Any, State | None]:  # type: ignore[override]
        return self._arrive(timeout)

    @overload  # type: ignore[override]
    def result(
        self, timeout: float | None = None, raise_on_failure: Literal[True] = True
    ) -> Coroutine[Any, Any, R_co]: ...

    @overload
    def result(
        self, timeout: float | None = None, raise_on_failure: bool = True
    ) -> Coroutine[Any, Any, R_co | BaseException]: ...

    def result(
        self, timeout: float | None = None, raise_on_failure: bool = True
    ) -> Coroutine[Any, Any, R_co | BaseException]:
        return self._arrive_result(timeout, raise_on_failure)

    def get_state(self) -> Coroutine[Any, Any, State]:  # type: ignore[override]
        return self._read_state()


def as_completed(futures: Iterable[F], timeout: float | None = None) -> AsCompleted[F]:
    """Yields futures in the order in which their runs end, with `for` or `async for`.

    Parameters:
        futures: The futures, each yielded once.
        timeout: Seconds for all of them together; None means no limit.

    Raises:
        TypeError: One of them is no future.
        TimeoutError: When iterating, that some did not end in time.
    """
    return AsCompleted(futures, timeout)


class AsCompleted(Generic[F]):
    """The iterator that ``as_completed`` returns."""

    def __init__(self, futures: Iterable[F], timeout: float | None) -> None:
        unique = list(dict.fromkeys(futures))
        for future in unique:
            if not isinstance(future, TaskFuture):
                raise TypeError(
                    f"as_completed takes futures, as `submit` and `map` return them, not {type(future).__name__}."
                )
        self._remaining = len(unique)
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._lock = threading.Lock()
        self._ended: deque[F] = deque()
        self._news = Latch()
        for future in unique:
            future._run_set.durably_ended(future._index).add_callback(self._put(future))

    def _put(self, future: F) -> Callable[[], object]:
        return lambda: self._tell(future)

    def _tell(self, future: F) -> None:
        with self._lock:
            self._ended.append(future)
            news, self._news = self._news, Latch()
        news.set()

    async def _next(self) -> F | None:
        """Waits for the next future; None when all have been yielded."""
        while True:
            with self._lock:
                if self._ended:
                    self._remaining -= 1
                    if not self._remaining:
                        self._news.set()  # for others who iterate as well
                    return self._ended.popleft()
                if not self._remaining:
                    return None
                news = self._news
            left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            if not await news.arrive(left):
                raise TimeoutError(f"{self._remaining} task runs did not end within {self._timeout} seconds.")

    def __iter__(self) -> Iterator[F]:
        while (future := step(self._next())) is not None:
            yield future

    async def __aiter__(self) -> AsyncIterator[F]:
        while (future := await self._next()) is not None:
            yield future


def resolve_futures_to_states(expr: Any) -> Any:
    """Returns `expr` with its futures, at any depth, replaced by their final states; blocks until they have ended."""
    from core_engine.utilities.handles import resolve

    return resolve(expr, (TaskFuture,), lambda future, annotations: future._wait(), keep_annotations=True)


def resolve_futures_to_data(expr: Any, raise_on_failure: bool = True) -> Any:
    """Returns `expr` with its futures, at any depth, replaced by their values; blocks until they have ended.

    Raises:
        Exception: What a task failed with, unless `raise_on_failure` is False, when it stands in the value's place.
    """
    from core_engine.utilities.handles import resolve

    def value(future: TaskFuture[Any], annotations: object) -> Any:
        return future._value(future._in_time(future._wait(), None), raise_on_failure)

    return resolve(expr, (TaskFuture,), value, keep_annotations=True)


def wait_for_all(futures: Sequence[TaskFuture[Any]]) -> list[State]:
    """Blocks until all runs have ended; returns their final states in order."""
    return [future._in_time(future._wait(), None) for future in futures]


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
