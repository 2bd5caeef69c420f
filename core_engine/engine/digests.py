"""Digests of what a run is made of: its function's code, what all runs of a map have in common, its own inputs.

Equal in every process for equal code and equal values. An input that is a future or state of a run whose result is
stored counts by the id of that state, so that its value need not be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from core_engine.backend.entries import DIGEST_BYTES
from core_engine.engine.inputs import HANDLES, final_state_of, holds_handles
from core_engine.schemas.states import COMPLETED
from core_engine.utilities.handles import resolve
from core_engine.utilities.hashing import function_digest, hash_objects

NO_DIGEST = bytes(DIGEST_BYTES)
"""Stands for runs whose inputs cannot be digested."""

_PLAIN = frozenset({str, int, float, bool, type(None)})


class NotDigestible(Exception):
    """A value can neither be described as JSON nor pickled, or is not at hand."""


def digest_of_call(fn: Callable[..., Any], parameters: Mapping[str, Any]) -> bytes:
    """Returns a digest of a function's code and of parameters by name; the runs behind handles have ended.

    Raises:
        NotDigestible: One of them cannot be digested.
    """
    parts = [function_digest(fn)]
    for name in sorted(parameters):
        parts += (name, _text_of(parameters[name]))
    return _digest(parts)


def digest_of_item(base: bytes, columns: Sequence[tuple[str, Sequence[Any]]], index: int) -> bytes:
    """Returns the digest of one run of a map.

    Parameters:
        base: The digest of what all its runs have in common.
        columns: The parameters of which each run has its own, by name.
        index: Which run.

    Raises:
        NotDigestible: One of its values cannot be digested.
    """
    if not columns:
        return base
    parts: list[str] = []
    for name, values in columns:
        parts += (name, _text_of(values[index]))
    return _digest(parts, base)


def _digest(parts: Sequence[str], key: bytes = b"") -> bytes:
    digest = blake2b(key, digest_size=DIGEST_BYTES)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.digest()


def _text_of(value: Any) -> str:
    kind = type(value)
    if kind in _PLAIN:
        return f"{kind.__name__} {value!r}"
    if holds_handles(value):
        value = resolve(value, HANDLES, _upstream)
    text = hash_objects(value)
    if text is None:
        raise NotDigestible(f"a value of type {kind.__name__}")
    return text


def _upstream(handle: Any, annotations: object) -> Any:
    """Returns what an upstream counts by: its state if the result is stored, else its value."""
    state = final_state_of(handle)
    if state._type is not COMPLETED:
        raise NotDigestible(f"an upstream that is {state._name}")
    data = state._data
    if not hasattr(data, "has_cached_object"):
        return data
    if getattr(type(data), "stored", False):
        return f"core_engine state {state.id.hex}"
    if not data.has_cached_object():
        raise NotDigestible("the value of an upstream that is not in this process")
    return data.read()
