"""The flow's end of remote execution: one thread sends blocks, takes reports, and owns what becomes of each run.

Others only put work into its inbox: the engine that dispatches, the road that brings messages, whoever cancels. So
nothing here needs a lock, and no loop is ever blocked by pickling.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from core_engine.remote.arrivals import Arrivals, KnownWorkers
from core_engine.remote.commands import Commands
from core_engine.remote.kept_values import KeptValues
from core_engine.remote.losses import Losses
from core_engine.remote.queues import Queues
from core_engine.remote.reports import Message
from core_engine.remote.roads import Road
from core_engine.remote.sending import Sender
from core_engine.remote.shared_storages import SharedStorages
from core_engine.remote.sharing import SharedContent
from core_engine.remote.shipments import Shipment

if TYPE_CHECKING:
    from core_engine.engine.calls import CallBlock

# How long the end of a session waits for calls that are being interrupted, and how often it asks again.
LEAVE_SECONDS = 2.0
INTERRUPT_AGAIN_SECONDS = 0.1

_logger = logging.getLogger("core_engine.remote")


class RemoteSession:
    """Executes calls of run sets on a cluster, from the start of a runner to its end.

    Parameters:
        road: The way to the cluster.
        lost_retries: Returns how often a run is executed again that was lost with its worker, given its annotations.
        annotations: Called once for each run set with its task's resources, in the context of its submission; its
            value goes with its blocks.
    """

    def __init__(
        self, road: Road, lost_retries: Callable[[Any], int], annotations: Callable[[Mapping[str, float]], Any]
    ) -> None:
        self.id = uuid.uuid4().hex
        self._road = road
        self._annotations = annotations
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._queues = Queues()
        self._on_the_way: dict[int, Shipment] = {}
        self._workers = KnownWorkers()
        self._values = KeptValues(road)
        self._commands = Commands(self.id, road, self._inbox.put)
        self._storages = SharedStorages(self._commands, self._inbox.put)
        shared = SharedContent(road, self._storages)
        losses = Losses(self._queues, self._on_the_way, shared, self._values, lost_retries)
        self._sender = Sender(self.id, road, self._queues, self._on_the_way, shared, self._is_done)
        self._arrivals = Arrivals(
            self._on_the_way, self._queues, self._workers, self._values, self._storages, self._commands, losses, road
        )
        self._thread = threading.Thread(target=self._work, name="core-engine-cluster", daemon=True)
        self._thread.start()

    # Any thread -------------------------------------------------------------------------------------------------------

    def add(self, block: CallBlock) -> None:
        """Takes calls to execute."""
        self._inbox.put(lambda: self._add(block))

    def receive(self, content: bytes) -> None:
        """Takes a message of a worker."""
        self._inbox.put(lambda: self._arrivals.receive(Message.decode(content)))

    def wake(self) -> None:
        """The cluster has other slots than before."""
        self._inbox.put(lambda: None)

    def know_worker(self, worker: str, clock_offset: float, is_this_process: bool) -> None:
        """Takes in what was learnt of a worker: by how many seconds its clock is ahead, and whether it lives here."""
        self._workers.offsets[worker] = clock_offset
        if is_this_process:
            self._workers.local.add(worker)

    def stop(self, fetch_limit_bytes: int) -> None:
        """Ends the session: values that somebody still holds are fetched, up to a limit (D26). Blocks."""
        self._road.collect()
        self._inbox.put(None)
        self._thread.join()
        self._values.fetch_all(fetch_limit_bytes)
        self._storages.remove_tokens()

    def _is_done(self, shipment: Shipment, content: bytes | None, error: BaseException | None) -> None:
        self._inbox.put(lambda: self._arrivals.done(shipment, content, error))

    # The session's thread ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            work = self._inbox.get()
            while work is not None:
                try:
                    work()
                except Exception:
                    _logger.exception("Reports of a worker could not be handled; the session goes on.")
                try:
                    work = self._inbox.get_nowait()
                except Empty:
                    break
            if work is None:
                break
            self._sender.send_what_fits()
        self._end_rest()

    def _add(self, block: CallBlock) -> None:
        queue = self._queues.queue_of(block.run_set)
        if not queue.is_annotated:
            queue.annotations = queue.context.run(self._annotations, block.run_set.task.resources or {})
            queue.kind = _wants(queue.annotations)
            queue.is_annotated = True
        queue.add(block)
        self._queues.wake(queue)

    def _end_rest(self) -> None:
        """Ends what is still on the way when nobody waits for it any more: runs that were cancelled, or left behind."""
        started = time.monotonic()
        due = started
        while self._on_the_way and (now := time.monotonic()) < started + LEAVE_SECONDS:
            if now >= due:
                due = now + INTERRUPT_AGAIN_SECONDS
                self._interrupt_all(may_revoke=now > started + INTERRUPT_AGAIN_SECONDS)
                self._commands.end_session(list(self._workers.offsets))
            try:
                work = self._inbox.get(timeout=INTERRUPT_AGAIN_SECONDS)
            except Empty:
                continue
            if work is not None:
                work()
        if self._on_the_way:
            _logger.warning(
                "%d calls could not be interrupted on their workers and are left behind.", len(self._on_the_way)
            )

    def _interrupt_all(self, may_revoke: bool) -> None:
        for shipment in list(self._on_the_way.values()):
            self._commands.stop(shipment)
            # What runs is interrupted, not revoked: a cluster forgets a revoked call, which then goes on.
            if shipment.attempt is None and may_revoke:
                self._road.revoke(shipment.name)


def _wants(annotations: Any) -> str:
    """Returns a text for what runs want of a worker. Their priority is part of an order, and no want."""
    if isinstance(annotations, Mapping):
        annotations = {name: value for name, value in annotations.items() if name != "priority"}
    return repr(annotations) if annotations else ""


__all__ = ["RemoteSession"]
