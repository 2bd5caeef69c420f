"""Unpickling on a worker: what many blocks have in common once, and large values where the pickle refers to them."""

from __future__ import annotations

import hashlib
import io
import pickle
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

# How much is kept: the least recently used goes first, but never what came last.
MOST_KEPT = 128
MOST_KEPT_BYTES = 128 * 1024 * 1024


class _Kept:
    """What was unpickled, by the digest of its bytes, as long as there is room.

    ``_lock`` guards all fields, which the threads of all calls use.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_digest: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    def get(self, digest: bytes) -> Any:
        """Returns what was unpickled from bytes with this digest, None if that is not kept."""
        with self._lock:
            found = self._by_digest.get(digest)
            if found is None:
                return None
            self._by_digest.move_to_end(digest)
            return found[0]

    def put(self, digest: bytes, loaded: Any, size: int) -> None:
        """Keeps what was unpickled from `size` bytes."""
        with self._lock:
            if digest not in self._by_digest:
                self._by_digest[digest] = (loaded, size)
                self._bytes += size
            while len(self._by_digest) > 1 and (len(self._by_digest) > MOST_KEPT or self._bytes > MOST_KEPT_BYTES):
                self._bytes -= self._by_digest.popitem(last=False)[1][1]


_kept = _Kept()


def load_common(content: bytes, kind: type[Any], values: Mapping[str, Any]) -> Any:
    """Unpickles what many blocks have in common, once for each worker.

    Parameters:
        content: A pickled tuple.
        kind: The named tuple that it makes.
        values: Large values that it may refer to, by their keys.
    """
    if values:
        # What it refers to is the cluster's to keep, and not for longer than it is needed.
        return kind(*load(content, values))
    digest = hashlib.sha256(content).digest()
    known = _kept.get(digest)
    if known is None:
        known = kind(*load(content, {}))
        _kept.put(digest, known, len(content))
    return known


def load(content: bytes, values: Mapping[str, Any]) -> Any:
    """Unpickles what may refer to large values, which came beside it."""
    return _Unpickler(content, values).load() if values else pickle.loads(content)


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, values: Mapping[str, Any]) -> None:
        super().__init__(io.BytesIO(content))
        self._values = values

    def persistent_load(self, key: Any) -> Any:
        return self._values[key]
