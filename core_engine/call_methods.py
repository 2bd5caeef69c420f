"""How flows and tasks are called, typed after their functions.

Of the overloads of each method those for an unknown type (Any) come first; then those that return states, which no
function's own parameters can be mistaken for, as `return_state` and `wait_for` are reserved (hence the overlaps that
are ignored); then those that keep the function's parameters; last those that take futures, states and annotations in
the place of values. Of two that differ only in it, the one for async functions comes first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, Never, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from core_engine.schemas.states import State

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class CallMethods(ABC, Generic[P, R_co]):
    """What flows and tasks have in common: they are called like their functions."""

    @overload
    def __call__(self: CallMethods[..., Never], *args: Any, return_state: Literal[True], **kwargs: Any) -> Any: ...

    @overload
    def __call__(
        self: CallMethods[..., Coroutine[Any, Any, Any]],
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
        """Runs it now, a task in the flow's process, and returns its result (`return_state`: its final State).

        Parameters:
            wait_for: For a task or a subflow: upstreams without data, which must complete first; None: none.

        Returns:
            An awaitable if the function is async and its caller can await; else the value.

        Raises:
            RuntimeError: A task outside a flow; a flow or task inside a task.
            ParameterBindError: The arguments do not fit the function.
            ValueError: `wait_for` on a flow that is no subflow.
            Exception: What the run failed with, unless `return_state`.
        """
        return self._call(args, kwargs, wait_for, "state" if return_state else "result")

    @overload
    def _run(self: CallMethods[..., Never], *args: Any, **kwargs: Any) -> Any: ...

    @overload
    def _run(
        self: CallMethods[..., Coroutine[Any, Any, Any]],
        *args: Any,
        wait_for: Iterable[Any] | None = ...,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, State]: ...

    @overload
    def _run(self, *args: Any, wait_for: Iterable[Any] | None = ..., **kwargs: Any) -> State: ...

    def _run(self, *args: Any, wait_for: Iterable[Any] | None = None, **kwargs: Any) -> Any:
        """The old spelling of a call with ``return_state=True``."""
        return self._call(args, kwargs, wait_for, "state")

    @abstractmethod
    def _call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Iterable[Any] | None, return_type: str
    ) -> Any:
        """Makes one run and returns its "state" or "result", as `return_type` says."""
