"""Which part of a value cannot be serialized: the search behind errors that name it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

Dumps = Callable[[Any], object]
Part = tuple[str, Any]

# Deeper than any path that a person would read; a bound for structures that make new parts whenever asked.
_MAX_DEPTH = 100


def find_unpicklable(value: Any, dumps: Dumps | None = None, name: str = "value") -> tuple[str, type] | None:
    """Finds the innermost part of a value that cannot be pickled, and why the whole cannot.

    The cost is a few times that of pickling the value, at each level of the path.

    Parameters:
        value: Anything.
        dumps: What pickles, raising an exception where it cannot; None is cloudpickle's.
        name: What to call the value in the path.

    Returns:
        The path to the part, such as ``value['models'][3].lock``, and its type; None if all can be pickled.
    """
    if dumps is None:
        import cloudpickle

        dumps = cloudpickle.dumps
    if _can(dumps, value):
        return None
    path = name
    trail = [value]
    while len(trail) < _MAX_DEPTH:
        # What contains itself is not searched again.
        parts = [part for part in _parts(value) if not any(part[1] is seen for seen in trail)]
        found = _first_failing(parts, dumps)
        if found is None:
            break
        path += found[0]
        value = found[1]
        trail.append(value)
    return path, type(value)


def describe_type(kind: type) -> str:
    """Returns a type's name with its module, unless that is builtins."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _can(dumps: Dumps, value: Any) -> bool:
    try:
        dumps(value)
    except Exception:  # user code may raise anything while it is pickled
        return False
    return True


def _first_failing(parts: list[Part], dumps: Dumps) -> Part | None:
    """Halves the parts until the first culprit is left: a million members cost two passes, not a million calls."""
    if not parts or _can(dumps, [value for _, value in parts]):
        return None
    while len(parts) > 1:
        half = parts[: len(parts) // 2]
        parts = parts[len(half) :] if _can(dumps, [value for _, value in half]) else half
    # Parts may fail together, being too deep or too large, of which each one passes.
    return None if _can(dumps, parts[0][1]) else parts[0]


def _parts(value: Any) -> list[Part]:
    """Returns what a pickle of `value` would hold, each with the text that leads to it."""
    if isinstance(value, (type, ModuleType, BuiltinFunctionType)):
        return []
    if type(value) is dict:
        return _entries(value)
    if type(value) in (list, tuple, set, frozenset, deque):
        return [(f"[{position}]", member) for position, member in enumerate(value)]
    if isinstance(value, MethodType):
        return [(".__self__", value.__self__), (".__func__", value.__func__)]
    if isinstance(value, FunctionType):
        return _captured(value)
    return _reduced(value)


def _entries(mapping: Mapping[Any, Any]) -> list[Part]:
    keys = [(f".keys()[{position}]", key) for position, key in enumerate(mapping)]
    return keys + [(f"[{_key_text(key)}]", member) for key, member in mapping.items()]


def _key_text(key: Any) -> str:
    return repr(key) if isinstance(key, (str, int, float, bytes, bool)) else f"<{describe_type(type(key))}>"


def _captured(function: FunctionType) -> list[Part]:
    """What a function sent by value takes along: its defaults, its closure and the globals that it names."""
    parts: list[Part] = [(f".__defaults__[{i}]", default) for i, default in enumerate(function.__defaults__ or ())]
    parts += [(f".__kwdefaults__[{name!r}]", default) for name, default in (function.__kwdefaults__ or {}).items()]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            parts.append((f".<variable {name}>", cell.cell_contents))
        except ValueError:
            continue  # the variable has no value yet
    module_names = function.__globals__
    parts += [(f".<global {name}>", module_names[name]) for name in function.__code__.co_names if name in module_names]
    return parts


def _reduced(value: Any) -> list[Part]:
    """Takes an object apart as pickle does; nothing where it refuses to be."""
    try:
        reduced = value.__reduce_ex__(4)
        if not isinstance(reduced, tuple):
            return []
        _, arguments, state, members, entries = (*reduced, None, None, None)[:5]
        parts = [(f".args[{i}]", argument) for i, argument in enumerate(arguments) if not isinstance(argument, type)]
        parts += [(f"[{position}]", member) for position, member in enumerate(members or ())]
        parts += _entries(dict(entries or ()))
        return parts + _attributes(state)
    except Exception:  # it is user code that says what an object consists of; then the object itself is the culprit
        return []


def _attributes(state: Any) -> list[Part]:
    if state is None:
        return []
    # Slots come as a second dictionary.
    groups = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    parts: list[Part] = []
    for group in groups:
        if not isinstance(group, dict):
            parts += [] if group is None else [(".__getstate__()", group)]
            continue
        # pydantic's models keep their fields one level down.
        fields = group.get("__dict__")
        parts += [(f".{name}", member) for name, member in (fields or {}).items()]
        parts += [(f".{name}", member) for name, member in group.items() if name != "__dict__"]
    return parts
