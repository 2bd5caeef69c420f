"""What workers report: records in numbered messages, one sequence for each block.

Records are tuples of plain values, so that unpickling a message can never fail or run anybody's code; what is the
user's travels inside as bytes.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

Record = tuple[Any, ...]

# The first member of a record says what the others are.
BLOCK_STARTED = "b"  # seconds since the epoch by the worker's clock
CLAIM = "a"  # nothing else: may this start of the block be executed?
UNANSWERED = "w"  # seconds that the claim waited; nothing was executed
STATE = "s"  # the fields of Transition
CALL_ENDED = "e"  # position
LOG = "l"  # flow run id and task run id (bytes or None), logger, level, time, message
CACHE = "c"  # position, key, expiry
NAME = "n"  # position, name
QUESTION = "q"  # position, cache key
GIVEN_BACK = "g"  # positions
UNREADABLE = "u"  # position, exception as bytes, whether a stored value was not seen: the call could not be unpickled
STORAGE = "v"  # token of the flow's process, the worker's, why the storage is not shared ("": it may be)
LINES = "k"  # how many lines were logged in all: the last record but for those that come late
LOST = "x"  # position, why: its loop was given up (D19)
LEFT_BEHIND = "z"  # nothing else: code goes on in the worker's process that cannot be interrupted (D20)
PIECE = "p"  # number, of how many, bytes: records that are too large for a message, pickled and cut
TIMES = "t"  # items, seconds, longest


class Transition(NamedTuple):
    """A task run's new state, as it travels. Times are by the worker's clock; counts are kept where it is recorded."""

    kind: str
    position: int
    type: str
    ordinal: int
    time: float
    name: str | None
    message: str | None
    details: dict[str, Any] | None
    data: tuple[Any, ...] | None
    flow_run_count: int
    execution: int


class Message(NamedTuple):
    """Records of one block, in order.

    Attributes:
        block: The block's number in its session.
        attempt: Which call of the block: a cluster may call it again when a worker dies.
        number: Counts the messages of this attempt from 0; -1 for lines that came after its end.
        is_last: Whether none follows.
        worker: Who sent it.
        records: What happened.
    """

    block: int
    attempt: str
    number: int
    is_last: bool
    worker: str
    records: Sequence[Record]

    def encode(self) -> bytes:
        return pickle.dumps(tuple(self), protocol=5)

    @classmethod
    def decode(cls, content: bytes) -> Message:
        return cls(*pickle.loads(content))


class MessageOrder:
    """Puts the messages of one call in order: repeats are dropped, early ones wait for those before them."""

    __slots__ = ("_early", "_last", "_next")

    def __init__(self) -> None:
        self._next = 0
        self._last: int | None = None
        self._early: dict[int, Message] = {}

    def accept(self, message: Message) -> list[Message]:
        """Returns the messages whose turn has come, in order: none, this one, or also such that waited for it."""
        if message.number < 0:
            return [message]
        if message.number < self._next or message.number in self._early:
            return []
        if message.is_last:
            self._last = message.number
        self._early[message.number] = message
        ready = []
        while self._next in self._early:
            ready.append(self._early.pop(self._next))
            self._next += 1
        return ready

    @property
    def is_complete(self) -> bool:
        """Whether every message has been returned."""
        return self._last is not None and self._next > self._last

    def missing(self) -> list[int]:
        """Returns the numbers of messages that were sent, as others show, and have not arrived."""
        end = max([*self._early, -1 if self._last is None else self._last]) + 1
        return [number for number in range(self._next, end) if number not in self._early]

    def skip_gaps(self) -> list[Message]:
        """Gives missing messages up: returns all that waited for them, in order."""
        ready = [self._early[number] for number in sorted(self._early)]
        if ready:
            self._next = ready[-1].number + 1
        self._early.clear()
        return ready
