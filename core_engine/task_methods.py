"""How a task is used: called, submitted, mapped, streamed; the same few calls for every task, typed after its function.

Of the overloads of each method those for a task of unknown type (Any) come first; then those that return states, which
no function's own parameters can be mistaken for, as `return_state` and `wait_for` are reserved (hence the overlaps that
are ignored); then those that keep the function's parameters; last those that take futures, states and annotations in
the place of values. Of two that differ only in it, the one for async tasks comes first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, Never, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from core_engine.futures import AsyncTaskFuture, TaskFuture
    from core_engine.schemas.states import State

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class TaskMethods(ABC, Generic[P, R_co]):
    """The part of Task that makes runs."""

    @overload
    def __call__(self: TaskMethods[..., Never], *args: Any, return_state: Literal[True], **kwargs: Any) -> Any: ...

    @overload
    def __call__(
        self: TaskMethods[..., Coroutine[Any, Any, Any]],
        *args: Any,
        return_state: Literal[True],
        wait_for: Iterable[Any] | None = ...,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, State]: ...

    @overload
    def __call__(
        self, *args: Any, return_state: Literal[True], wait_for: Iterable[Any] | None = ..., **kwargs: Any
    ) -> State: ...

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(
        self, *args: Any, return_state: Literal[False] = ..., wait_for: Iterable[Any] | None = ..., **kwargs: Any
    ) -> R_co: ...

    def __call__(self, *args: Any, return_state: Any = False, wait_for: Any = None, **kwargs: Any) -> Any:
        """Runs the task now, in the flow's process, and returns its result (`return_state`: its final State).

        Parameters:
            wait_for: Upstreams without data, which must complete first; None: none.

        Raises:
            RuntimeError: Outside a flow, or inside a task.
            ParameterBindError: The arguments do not fit the function.
            Exception: What the task failed with, unless `return_state`.
        """
        return self._enter(args, kwargs, wait_for, "state" if return_state else "result", immediately=True)

    @overload
    def _run(self: TaskMethods[..., Never], *args: Any, **kwargs: Any) -> Any: ...

    @overload
    def _run(
        self: TaskMethods[..., Coroutine[Any, Any, Any]],
        *args: Any,
        wait_for: Iterable[Any] | None = ...,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, State]: ...

    @overload
    def _run(self, *args: Any, wait_for: Iterable[Any] | None = ..., **kwargs: Any) -> State: ...

    def _run(self, *args: Any, wait_for: Iterable[Any] | None = None, **kwargs: Any) -> Any:
        """The old spelling of a call with ``return_state=True``."""
        return self._enter(args, kwargs, wait_for, "state", immediately=True)

    @overload
    def submit(self: TaskMethods[..., Never], *args: Any, **kwargs: Any) -> Any: ...

    @overload
    def submit(  # type: ignore[overload-overlap]
        self: TaskMethods[..., Coroutine[Any, Any, Any]],
        *args: Any,
        return_state: Literal[True],
        wait_for: Iterable[Any] | None = ...,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, State]: ...

    @overload
    def submit(  # type: ignore[overload-overlap]
        self, *args: Any, return_state: Literal[True], wait_for: Iterable[Any] | None = ..., **kwargs: Any
    ) -> State: ...

    @overload
    def submit(  # type: ignore[overload-overlap]
        self: TaskMethods[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, AsyncTaskFuture[T]]: ...

    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskFuture[R_co]: ...

    @overload
    def submit(
        self: TaskMethods[..., Coroutine[Any, Any, T]],
        *args: Any,
        return_state: Literal[False] = ...,
        wait_for: Iterable[Any] | None = ...,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, AsyncTaskFuture[T]]: ...

    @overload
    def submit(
        self, *args: Any, return_state: Literal[False] = ..., wait_for: Iterable[Any] | None = ..., **kwargs: Any
    ) -> TaskFuture[R_co]: ...

    def submit(self, *args: Any, return_state: Any = False, wait_for: Any = None, **kwargs: Any) -> Any:
        """Submits a run to the flow's task runner and returns its TaskFuture at once.

        With `return_state` it waits and returns the final State. Otherwise as a call.
        """
        return self._enter(args, kwargs, wait_for, "state" if return_state else "future")

    @overload
    def map(self: TaskMethods[..., Never], *args: Any, **kwargs: Any) -> Any: ...

    @overload
    def map(
        self: TaskMethods[..., Coroutine[Any, Any, Any]],
        *args: Any,
        return_state: Literal[True],
        wait_for: Iterable[Any] | None = ...,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, list[State]]: ...

    @overload
    def map(
        self, *args: Any, return_state: Literal[True], wait_for: Iterable[Any] | None = ..., **kwargs: Any
    ) -> list[State]: ...

    @overload
    def map(
        self: TaskMethods[..., Coroutine[Any, Any, T]],
        *args: Any,
        return_state: Literal[False] = ...,
        wait_for: Iterable[Any] | None = ...,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, list[AsyncTaskFuture[T]]]: ...

    @overload
    def map(
        self, *args: Any, return_state: Literal[False] = ..., wait_for: Iterable[Any] | None = ..., **kwargs: Any
    ) -> list[TaskFuture[R_co]]: ...

    def map(self, *args: Any, return_state: Any = False, wait_for: Any = None, **kwargs: Any) -> Any:
        """Submits one run for each position of the iterable arguments, in step, and returns their futures in order.

        What is no iterable, text, or wrapped in ``unmapped(...)`` is the same for every run.

        Raises:
            MappingMissingIterable: No argument is iterable.
            MappingLengthMismatch: The iterables have different lengths.
        """
        return self._enter(args, kwargs, wait_for, "state" if return_state else "future", mapped=True)

    @overload
    def stream(self: TaskMethods[..., Never], iterable: Any, *args: Any, **kwargs: Any) -> Any: ...

    @overload
    def stream(
        self: TaskMethods[..., Coroutine[Any, Any, T]],
        iterable: Iterable[Any] | AsyncIterable[Any],
        *args: Any,
        wait_for: Iterable[Any] | None = ...,
        **kwargs: Any,
    ) -> AsyncIterator[AsyncTaskFuture[T]]: ...

    @overload
    def stream(
        self, iterable: Iterable[Any], *args: Any, wait_for: Iterable[Any] | None = ..., **kwargs: Any
    ) -> Iterator[TaskFuture[R_co]]: ...

    def stream(self, iterable: Any, *args: Any, wait_for: Any = None, **kwargs: Any) -> Any:
        """Runs the task for each item of `iterable`, read in a window, and yields the futures as their runs have ended.

        The lazy form of `map`: the input may be endless, and what is held does not grow with it as long as the caller
        keeps no futures. Leaving the loop early stops reading and cancels what is in flight.

        Parameters:
            iterable: The values of the task's first parameter; async iterables for an async task in an async flow.
            args, kwargs: The other arguments, the same for every run.
            wait_for: Upstreams without data, which must complete first; None: none.

        Returns:
            An iterator of TaskFuture, in the order of the input or as completed (``MapOptions.ordered``); an async
            iterator for an async task in an async flow.
        """
        return self._stream(iterable, args, kwargs, wait_for)

    @abstractmethod
    def _enter(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait_for: Iterable[Any] | None,
        return_type: str,
        mapped: bool = False,
        immediately: bool = False,
    ) -> Any:
        """Makes one run, or one for each position if `mapped`, and returns what `return_type` says of them."""

    @abstractmethod
    def _stream(
        self, iterable: Any, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Iterable[Any] | None
    ) -> Any:
        """Returns the iterator, or the async iterator, of a stream."""
