"""What a block is made of, as it travels: definition, shared parameters, items."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

if TYPE_CHECKING:
    from core_engine.remote.flow_facts import FlowRunFacts
    from core_engine.remote.permit import ItemProgress
    from core_engine.schemas.states import State
    from core_engine.settings import SettingsContext
    from core_engine.tasks import Task


class Definition(NamedTuple):
    """What all items of a run set have in common.

    ``storage_token`` is the key of what the flow's process wrote into the storage of results, None if nothing.
    ``flow_run`` is what tasks can ask of their flow run.
    """

    task: Task[..., Any]
    settings: SettingsContext
    result_factory: Any
    log_prints: bool
    storage_token: str | None
    flow_run: FlowRunFacts


class Shared(NamedTuple):
    """The parameters that all items of a run set have in common, and how the others are called."""

    parameters: dict[str, Any]
    names: Sequence[str]
    collapses: bool

    def parameters_of(self, row: Sequence[Any], task: Task[..., Any]) -> dict[str, Any]:
        """Returns the parameters of the item whose own are `row`."""
        parameters = self.parameters.copy()
        parameters.update(zip(self.names, row, strict=True))
        return task.signature.collapse(parameters) if self.collapses else parameters


class Item(NamedTuple):
    """One run: its position in the run set, under which group and index it is recorded, and where it stands.

    ``answer`` is what is stored under its cache key: (key, state or None), None when nobody has been asked.
    """

    position: int
    group: int
    run_index: int
    progress: ItemProgress | None
    answer: tuple[str, State | None] | None


class Origin(NamedTuple):
    """What the runs of a block belong to: id and name of the flow run, name of its flow, and facts of run groups."""

    flow_run_id: UUID
    flow_run_name: str
    flow_name: str
    groups: Sequence[Mapping[str, Any]]


class Payload(NamedTuple):
    """What a block is: plain values, and ``rows`` with the items' own parameters, pickled.

    ``attempt`` is the flow run's. ``origin`` is a pickled ``Origin``, the same bytes for all blocks of a map.
    ``must_claim``: nothing of it is executed before the flow's process has said that this is its first start.
    ``value_keys`` are the keys of the large values that come with the block, in their order. ``common_keys`` are those
    of what comes beside it for many blocks; None: nothing else needs it.
    """

    session: str
    block: int
    process: str
    attempt: int
    needs_slots: bool
    must_claim: bool
    origin: bytes
    rows: bytes
    value_keys: Sequence[str]
    common_keys: Sequence[str | None]
    items: Sequence[Item]

    def encode(self) -> bytes:
        # Plain tuples: a class of ours costs more on its way than all its values.
        return pickle.dumps((*self[:-1], [tuple(item) for item in self.items]), protocol=5)

    @classmethod
    def decode(cls, content: bytes) -> Payload:
        *others, items = pickle.loads(content)
        return cls._make([*others, [Item(*item) for item in items]])


def this_process() -> str:
    """Returns a text that no other process has, anywhere; one that was forked off has the same mark."""
    return _this_process


def _name_process() -> None:
    global _this_process
    _this_process = f"{_MARK}:{os.getpid()}"


# Containers share names of hosts and numbers of processes.
_MARK = uuid4().hex
_this_process = ""
_name_process()
os.register_at_fork(after_in_child=_name_process)
