"""What the definitions of flows and tasks have in common: options that are checked, names that are counted."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from types import FunctionType
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from core_engine.exceptions import InvalidNameError

T = TypeVar("T")

FORBIDDEN_IN_NAMES = "/%&><"


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


def check_callable(fn: object, kind: str) -> None:
    """Raises TypeError unless `fn` can be called."""
    if isinstance(fn, classmethod):
        raise TypeError(f"A {kind} is made of a function, not of a class method. Write @classmethod above @{kind}.")
    if not callable(fn):
        raise TypeError(f"A {kind} is made of a function; {fn!r} ({type(fn).__name__}) cannot be called.")


def check_name(name: object, kind: str) -> None:
    """Checks an explicit name.

    Raises:
        TypeError: It is not text.
        InvalidNameError: It holds a character that is not allowed.
    """
    if not isinstance(name, str):
        hint = " Write @flow(...) with keywords, or call the function that makes the name." if callable(name) else ""
        raise TypeError(f"The parameter 'name' of a {kind} must be a string, not {type(name).__name__}.{hint}")
    found = [character for character in FORBIDDEN_IN_NAMES if character in name]
    if found:
        raise InvalidNameError(
            f"The name {name!r} holds the character {found[0]!r}, which is not allowed in a {kind}'s name."
        )


def check_run_name(run_name: object, option: str) -> None:
    """Raises TypeError unless `run_name` is a template, a function or None."""
    if run_name is not None and not isinstance(run_name, str) and not callable(run_name):
        raise TypeError(f"{option} must be a string or a function that makes one, not {type(run_name).__name__}.")


def check_hooks(hooks: object, option: str) -> list[Callable[..., Any]] | None:
    """Returns the hooks as a list; None stays None.

    Raises:
        TypeError: Not an iterable of callables.
        ValueError: An empty iterable.
    """
    if hooks is None:
        return None
    if not isinstance(hooks, Iterable) or isinstance(hooks, (str, bytes)):
        raise TypeError(
            f"{option} takes a list of functions, not {type(hooks).__name__}. Write {option}=[hook1, hook2]."
        )
    listed = list(hooks)
    if not listed:
        raise ValueError(f"{option} is empty. Give at least one function, or leave the option out.")
    for hook in listed:
        if not callable(hook):
            raise TypeError(f"{option} takes a list of functions; it holds a {type(hook).__name__} ({hook!r}).")
    return listed


def check_timeout(timeout_seconds: float | None) -> float | None:
    """Returns the limit as a float; None and 0 mean none."""
    return float(timeout_seconds) if timeout_seconds else None


def check_resources(resources: object) -> dict[str, float] | None:
    """Returns a copy of what a task takes of its worker; None and nothing mean nothing in particular.

    Raises:
        TypeError: Not a mapping from names to numbers.
        ValueError: An amount that is not above 0, or not finite.
    """
    if resources is None:
        return None
    if not isinstance(resources, Mapping):
        raise TypeError(f"resources must be a mapping such as {{'GPU': 1}}, not {type(resources).__name__}.")
    for name, amount in resources.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"A resource is named by a string, not {name!r}.")
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            raise TypeError(f"The amount of the resource {name!r} must be a number, not {amount!r}.")
        if not (amount > 0 and isfinite(amount)):
            raise ValueError(f"The amount of the resource {name!r} must be above 0, not {amount}.")
    return dict(resources) or None


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
