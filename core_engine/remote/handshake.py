"""What must be the same on workers and in the flow's process, compared when a runner starts (D21)."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def by_value(function: F) -> F:
    """Returns a copy of a function that cloudpickle takes along whole, so that it runs where our modules are missing.

    Parameters:
        function: A function of a module that uses nothing but builtins and what it imports itself.
    """
    if not isinstance(function, FunctionType):
        raise TypeError(f"Only a function can travel by value, not {type(function).__name__}.")
    copy = FunctionType(function.__code__, {"__builtins__": __builtins__}, function.__name__, function.__defaults__)
    # cloudpickle takes what belongs to the main script by value.
    copy.__module__ = "__main__"
    return copy  # type: ignore[return-value]


def versions(library: str) -> dict[str, str]:
    """Returns the versions here of what travels, and of what carries it.

    Parameters:
        library: The distribution that the runner is built on, such as "distributed".
    """
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in ("core-engine", "cloudpickle", library):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Returns what differs, one text for each, such as "cloudpickle: 3.0.0 there, 3.1.1 here"."""
    names = dict.fromkeys([*ours, *theirs])
    return [
        f"{name}: {theirs.get(name, 'none')} there, {ours.get(name, 'none')} here"
        for name in names
        if ours.get(name) != theirs.get(name)
    ]
