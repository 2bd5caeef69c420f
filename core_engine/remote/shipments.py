"""Blocks on their way: what the flow's process knows of each until all its runs have ended or gone back to a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_engine.remote.reports import MessageOrder

if TYPE_CHECKING:
    from core_engine.engine.calls import TaskCall
    from core_engine.remote.queues import RunSetQueue


class Shipment:
    """A block on its way.

    Attributes:
        number: The block's number in the session.
        name: Its name on the cluster.
        queue: Where its runs came from.
        run_set: Whose runs they are.
        is_single: Whether it was sent with one run.
        is_unwanted: Whether all its runs are known to have an outcome, so that what is left of it is ended.
        calls: Its runs without a reported end, by position, in order.
        lines: How many logged lines of it have arrived.
        order: Puts its messages in order.
        pieces: What has arrived of records that come in several messages.
        reads_stored: Whether the stored values among its inputs were read before it was sent.
        attempt: The call of the block that counts; None while none has reported.
        worker: Who executes it, "" before that is known.
    """

    __slots__ = (
        *(
            "attempt",
            "calls",
            "is_single",
            "is_unwanted",
            "lines",
            "name",
            "number",
            "order",
            "pieces",
            "queue",
            "reads_stored",
            "run_set",
        ),
        "worker",
    )

    def __init__(self, number: int, name: str, queue: RunSetQueue, calls: list[TaskCall]) -> None:
        self.number = number
        self.name = name
        self.queue = queue
        self.run_set = queue.run_set
        self.is_single = len(calls) == 1
        self.is_unwanted = False
        self.calls = {call.index: call for call in calls}
        self.order = MessageOrder()
        self.lines = 0
        self.pieces: list[bytes] = []
        self.reads_stored = queue.reads_stored
        self.attempt: str | None = None
        self.worker = ""
