"""How a task is used: submitted, mapped, streamed; typed after its function.

The overloads stand in the order that ``call_methods`` explains.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Never, TypeVar, overload

from core_engine.call_methods import CallMethods, P, R_co

if TYPE_CHECKING:
    from core_engine.futures import AsyncTaskFuture, TaskFuture
    from core_engine.schemas.states import State

T = TypeVar("T")


class TaskMethods(CallMethods[P, R_co]):
    """The part of Task that makes runs."""

    def _call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Iterable[Any] | None, return_type: str
    ) -> Any:
        return self._enter(args, kwargs, wait_for, return_type, immediately=True)

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
