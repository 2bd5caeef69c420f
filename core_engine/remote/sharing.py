"""What many blocks have in common, put where all workers can be given it: definitions, a map's own parameters (I5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core_engine.remote.shipment import definition_of, shared_of

if TYPE_CHECKING:
    from core_engine.engine.run_sets import RunSet
    from core_engine.remote.queues import RunSetQueue
    from core_engine.remote.roads import Road
    from core_engine.remote.shared_storages import SharedStorages

# What is put into a block itself rather than shared.
SMALL = 16 * 1024


class SharedContent:
    """The references of one session to what it shared.

    Parameters:
        road: The way to the cluster.
        storages: Where results are stored.
    """

    def __init__(self, road: Road, storages: SharedStorages) -> None:
        self._road = road
        self._storages = storages
        self._definitions: dict[tuple[int, int], list[tuple[Any, Any]]] = {}

    def of(self, queue: RunSetQueue) -> list[Any]:
        """Returns what goes with each block of a run set: references to its definition and to its shared parameters.

        Raises:
            UpstreamTaskError: A shared parameter waits for an upstream that did not complete.
            SerializationError: Something cannot be pickled; the message names it.
        """
        if queue.common is None:
            run_set = queue.run_set
            shared, values = shared_of(run_set, queue.reads_stored)
            inline = len(shared) <= SMALL or run_set.count == 1
            reference = shared if inline else self._road.share(f"{run_set.task.name}-parameters", shared)
            queue.values = values
            queue.common = [self._definition(run_set), reference]
        return queue.common

    def forget(self, queue: RunSetQueue) -> None:
        """What was shared may be gone with a worker: it is shared again with the next block."""
        queue.common = None
        self._definitions.clear()

    def _definition(self, run_set: RunSet) -> Any:
        """Returns the reference to a run set's definition, pickled and sent once for all run sets like it."""
        known = self._definitions.setdefault((id(run_set.task), id(run_set.settings)), [])
        policy = (run_set.task, run_set.settings, run_set.result_factory, run_set.log_prints)
        for other, reference in known:
            if other[2:] == policy[2:]:
                return reference
        reference = self._road.share(f"{run_set.task.name}-definition", self._definition_of(run_set))
        known.append((policy, reference))
        return reference

    def _definition_of(self, run_set: RunSet) -> bytes:
        factory = run_set.result_factory
        return definition_of(run_set, self._storages.token_of(factory.storage) if factory.persist_result else None)
