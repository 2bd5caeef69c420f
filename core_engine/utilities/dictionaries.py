"""Nested dictionaries: flattening, look-up by path, removal of keys."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

# In "a.b[0].c": each name, and each index in brackets.
_PATH_PARTS = re.compile(r"[^.\[\]]+")


def dict_to_flatdict(dct: Mapping[Any, Any]) -> dict[tuple[Any, ...], Any]:
    """Flattens nested dictionaries: ``{"a": {"b": 1}}`` becomes ``{("a", "b"): 1}``. Empty ones inside are kept."""
    flat: dict[tuple[Any, ...], Any] = {}
    for key, value in dct.items():
        if isinstance(value, dict) and value:
            flat.update({(key, *path): leaf for path, leaf in dict_to_flatdict(value).items()})
        else:
            flat[(key,)] = value
    return flat


def flatdict_to_dict(dct: Mapping[tuple[Any, ...], Any]) -> dict[Any, Any]:
    """Nests a flat dictionary again, the reverse of `dict_to_flatdict`.

    Raises:
        ValueError: a path is empty, or leads through what another path gives as a value.
    """
    nested: dict[Any, Any] = {}
    for path, value in dct.items():
        if not path:
            raise ValueError("A key of a flat dictionary is an empty path; it needs at least one element.")
        level = nested
        for key in path[:-1]:
            level = level.setdefault(key, {})
            if not isinstance(level, dict):
                raise ValueError(f"The path {path!r} leads through {key!r}, which has a value of its own.")
        level[path[-1]] = value
    return nested


def get_from_dict(dct: Any, keys: str | Sequence[Any], default: Any = None) -> Any:
    """Reads a value from nested dictionaries and sequences.

    Parameters:
        dct: the outermost dictionary (or list).
        keys: a path such as ``"a.b[0].c"``, or its parts such as ``["a", "b", 0, "c"]``.
        default: returned where the path leads nowhere.
    """
    parts = _PATH_PARTS.findall(keys) if isinstance(keys, str) else keys
    value = dct
    for part in parts:
        try:
            value = value[_index(part)] if isinstance(value, (list, tuple)) else value[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return default
    return value


def _index(part: Any) -> int:
    return int(part) if isinstance(part, str) else part


def remove_nested_keys(keys_to_remove: Collection[Hashable], obj: Any) -> Any:
    """Returns nested dictionaries without some keys, at every level; any other object comes back as it is."""
    if not isinstance(obj, dict):
        return obj
    return {key: remove_nested_keys(keys_to_remove, value) for key, value in obj.items() if key not in keys_to_remove}
