"""Unpickling on a worker: what many blocks have in common once, and large values where the pickle refers to them."""

from __future__ import annotations

import io
import pickle
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

# How much is kept: the least recently used goes first, but never what came last.
MOST_KEPT = 128
MOST_KEPT_BYTES = 128 * 1024 * 1024


class _Kept:
    """What was unpickled, by the keys that the flow's process gave, as long as there is room.

    ``_lock`` guards all fields, which the threads of all calls use.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> Any:
        """Returns what is kept under a key, None if nothing is."""
        with self._lock:
            found = self._by_key.get(key)
            if found is None:
                return None
            self._by_key.move_to_end(key)
            return found[0]

    def put(self, key: str, loaded: Any, size: int) -> Any:
        """Keeps what was unpickled from `size` bytes; returns it, or what another thread has put there before."""
        with self._lock:
            loaded, _ = self._by_key.setdefault(key, (loaded, size))
            self._bytes = sum(size for _, size in self._by_key.values())
            while len(self._by_key) > 1 and (len(self._by_key) > MOST_KEPT or self._bytes > MOST_KEPT_BYTES):
                self._bytes -= self._by_key.popitem(last=False)[1][1]
            return loaded


_kept = _Kept()


def load_common(content: bytes, kind: type[Any], key: str | None, values: Mapping[str, Any]) -> Any:
    """Unpickles what many blocks have in common, once for each worker.

    Parameters:
        content: A pickled tuple.
        kind: The named tuple that it makes.
        key: What it is kept under, the same for the same only: tasks may change what is in it. None: it is not kept.
        values: Large values that it may refer to, by their keys.
    """
    known = None if key is None else _kept.get(key)
    if known is None:
        known = kind(*load(content, values))
        if key is not None:
            known = _kept.put(key, known, len(content))
    return known


def load(content: bytes, values: Mapping[str, Any]) -> Any:
    """Unpickles what may refer to large values, which came beside it."""
    return _Unpickler(content, values).load() if values else pickle.loads(content)


class Pickled:
    """A large value as a cluster carries it: pickled, and unpickled where it is needed.

    A cluster's own machinery would meet a class that is missing, in code that cannot tell whose value it was (D21).

    Parameters:
        content: The pickle.
    """

    __slots__ = ("content",)

    def __init__(self, content: Any) -> None:
        self.content = content

    def __sizeof__(self) -> int:
        return len(self.content)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # Beside the pickle, where a cluster can carry it without a copy.
        return Pickled, (pickle.PickleBuffer(self.content) if protocol >= 5 else bytes(self.content),)


class Values(Sequence[Any]):
    """Large values that came with a block: bytes and arrays as they are, others unpickled when they are asked for.

    Parameters:
        values: What ``WorkerRoad.keep`` had the cluster keep.
    """

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def __getitem__(self, number: Any) -> Any:
        return unpacked(self._values[number])

    def __len__(self) -> int:
        return len(self._values)


def unpacked(value: Any) -> Any:
    """Returns a value as it was before it was kept."""
    return pickle.loads(value.content) if type(value) is Pickled else value


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, values: Mapping[str, Any]) -> None:
        super().__init__(io.BytesIO(content))
        self._values = values

    def persistent_load(self, key: Any) -> Any:
        return self._values[key]
