"""Stable hashes: equal in every process for equal texts, values, files and functions."""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import cloudpickle

from core_engine.utilities.importing import to_qualified_name
from core_engine.utilities.structures import is_model

_DIGEST_BYTES = 16


def stable_hash(*args: str | bytes) -> str:
    """Returns a hash of texts and bytes as 32 hexadecimal digits. Where one ends and the next begins counts."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for arg in args:
        data = arg.encode("utf-8", "surrogatepass") if isinstance(arg, str) else arg
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


def file_hash(path: str | os.PathLike[str]) -> str:
    """Returns a hash of a file's bytes as 32 hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_DIGEST_BYTES)).hexdigest()


def hash_objects(*args: Any, **kwargs: Any) -> str | None:
    """Returns a hash of values, equal for equal values in every process.

    JSON with sorted keys is hashed, in which other objects are described by their type and the state that pickle would
    keep. Where that fails the pickled values are hashed. As JSON has it, tuples equal lists, and the key 1 equals the
    key "1".

    Returns:
        32 hexadecimal digits, or None if some value can neither be written as JSON nor pickled.
    """
    for encode in (_as_json, cloudpickle.dumps):
        encoded = _attempt(encode, (args, kwargs))
        if encoded is not None:
            return stable_hash(encoded)
    return None


def _attempt(encode: Callable[[Any], str | bytes], value: Any) -> str | bytes | None:
    try:
        return encode(value)
    except Exception:  # keys that JSON cannot have or sort, cycles, what cannot be pickled, what a user's object raises
        return None


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=_to_json)


def _to_json(value: Any) -> dict[str, Any]:
    """Describes a value that JSON does not know by one that it does, and that cannot be mistaken for another type's."""
    cls = type(value)
    if isinstance(value, (bytes, bytearray)):
        state: Any = stable_hash(bytes(value))
    elif isinstance(value, (set, frozenset)):
        state = sorted(map(_as_json, value))
    elif isinstance(value, type):
        state = to_qualified_name(value)
    elif isinstance(value, FunctionType):
        state = function_digest(value)
    elif is_model(cls):
        # Not its own state, which also says which fields were given and which are defaults.
        state = [{name: getattr(value, name) for name in cls.model_fields}, value.model_extra]
    else:
        state = _pickle_state(value)
    return {"type": to_qualified_name(cls), "state": state}


def _pickle_state(value: Any) -> Any:
    """Returns what pickle would keep of a value, but as objects.

    Bytes made of it would depend on more than the value: on which equal parts are one object, and for classes that
    are pickled by value also on the process.
    """
    reducer = copyreg.dispatch_table.get(type(value))
    reduced = value.__reduce_ex__(4) if reducer is None else reducer(value)
    if isinstance(reduced, str):
        return reduced
    rebuild, arguments, *state = reduced
    # Items of subclasses of list and dict come as iterators.
    return [to_qualified_name(rebuild), arguments, *(list(s) if isinstance(s, Iterator) else s for s in state)]


# Functions ----------------------------------------------------------------------------------------------------------

# Values in a function's closure that are part of what it computes; others, such as a list, may change as it runs.
_CONSTANT_TYPES = (bool, int, float, complex, str, bytes, type(None))


def function_digest(fn: Callable[..., Any]) -> str:
    """Returns a hash of what a function does: 32 hexadecimal digits.

    Counted are its instructions, constants and names, those of functions defined inside it, of functions it wraps or
    closes over, and constants it closes over and does not assign. Not counted are its own name, its place in the file,
    its documentation, and its default values, which arrive as parameters. Equal functions have equal digests in all
    processes of one Python version.

    Parameters:
        fn: a function, method, partial, or other callable. A callable without Python code is known by its name.
    """
    return _callable_digest(fn, ())


def bound_objects(fn: Callable[..., Any]) -> list[Any]:
    """Returns what a callable brings along beside its code: a method's object, a partial's arguments, its own state."""
    if isinstance(fn, functools.partial):
        return [fn.args, fn.keywords, *bound_objects(fn.func)]
    if isinstance(fn, MethodType):
        return [fn.__self__]
    has_state = isinstance(getattr(type(fn), "__call__", None), FunctionType)  # noqa: B004
    return [fn] if has_state and not isinstance(fn, type) else []


def _callable_digest(fn: Any, outer: tuple[Any, ...]) -> str:
    if any(fn is function for function in outer):
        return "recursive"
    outer = (*outer, fn)
    if isinstance(fn, functools.partial):
        return stable_hash(_callable_digest(fn.func, outer), hash_objects(*fn.args, **fn.keywords) or "")
    function = getattr(fn, "__func__", fn)
    if not isinstance(function, FunctionType):
        function = getattr(type(fn), "__call__", None)  # noqa: B004  # its code, not whether it is there
    if not isinstance(function, FunctionType):
        named = fn if hasattr(fn, "__qualname__") else type(fn)
        return stable_hash(f"{named.__module__}.{named.__qualname__}")
    parts = [_code_digest(function.__code__)]
    assigned = _assigned_names(function.__code__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name not in assigned:
            parts.append(f"{name}={_cell_digest(cell, outer)}")
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is not None:
        parts.append(_callable_digest(wrapped, outer))
    return stable_hash(*parts)


def _cell_digest(cell: CellType, outer: tuple[Any, ...]) -> str:
    try:
        value = cell.cell_contents
    except ValueError:  # not assigned yet
        return ""
    if isinstance(value, FunctionType):
        return _callable_digest(value, outer)
    return _constant(value) if isinstance(value, _CONSTANT_TYPES) else ""


@functools.lru_cache(maxsize=1024)
def _code_digest(code: CodeType) -> str:
    # Instructions with their arguments, not raw bytes: those count constants by position, so that a docstring counts.
    parts = [f"{code.co_argcount},{code.co_posonlyargcount},{code.co_kwonlyargcount},{code.co_flags}"]
    parts.extend(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    parts.extend(f"{instruction.opname} {_constant(instruction.argval)}" for instruction in dis.get_instructions(code))
    return stable_hash(*parts, code.co_exceptiontable)


@functools.lru_cache(maxsize=1024)
def _assigned_names(code: CodeType) -> frozenset[str]:
    stores = {i.argval for i in dis.get_instructions(code) if i.opname in ("STORE_DEREF", "DELETE_DEREF")}
    inner = (_assigned_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return frozenset(stores).union(*inner)


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _code_digest(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, value))})"
    if isinstance(value, frozenset):  # its order differs from process to process
        return f"{{{', '.join(sorted(map(_constant, value)))}}}"
    return f"{type(value).__name__} {value!r}"


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
