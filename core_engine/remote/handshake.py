"""What must be the same on workers and in the flow's process, compared when a runner meets a worker (D21)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, TypeVar

from core_engine.exceptions import CoreEngineError

F = TypeVar("F", bound=Callable[..., Any])

MISSING = "none"


class MissingPackage(CoreEngineError, RuntimeError):
    """core_engine is not installed where it is needed."""


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
    """Returns the versions of what travels, and of what carries it, in the process that this is called in.

    It needs nothing of ours: a worker calls it ``by_value``, and says "none" of what it does not have.

    Parameters:
        library: The distribution that the runner is built on, such as "distributed".
    """
    import importlib.util
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in ("core-engine", "cloudpickle", library):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    try:
        is_there = all(importlib.util.find_spec(module) is not None for module in ("core_engine", "runners"))
    except (ImportError, ValueError):
        is_there = False
    if not is_there:
        found["core-engine"] = "none"
    elif found["core-engine"] == "none":
        found["core-engine"] = "unknown"
    return found


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Returns what differs, one text for each, such as "cloudpickle: 3.0.0 there, 3.1.1 here"."""
    names = dict.fromkeys([*ours, *theirs])
    return [
        f"{name}: {theirs.get(name, MISSING)} there, {ours.get(name, MISSING)} here"
        for name in names
        if ours.get(name) != theirs.get(name)
    ]


def check_worker(worker: str, ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Returns a warning for each thing that differs on a worker.

    Parameters:
        worker: What to call it, such as "Dask worker tcp://10.0.0.7:41231".
        ours, theirs: What ``versions`` gave here and there.

    Raises:
        MissingPackage: core_engine is not installed there.
    """
    if theirs.get("core-engine", MISSING) == MISSING:
        raise MissingPackage(
            f"core_engine is not installed on the {worker}, or cannot be imported there. Install it there, in the "
            f"version of the flow's process: pip install core-engine=={ours.get('core-engine')}"
        )
    return [
        f"The {worker} has another version than this process: {difference}" for difference in differences(ours, theirs)
    ]
