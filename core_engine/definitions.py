"""What the definitions of flows and tasks have in common: options that are not given, names that are counted."""

from __future__ import annotations

import functools
import inspect
import warnings
from types import FunctionType
from typing import Any, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")


class Unset:
    """Type of ``NOT_SET``: tells an option that was not given from one that was given as None."""

    _only: Unset | None = None

    def __new__(cls) -> Unset:
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __repr__(self) -> str:
        return "NOT_SET"

    def __reduce__(self) -> str:
        return "NOT_SET"


NOT_SET: Any = Unset()


def given(value: T, otherwise: T) -> T:
    """Returns `value`, or `otherwise` if the option was not given."""
    return otherwise if value is NOT_SET else value


def is_method(fn: object) -> bool:
    """Returns whether `fn` is a function that is defined in the body of a class."""
    place = fn.__qualname__.rpartition(".")[0] if isinstance(fn, FunctionType) else ""
    return bool(place) and not place.endswith("<locals>")


def is_async(fn: Any) -> bool:
    """Returns whether calling `fn` gives a coroutine."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)


class Definitions:
    """The live definitions of one kind, by name, so that a second one under a taken name is noticed.

    Parameters:
        kind: "flow" or "task".
        per_module: Whether only definitions of the same module are compared. A flow's name stands for it in the store;
            a task's counts only beside its module.
    """

    def __init__(self, kind: str, per_module: bool = False) -> None:
        self._kind = kind
        self._per_module = per_module
        self._known: WeakValueDictionary[str, Any] = WeakValueDictionary()

    def add(self, definition: Any) -> None:
        """Remembers a definition; warns if another function has its name."""
        key = f"{definition.fn.__module__}:{definition.name}" if self._per_module else definition.name
        other = self._known.get(key)
        if other is not None and other.fn is not definition.fn:
            warnings.warn(
                f"A {self._kind} named {definition.name!r} is defined already, with another function; this one is at "
                f"{_place(definition.fn)}. Give one of them another name.",
                UserWarning,
                stacklevel=4,
            )
        self._known[key] = definition


def _place(fn: Any) -> str:
    try:
        return f"{inspect.getsourcefile(fn)}:{inspect.getsourcelines(fn)[1]}"
    except (OSError, TypeError):
        return "an unknown place"


def register(definition: Any, kind: str) -> None:
    """Adds a definition to the object registry that is active, if one is."""
    from core_engine.context import ObjectRegistry

    registry = ObjectRegistry.get()
    if registry is not None:
        (registry.flows if kind == "flow" else registry.tasks).append(definition)


def captures_failure(error: BaseException, fn: Any) -> bool:
    """Stores a construction error in the active registry if that wants it; returns whether it did."""
    from core_engine.context import ObjectRegistry

    registry = ObjectRegistry.get()
    if registry is None or not registry.capture_failures:
        return False
    registry.failures.append((error, fn))
    return True
