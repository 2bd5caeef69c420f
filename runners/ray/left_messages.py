"""Messages that found no mailbox: workers leave them with Ray's head, where the flow's process looks for them.

The mailbox takes half a second to start, and may be lost. What a worker leaves there is known though the worker dies.
"""

from __future__ import annotations

import pickle

from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_list,
    _internal_kv_put,
)

NAMESPACE = b"core-engine"

# Name of the worker, of its node, and a message.
LeftMessage = tuple[str, str, bytes]


def leave_message(mailbox: str, call: str, number: int, message: LeftMessage) -> None:
    """Leaves a message of a call. Blocks for a round trip to the head.

    Parameters:
        mailbox: Name of the mailbox that it was for.
        call: Name of the block.
        number: Another one for each message of the call.
        message: The message.

    Raises:
        Exception: The head does not answer.
    """
    key = f"{mailbox}/{call}/{number}".encode()
    _internal_kv_put(key, pickle.dumps(message, protocol=5), namespace=NAMESPACE)


def take_messages(prefix: str) -> list[LeftMessage]:
    """Returns what was left for the mailboxes whose names begin so, in any order, and takes it away. Blocks.

    Raises:
        Exception: The head does not answer.
    """
    taken = []
    for key in _internal_kv_list(prefix.encode(), namespace=NAMESPACE):
        content = _internal_kv_get(key, namespace=NAMESPACE)
        if content is not None:
            _internal_kv_del(key, namespace=NAMESPACE)
            taken.append(pickle.loads(content))
    return taken


def drop_messages(prefix: str) -> None:
    """Takes away what was left for the mailboxes whose names begin so. Blocks.

    Raises:
        Exception: The head does not answer.
    """
    _internal_kv_del(prefix.encode(), del_by_prefix=True, namespace=NAMESPACE)
