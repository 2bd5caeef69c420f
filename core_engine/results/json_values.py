"""Python values as JSON and back, without loss.

What JSON can say stays as it is: None, booleans, numbers, texts, lists, dictionaries with texts as keys. Everything
else becomes a dictionary with its class path under ``__class__``, and is made again from it: readable for the common
types (``{"__class__": "uuid.UUID", "data": "…"}``), else by what pickle would keep (arguments, state, members).

Reading makes objects of any class that the text names, so it asks for the same trust as unpickling does.
"""

from __future__ import annotations

import base64
import copyreg
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib import import_module
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from types import BuiltinFunctionType, FunctionType
from typing import Any
from uuid import UUID

CLASS = "__class__"

_PLAIN = frozenset({str, int, float, bool, type(None)})
_CALLABLES = (type, FunctionType, BuiltinFunctionType)

# Type to (to JSON, from JSON); exact types only, a subclass is taken apart as any other object.
_READABLE: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    bytes: (lambda value: base64.b64encode(value).decode("ascii"), base64.b64decode),
    bytearray: (lambda value: base64.b64encode(value).decode("ascii"), lambda data: bytearray(base64.b64decode(data))),
    complex: (str, complex),
    Decimal: (str, Decimal),
    UUID: (str, UUID),
    date: (date.isoformat, date.fromisoformat),
    **{kind: (str, kind) for kind in (PosixPath, WindowsPath, PurePosixPath, PureWindowsPath)},
}
_CONTAINERS: dict[type, Callable[[Any], Any]] = {tuple: tuple, set: set, frozenset: frozenset}


def to_json_value(value: Any) -> Any:
    """Returns `value` in terms of JSON.

    Raises:
        TypeError: Its class cannot be found again by its path, or objects of it cannot be taken apart.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return [member if type(member) in _PLAIN else to_json_value(member) for member in value]
    if kind is dict:
        if CLASS not in value and all(type(key) is str for key in value):
            return {key: to_json_value(member) for key, member in value.items()}
        return {CLASS: "builtins.dict", "data": [[to_json_value(k), to_json_value(v)] for k, v in value.items()]}
    return encode_object(value)


def encode_object(value: Any) -> dict[str, Any]:
    """Returns the dictionary that stands for an object which JSON does not know. Raises what `to_json_value` raises."""
    kind = type(value)
    if kind in _READABLE:
        return {CLASS: class_path(kind), "data": _READABLE[kind][0](value)}
    if kind in _CONTAINERS:
        return {CLASS: class_path(kind), "data": [to_json_value(member) for member in value]}
    if isinstance(value, _CALLABLES):
        return {CLASS: "builtins.type", "data": class_path(value)}
    # An offset that is more than UTC has objects of its own, and only the first of an hour that comes twice is plain.
    if kind in (datetime, time) and value.tzinfo in (None, UTC) and not value.fold:
        return {CLASS: class_path(kind), "data": value.isoformat()}
    return _take_apart(value)


def from_json_value(value: Any) -> Any:
    """Returns what `to_json_value` was given.

    Raises:
        TypeError, ValueError, ImportError, AttributeError: A class that the text names is not there, or is another.
    """
    kind = type(value)
    if kind is list:
        return [member if type(member) in _PLAIN else from_json_value(member) for member in value]
    if kind is not dict:
        return value
    if CLASS not in value:
        return {key: from_json_value(member) for key, member in value.items()}
    if value[CLASS] == "builtins.dict" and "data" in value:
        return {from_json_value(key): from_json_value(member) for key, member in value["data"]}
    return decode_object({key: from_json_value(member) for key, member in value.items()})


def decode_object(fields: dict[str, Any]) -> Any:
    """Makes the object that `encode_object` took apart; its parts are decoded already. Other dictionaries stay."""
    path = fields.get(CLASS)
    if not isinstance(path, str):
        return fields
    if path == "builtins.type":
        return find_class(fields["data"])
    if path == "builtins.dict":
        return dict(fields["data"])
    made_from = find_class(path)
    if "data" in fields:
        return _from_data(made_from, fields["data"])
    return _put_together(made_from, fields)


def class_path(found: Any) -> str:
    """Returns the dotted path of a class or function. Raises TypeError if the path does not lead back to it."""
    # Class methods written in C know their class, not their module.
    module = found.__module__ or getattr(getattr(found, "__self__", None), "__module__", None)
    # Python 3.13 alone has its paths in a private module, and others are to read them.
    module = "pathlib" if module == "pathlib._local" else module
    return _checked_path(f"{module}.{found.__qualname__}", found)


def _checked_path(path: str, value: Any) -> str:
    try:
        # Methods of classes are made anew whenever they are asked for, and only equal.
        is_found = find_class(path) == value
    except (ImportError, AttributeError, ValueError):
        is_found = False
    if not is_found:
        raise TypeError(f"{path} cannot be found by its path (is it made in a function?), so JSON cannot name it")
    return path


def find_class(path: str) -> Any:
    """Returns what stands at a dotted path, importing modules as needed. Raises ImportError or AttributeError."""
    module_path, *names = path.split(".")
    found: Any = import_module(module_path)
    for name in names:
        module_path = f"{module_path}.{name}"
        try:
            found = getattr(found, name)
        except AttributeError:
            if not hasattr(found, "__path__"):
                raise
            found = import_module(module_path)
    return found


def _from_data(kind: Any, data: Any) -> Any:
    if kind in _READABLE:
        return _READABLE[kind][1](data)
    if kind in _CONTAINERS:
        return _CONTAINERS[kind](data)
    if kind in (datetime, time):
        return kind.fromisoformat(data)
    raise ValueError(f"{kind!r} cannot be made of {data!r}.")


def _take_apart(value: Any) -> dict[str, Any]:
    reduced: Any = value.__reduce_ex__(2)
    if isinstance(reduced, str):
        return {
            CLASS: "builtins.type",
            "data": _checked_path(f"{getattr(value, '__module__', 'builtins')}.{reduced}", value),
        }
    make, arguments, state, members, entries = (*reduced, None, None, None)[:5]
    if make is copyreg.__newobj__:  # type: ignore[attr-defined]  # pickle's own name for cls.__new__
        fields = {CLASS: class_path(arguments[0]), "new": to_json_value(list(arguments[1:]))}
    else:
        fields = {CLASS: class_path(make), "args": to_json_value(list(arguments))}
    if state is not None:
        fields["state"] = to_json_value(state)
    if members is not None:
        fields["members"] = to_json_value(list(members))
    if entries is not None:
        fields["entries"] = [[to_json_value(key), to_json_value(member)] for key, member in entries]
    return fields


def _put_together(make: Any, fields: dict[str, Any]) -> Any:
    made = make.__new__(make, *fields["new"]) if "new" in fields else make(*fields["args"])
    if "members" in fields:
        for member in fields["members"]:
            made.append(member)
    for key, member in fields.get("entries", ()):
        made[key] = member
    if "state" in fields:
        _set_state(made, fields["state"])
    return made


def _set_state(made: Any, state: Any) -> None:
    """What pickle does with a state."""
    if hasattr(made, "__setstate__"):
        made.__setstate__(state)
        return
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if attributes:
        made.__dict__.update(attributes)
    for name, value in (slots or {}).items():
        object.__setattr__(made, name, value)
