"""Commands to workers: to interrupt one run of a block, or to stop all of it (D23)."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from core_engine.engine.cancellation import TaskRunCancelled, TaskRunStopped

if TYPE_CHECKING:
    from core_engine.concurrency.interrupts import Interrupt
    from core_engine.remote.roads import Road
    from core_engine.remote.shipments import Shipment

_INTERRUPTIONS: dict[str, type[Interrupt]] = {kind.__name__: kind for kind in (TaskRunCancelled, TaskRunStopped)}


class Command(NamedTuple):
    """A command as it travels.

    Attributes:
        session, block: Whose block, and its number there.
        position: Which run of the block; None: all of them, and what has not started is not to start.
        interruption: Name of what is to be raised in the user's code.
    """

    session: str
    block: int
    position: int | None
    interruption: str

    @property
    def exception(self) -> type[Interrupt]:
        return _INTERRUPTIONS[self.interruption]

    def encode(self) -> bytes:
        return pickle.dumps(tuple(self), protocol=5)

    @classmethod
    def decode(cls, content: bytes) -> Command:
        return cls(*pickle.loads(content))


class Commands:
    """Sends commands of one session.

    Parameters:
        session: The session's id.
        road: The way to the workers.
        post: Has something called in the session's thread.
    """

    def __init__(self, session: str, road: Road, post: Callable[[Callable[[], None]], None]) -> None:
        self._session = session
        self._road = road
        self._post = post

    def interrupt(self, shipment: Shipment, position: int, exception: type[Interrupt]) -> None:
        """Has one run interrupted. The session's thread."""
        self._send(shipment.worker, shipment, position, exception)

    def stop(self, shipment: Shipment, worker: str | None = None) -> None:
        """Has a whole block stopped, on `worker`; None: on the one that executes it. The session's thread."""
        self._send(shipment.worker if worker is None else worker, shipment, None, TaskRunStopped)

    def interrupt_soon(self, shipment: Shipment, position: int, exception: type[Interrupt]) -> None:
        """``interrupt``, from any thread."""
        self._post(lambda: self.interrupt(shipment, position, exception))

    def _send(self, worker: str, shipment: Shipment, position: int | None, exception: type[Interrupt]) -> None:
        if worker:
            command = Command(self._session, shipment.number, position, exception.__name__)
            self._road.command(worker, command.encode())


class RemoteExecution:
    """Where a run executes on a worker, for whoever wants to interrupt it."""

    __slots__ = ("_commands", "_position", "_shipment")

    # No thread of this process runs it.
    ident: int | None = None

    def __init__(self, commands: Commands, shipment: Shipment, position: int) -> None:
        self._commands = commands
        self._shipment = shipment
        self._position = position

    def interrupt(self, call: Any, exception: type[Interrupt]) -> bool:
        """Has the run interrupted on its worker; returns whether it has not ended, as far as is known here."""
        self._commands.interrupt_soon(self._shipment, self._position, exception)
        return self._position in self._shipment.calls
