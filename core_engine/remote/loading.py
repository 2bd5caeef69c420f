"""Unpickling on a worker: what many blocks have in common once, and large values where the pickle refers to them."""

from __future__ import annotations

import hashlib
import io
import pickle
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

MOST_DEFINITIONS = 128

# ``_lock`` guards the dictionary, which the threads of all calls use.
_lock = threading.Lock()
_loaded: OrderedDict[bytes, Any] = OrderedDict()


def load_common(content: bytes, kind: type[Any], values: Sequence[Any]) -> Any:
    """Unpickles what many blocks have in common, once for each worker.

    Parameters:
        content: A pickled tuple.
        kind: The named tuple that it makes.
        values: The large values that it refers to.
    """
    key = hashlib.sha256(content).digest()
    with _lock:
        known = _loaded.get(key)
        if known is not None:
            _loaded.move_to_end(key)
            return known
    loaded = kind(*load(content, values))
    with _lock:
        _loaded[key] = loaded
        while len(_loaded) > MOST_DEFINITIONS:
            _loaded.popitem(last=False)
    return loaded


def load(content: bytes, values: Sequence[Any]) -> Any:
    """Unpickles what may refer to large values, which came beside it."""
    return _Unpickler(content, values).load() if values else pickle.loads(content)


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, values: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(content))
        self._values = values

    def persistent_load(self, number: Any) -> Any:
        return self._values[number]
