"""What many blocks have in common, put where all workers can be given it: definitions, a map's own parameters (I5)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from core_engine.remote.captured import captured, is_same
from core_engine.remote.flow_facts import FlowRunFacts
from core_engine.remote.shipment import definition_of, shared_of

if TYPE_CHECKING:
    from core_engine.engine.run_sets import RunSet
    from core_engine.remote.queues import RunSetQueue
    from core_engine.remote.roads import Road
    from core_engine.remote.shared_storages import SharedStorages
    from core_engine.remote.values import ClusterResult

# What is put into a block itself rather than shared.
SMALL = 16 * 1024


class Common(NamedTuple):
    """What goes with each block of a run set: its definition, and the parameters that all its runs share.

    Attributes:
        references: Where the cluster has them.
        keys: What a worker keeps each under; None: not at all. Two that are equal are not the same: what tasks do to
            the objects of one map is nothing to those of another.
        values: Large values among the parameters.
    """

    references: tuple[Any, Any]
    keys: tuple[str, str | None]
    values: list[ClusterResult[Any]]


class _Definition(NamedTuple):
    """A definition that was shared: what it is of, held so that nothing else has its identity; what its function had
    from around it; its key and reference."""

    policy: tuple[Any, ...]
    captured: list[Any]
    found: tuple[str, Any]


class SharedContent:
    """The references of one session to what it shared.

    Parameters:
        road: The way to the cluster.
        storages: Where results are stored.
    """

    def __init__(self, road: Road, storages: SharedStorages) -> None:
        self._road = road
        self._storages = storages
        self._definitions: dict[tuple[int, int], list[_Definition]] = {}
        self._facts: FlowRunFacts | None = None

    def of(self, queue: RunSetQueue) -> Common:
        """Returns what goes with each block of a run set.

        Raises:
            UpstreamTaskError: A shared parameter waits for an upstream that did not complete.
            SerializationError: Something cannot be pickled; the message names it.
        """
        if queue.common is None:
            run_set = queue.run_set
            shared, values = shared_of(run_set, self._road, queue.reads_stored)
            is_for_one = run_set.count == 1
            inline = len(shared) <= SMALL or is_for_one
            reference = shared if inline else self._road.share(f"{run_set.task.name}-parameters", shared)
            # Values that it refers to are the cluster's to keep, and not for longer than they are needed.
            key = None if is_for_one or values else _new_key()
            definition_key, definition = self._definition(run_set)
            queue.common = Common((definition, reference), (definition_key, key), values)
        return queue.common

    def forget(self, queue: RunSetQueue) -> None:
        """What was shared may be gone with a worker: it is shared again with the next block."""
        queue.common = None
        self._definitions.clear()

    def _definition(self, run_set: RunSet) -> tuple[str, Any]:
        """Returns key of and reference to a run set's definition, pickled and sent once for all run sets like it."""
        known = self._definitions.setdefault((id(run_set.task), id(run_set.settings)), [])
        policy = (run_set.task, run_set.settings, run_set.result_factory, run_set.log_prints)
        around = captured(run_set.task)
        for one in known:
            if one.policy[2:] == policy[2:]:
                if is_same(one.captured, around):
                    return one.found
                known.remove(one)
                break
        found = _new_key(), self._road.share(f"{run_set.task.name}-definition", self._definition_of(run_set))
        known.append(_Definition(policy, around, found))
        return found

    def _definition_of(self, run_set: RunSet) -> bytes:
        factory = run_set.result_factory
        token = self._storages.token_of(factory.storage) if factory.persist_result else None
        if self._facts is None:
            self._facts = FlowRunFacts.of(run_set)
        return definition_of(run_set, token, self._facts)


def _new_key() -> str:
    return uuid.uuid4().hex
