"""Commands to workers: to interrupt runs of a block, and answers to what it asks (D23)."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from core_engine.concurrency.loops import engine_loop
from core_engine.engine.cancellation import INTERRUPT_AGAIN_SECONDS, TaskRunCancelled, TaskRunStopped

if TYPE_CHECKING:
    from core_engine.concurrency.interrupts import Interrupt
    from core_engine.remote.reports import Message
    from core_engine.remote.roads import Road
    from core_engine.remote.shipments import Shipment

# Answers: to a claim of a start (D22), and to whether a storage is shared (D27).
GRANTED, REFUSED = "granted", "refused"
SHARED, APART = "shared", "apart"
# The flow run is over: what runs of the session is stopped, and what the cluster may still start of it does nothing.
SESSION_OVER = "session over"
# A run that is to be cancelled and goes on for so long loses its worker process, where that is possible (D20).
KILL_SECONDS = 1.0
INTERRUPTS = int(KILL_SECONDS / INTERRUPT_AGAIN_SECONDS)
INTERRUPTIONS: dict[str, type[Interrupt]] = {kind.__name__: kind for kind in (TaskRunCancelled, TaskRunStopped)}


class Command(NamedTuple):
    """A command as it travels.

    Attributes:
        session, block, attempt: Which call: a session's block by its number, and the text of this call of it.
        what: One of the answers, SESSION_OVER, or the name of what is to be raised in user code.
        position: Which run of the block is to be interrupted; None: all, and what has not started is not to start.
    """

    session: str
    block: int
    attempt: str
    what: str
    position: int | None = None

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

    def stop(self, shipment: Shipment) -> None:
        """Has a whole block stopped. The session's thread."""
        self._send_to(shipment, TaskRunStopped, None)

    def stop_call(self, message: Message) -> None:
        """Has the call stopped that a message came from, which is not the one that counts. The session's thread."""
        self._send(message.worker, message.block, message.attempt, TaskRunStopped.__name__)

    def end_session(self, workers: Iterable[str]) -> None:
        """Says on workers that nothing of the session is wanted any more. The session's thread."""
        for worker in workers:
            self._send(worker, -1, "", SESSION_OVER)

    def answer_claim(self, message: Message, what: str) -> None:
        """Answers the claim that a message holds with GRANTED or REFUSED. The session's thread."""
        self._send(message.worker, message.block, message.attempt, what)

    def answer(self, shipment: Shipment, what: str) -> None:
        """Answers another question of the call that counts. The session's thread."""
        assert shipment.attempt is not None
        self._send(shipment.worker, shipment.number, shipment.attempt, what)

    def interrupt_soon(self, shipment: Shipment, position: int, exception: type[Interrupt]) -> None:
        """Has one run interrupted. Any thread."""
        self._post(lambda: self._send_to(shipment, exception, position))

    def end_unwanted(self, shipment: Shipment, position: int | None, interrupts: int = INTERRUPTS) -> None:
        """Ends the code of a run that has an outcome, or of a whole block (None): interrupts it for a while, then has
        its worker killed. The session's thread."""
        if not _goes_on(shipment, position):
            return
        if interrupts:
            is_stopping = shipment.run_set.flow_run.stopping is not None
            self._send_to(shipment, TaskRunStopped if is_stopping else TaskRunCancelled, position)
            self._post_later(INTERRUPT_AGAIN_SECONDS, lambda: self.end_unwanted(shipment, position, interrupts - 1))
        else:
            self._kill_unless_ended(shipment, position)

    def kill_soon(self, shipment: Shipment, position: int | None) -> None:
        """Has the worker of a run killed that is being interrupted, if that does not help. Any thread."""
        self._post_later(KILL_SECONDS, lambda: self._kill_unless_ended(shipment, position))

    def _kill_unless_ended(self, shipment: Shipment, position: int | None) -> None:
        run_set = shipment.run_set
        if not _goes_on(shipment, position):
            return
        self.kill_soon(shipment, position)  # again, if it does not help, or others beside it are to go on
        if not any(run_set.states[other] is None and other in run_set.executing for other in shipment.calls):
            self._road.kill(shipment.name)

    def _post_later(self, delay_seconds: float, call: Callable[[], None]) -> None:
        engine_loop().call_later(delay_seconds, lambda: self._post(call))

    def _send_to(self, shipment: Shipment, exception: type[Interrupt], position: int | None) -> None:
        if shipment.attempt is not None:
            self._send(shipment.worker, shipment.number, shipment.attempt, exception.__name__, position)

    def _send(self, worker: str, block: int, attempt: str, what: str, position: int | None = None) -> None:
        self._road.command(worker, Command(self._session, block, attempt, what, position).encode())


def _goes_on(shipment: Shipment, position: int | None) -> bool:
    """Returns whether the call of a run, or any of a block (None), has not ended, as far as is known here."""
    return bool(shipment.calls) if position is None else position in shipment.calls


class RemoteExecution:
    """Where a run executes on a worker, for whoever wants to interrupt it."""

    __slots__ = ("_commands", "_is_cancelled", "_position", "_shipment")

    # No thread of this process runs it.
    ident: int | None = None

    def __init__(self, commands: Commands, shipment: Shipment, position: int) -> None:
        self._commands = commands
        self._shipment = shipment
        self._position = position
        self._is_cancelled = False

    def interrupt(self, call: Any, exception: type[Interrupt]) -> bool:
        """Has the run interrupted on its worker; returns whether it has not ended, as far as is known here."""
        self._commands.interrupt_soon(self._shipment, self._position, exception)
        if exception is TaskRunCancelled and not self._is_cancelled:
            self._is_cancelled = True
            self._commands.kill_soon(self._shipment, self._position)
        return self._position in self._shipment.calls
