"""What becomes of the runs of a block that did not come back: they are Crashed, or go again within a budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core_engine.exceptions import CoreEngineError
from core_engine.remote.endings import crash, crash_all, end_if_reported
from core_engine.remote.roads import WorkerLost

if TYPE_CHECKING:
    from core_engine.engine.calls import TaskCall
    from core_engine.remote.kept_values import KeptValues
    from core_engine.remote.queues import Queues, RunSetQueue
    from core_engine.remote.sharing import SharedContent
    from core_engine.remote.shipments import Shipment

# How often a run may come back unstarted, because workers died, before it is taken for the reason.
MOST_RETURNS = 3


class Losses:
    """Decides on the blocks of one session that are lost, in its thread.

    Parameters:
        queues: Where runs go that are to be sent again.
        on_the_way: Blocks that were sent; lost ones are taken out.
        shared: What goes with many blocks.
        values: Values on the cluster.
        lost_retries: Returns how often a run is executed again that was lost while it ran, given its annotations.
    """

    def __init__(
        self,
        queues: Queues,
        on_the_way: dict[int, Shipment],
        shared: SharedContent,
        values: KeptValues,
        lost_retries: Callable[[Any], int],
    ) -> None:
        self._queues = queues
        self._on_the_way = on_the_way
        self._shared = shared
        self._values = values
        self._lost_retries = lost_retries

    def lose(self, shipment: Shipment, error: BaseException) -> None:
        """Decides on the runs of a block without a reported end.

        Parameters:
            shipment: The block.
            error: Why: ``WorkerLost`` is a reason to execute them again, anything else is not.
        """
        self._on_the_way.pop(shipment.number, None)
        run_set = shipment.run_set
        calls = [call for call in shipment.calls.values() if run_set.states[call.index] is None]
        started = _started(shipment, calls)
        shipment.calls.clear()
        if not isinstance(error, WorkerLost):
            crash_all(run_set, calls, error)
            return
        self._shared.forget(shipment.queue)
        self._values.lose(error.lost_values)
        worker = shipment.worker or error.worker
        what = f"Worker {worker} was lost." if worker else "The run was lost."
        again = []
        for call in calls:
            run_set.executing.pop(call.index, None)
            if end_if_reported(run_set, call):
                continue
            if self._may_go_again(shipment.queue, call.index, call.index in started):
                again.append(call.index)
            else:
                crash(run_set, call, CoreEngineError(f"{what} {error}"))
        shipment.queue.add_again(again)
        self._queues.wake(shipment.queue)

    def lose_run(self, shipment: Shipment, position: int, reason: str) -> None:
        """Decides on one run that was lost while it ran, through no fault of its own."""
        call = shipment.calls.pop(position, None)
        run_set = shipment.run_set
        if call is None or run_set.states[position] is not None:
            return
        run_set.executing.pop(position, None)
        if self._may_go_again(shipment.queue, position, has_started=True):
            shipment.queue.add_again([position])
            self._queues.wake(shipment.queue)
        else:
            crash(run_set, call, CoreEngineError(reason))

    def _may_go_again(self, queue: RunSetQueue, position: int, has_started: bool) -> bool:
        if has_started:
            counts, most = queue.losses, self._lost_retries(queue.annotations)
        else:
            counts, most = queue.returns, MOST_RETURNS
        counts[position] = count = counts.get(position, 0) + 1
        return count <= most


def _started(shipment: Shipment, calls: list[TaskCall]) -> set[int]:
    """Returns the positions of the runs of a block that were running: of one that began and reported none, the first of
    `calls`, those without an outcome: its report may have been lost with the worker."""
    run_set = shipment.run_set
    started = {position for position in shipment.calls if position in run_set.executing}
    if shipment.attempt is not None and not started and calls and not run_set.task.isasync:
        started = {calls[0].index}
    return started
