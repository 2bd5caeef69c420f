"""What workers and the flow's process leave for each other with Ray's head, as long as there is no mailbox.

That is slower than a mailbox, for both have to look, but there at once, and it stays though the one that left it dies.
"""

from __future__ import annotations

import pickle
import time
from typing import Any

from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_list,
    _internal_kv_put,
)

NAMESPACE = b"core-engine"
# What begins the name of every place.
PLACES = "core-engine-"
# What nobody has taken for so long was meant for a flow's process that was killed: others look every second.
FORGOTTEN_SECONDS = 3600.0


def leave(place: str, number: int, content: Any) -> None:
    """Leaves something that can be pickled. Blocks for a round trip to the head.

    Parameters:
        place: Where it is looked for.
        number: Another one for each that is left in a place.
        content: What is left.

    Raises:
        RayError: The head does not answer.
    """
    _internal_kv_put(
        f"{place}/{number}/{int(time.time())}".encode(), pickle.dumps(content, protocol=5), namespace=NAMESPACE
    )


def take(place: str) -> list[Any]:
    """Returns what was left in places whose names begin so, in any order, and takes it away. Blocks.

    Raises:
        RayError: The head does not answer.
    """
    taken = []
    for key in _internal_kv_list(place.encode(), namespace=NAMESPACE):
        content = _internal_kv_get(key, namespace=NAMESPACE)
        if content is not None:
            _internal_kv_del(key, namespace=NAMESPACE)
            taken.append(pickle.loads(content))
    return taken


def drop(place: str) -> None:
    """Takes away what was left in places whose names begin so. Blocks.

    Raises:
        RayError: The head does not answer.
    """
    _internal_kv_del(place.encode(), del_by_prefix=True, namespace=NAMESPACE)


def drop_forgotten() -> None:
    """Takes away what flows that were killed have left behind. Blocks.

    Raises:
        RayError: The head does not answer.
    """
    latest = time.time() - FORGOTTEN_SECONDS
    for key in _internal_kv_list(PLACES.encode(), namespace=NAMESPACE):
        if int(key.rpartition(b"/")[2]) < latest:
            _internal_kv_del(key, namespace=NAMESPACE)


def up(mailbox: str) -> str:
    """Returns the place of messages to the flow's process that were for a mailbox."""
    return f"{PLACES}up/{mailbox}"


def down(mailbox: str) -> str:
    """Returns the place of commands that were for a mailbox; each worker has one of its own in it."""
    return f"{PLACES}down/{mailbox}"
