"""The road between a flow's process and its workers: what a cluster must be able to carry, in both directions.

A runner implements two classes: a ``Road`` in the flow's process, and a ``WorkerRoad`` that is made on a worker for
each block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from core_engine.remote.session import RemoteSession


@dataclass(slots=True, frozen=True)
class Block:
    """What one call on the cluster gets.

    Attributes:
        name: Unique, and begins with the task's name.
        payload: Everything that only this block needs, pickled.
        common: References (as ``Road.share`` gave them) to bytes that many blocks need.
        values: References to large values on the cluster, the inputs of items.
        size: How many runs it has.
        depth: How many maps lie before this one; deeper ones are to run first.
        annotations: What the runner noted when the block's runs were submitted, such as priority or resources.
    """

    name: str
    payload: bytes
    common: Sequence[Any]
    values: Sequence[Any]
    size: int
    depth: int
    annotations: Any = None


class WorkerLost(Exception):
    """A call did not come back, because its worker is gone.

    Parameters:
        worker: Name of the worker, "" when it is not known.
        reason: One line.
        lost_values: Keys of values that the call needs and that are gone with a worker.
    """

    def __init__(self, worker: str, reason: str, lost_values: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.worker = worker
        self.lost_values = lost_values


# Called once for each block: with what the call returned, or with what became of it instead. Any thread.
Done = Callable[[bytes | None, BaseException | None], None]


class Road(Protocol):
    """The flow's end. Its methods are called in the session's thread, and return soon."""

    @property
    def slots(self) -> int:
        """How many calls the cluster runs at once."""

    @property
    def may_start_again(self) -> bool:
        """Whether the cluster may start a call a second time by itself: then each start is claimed first (D22)."""

    def share(self, name: str, content: bytes) -> Any:
        """Puts bytes where many blocks can be given them; returns a reference."""

    def send(self, block: Block, done: Done) -> None:
        """Has a worker call ``execute_block`` with the block, and calls `done` when that is over."""

    def call(self, name: str, content: bytes, done: Done) -> None:
        """Has a worker call ``run_call``, as ``send`` does with ``execute_block``. Any thread."""

    def listen(self, receive: Callable[[bytes], None]) -> None:
        """Has `receive` called with each message of a worker, in whatever thread; it returns at once."""

    def on_workers(self, session: RemoteSession) -> None:
        """Has a session learn of workers and slots, also of those that come later; returns at once."""

    def revoke(self, name: str) -> None:
        """Takes a block back that nobody needs any more, if it has not started. It may run where it is soon over."""

    def kill(self, name: str) -> None:
        """Ends a block whose code cannot be interrupted with its worker process, if that executes nothing else (D20).

        A cluster that runs several calls in one process lets it go on.
        """

    def command(self, worker: str, command: bytes) -> None:
        """Has ``receive_command`` called in a worker's process. What cannot be delivered is dropped."""

    def reference(self, key: str) -> Any:
        """Returns a reference to a value that a worker kept, held until ``release``.

        Raises:
            LookupError: It is gone.
        """

    def fetch(self, key: str, timeout_seconds: float | None) -> Any:
        """Returns the value itself. Blocks. Any thread.

        Parameters:
            key: The value's.
            timeout_seconds: How long it may take; None: any time.

        Raises:
            Exception: It is gone, or cannot be brought here, or not in time.
        """

    def release(self, key: str) -> None:
        """Lets a value go. Any thread."""

    def collect(self) -> None:
        """Has received what workers have sent so far and does not come by itself. Blocks. Any thread."""


class WorkerRoad(Protocol):
    """The worker's end, used by the threads of one call."""

    # The most bytes of a message; what is larger is sent in pieces, or goes back with the call when that ends.
    largest_message: int
    # Whether the last message goes back with the call in any case, because that costs the cluster less.
    returns_last: bool

    @property
    def worker(self) -> str:
        """Name of the worker that this is called in."""

    def this_call(self) -> Any:
        """Returns what the cluster calls the call that this thread executes."""

    def is_wanted(self, call: Any) -> bool:
        """Returns whether the cluster still wants a call: not when the flow's process is gone, or was cut off."""

    def send(self, message: bytes) -> None:
        """Sends a message to the flow's process; returns at once. Messages of one thread keep their order."""

    def send_again(self) -> None:
        """Sends what found no way before, if there is one now. Called several times a second."""

    def keep(self, value: Any) -> str | None:
        """Keeps a value on the cluster: bytes, an array, or a ``Pickled``, none of which is changed any more.

        Returns:
            The key for ``Road.reference`` and ``fetch``; None if the value cannot be kept.
        """
