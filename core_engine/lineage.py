"""Which run a value came from, when the flow passes the bare value on.

A link is made when a value is handed to the flow's code (a future's or state's ``result``, a plain call), by the
value's identity, and lives as long as the flow run. A link never keeps a large value alive where the type allows weak
references; where it does not, links are strong and bounded. So a reused address names no wrong upstream (I10).
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import islice
from types import EllipsisType, NoneType, NotImplementedType
from typing import TYPE_CHECKING, Any

from core_engine.context import FlowRunContext, TaskRunContext
from core_engine.schemas.states import State, make_state

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveFlowRun

MOST_LINKS = 10_000
MOST_BYTES = 64 * 1024 * 1024
MOST_MEMBERS = 1_000

_UNTRACKABLE_TYPES = frozenset({bool, NoneType, EllipsisType, NotImplementedType})


def is_untrackable(value: object) -> bool:
    """Returns whether many unrelated values are this very object, so that identity says nothing."""
    kind = type(value)
    return kind in _UNTRACKABLE_TYPES or (kind is int and -5 <= value <= 256)  # type: ignore[operator]


def members(value: Any) -> Iterable[Any]:
    """Returns the values one level below: elements of a collection, values of a mapping, fields of a model."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return islice(iter(value), MOST_MEMBERS)
    if isinstance(value, dict):
        return islice(iter(value.values()), MOST_MEMBERS)
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        return list(value.__dict__.values())
    return ()


def is_untrackable_state(state: State) -> bool:
    """Returns whether the state's value, or one of its members, cannot be tracked; False for a value not in memory."""
    record = state._data
    if record is None or not getattr(record, "has_cached_object", bool)():
        return False
    value = record.read()
    return is_untrackable(value) or any(is_untrackable(member) for member in members(value))


class _Link:
    __slots__ = ("ambiguous", "refer", "size", "state")

    def __init__(self, refer: Callable[[], Any], state: State, size: int) -> None:
        self.refer = refer
        self.state = state
        self.size = size
        self.ambiguous = False


class Lineage:
    """The links of one flow run.

    ``_lock`` guards ``links`` and ``_bytes``: a flow's code may run in several threads. It is re-entrant since dropping
    a strong link may free an object whose weak link is dropped in the same breath.
    """

    def __init__(self) -> None:
        self.links: OrderedDict[int, _Link] = OrderedDict()
        self.evicted = 0
        self._bytes = 0
        self._lock = threading.RLock()

    def link(self, state: State, value: Any) -> None:
        """Remembers that `value`, and its members, came from the run of `state`."""
        bare = make_state(
            state._type, state._time, state._group, state._index, state._ordinal, state._name, state._message
        )
        bare._details = state._details
        bare._id = state._id
        self._link_one(bare, value)
        for member in members(value):
            self._link_one(bare, member)

    def find(self, value: Any) -> State | None:
        """Returns the state, without data, of the run that `value` came from; None when unknown or ambiguous."""
        if not self.links:
            return None
        link = self.links.get(id(value))
        if link is None or link.ambiguous or link.refer() is not value:
            return None
        return link.state

    def _link_one(self, state: State, value: Any) -> None:
        if is_untrackable(value):
            return
        key = id(value)
        with self._lock:
            known = self.links.get(key)
            if known is not None and known.refer() is value:
                known.ambiguous = known.ambiguous or not _same_run(known.state, state)
                known.state = state
                return
            try:
                refer: Callable[[], Any] = weakref.ref(value, lambda ref: self._drop(key, ref))
                size = 0
            except TypeError:
                refer = _Strong(value)
                size = sys.getsizeof(value, 64)
            self.links[key] = _Link(refer, state, size)
            self._bytes += size
            self._evict()

    def _drop(self, key: int, refer: Callable[[], Any]) -> None:
        with self._lock:
            link = self.links.get(key)
            if link is not None and link.refer is refer:
                del self.links[key]

    def _evict(self) -> None:
        while self.links and (len(self.links) > MOST_LINKS or self._bytes > MOST_BYTES):
            _, link = self.links.popitem(last=False)
            self._bytes -= link.size
            self.evicted += 1


class _Strong:
    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __call__(self) -> Any:
        return self._value


def _same_run(one: State, other: State) -> bool:
    if one._group is not None or other._group is not None:
        return one._group is other._group and one._index == other._index
    return one.state_details.task_run_id == other.state_details.task_run_id


def link_handed_over(state: State, value: Any) -> None:
    """Links a value that the current flow run's code is being given; does nothing elsewhere."""
    if state._group is None and (state._details is None or state._details.task_run_id is None):
        return
    context = FlowRunContext.get()
    if context is not None and context.run is not None and TaskRunContext.get() is None:
        lineage = context.run.lineage
        had_room = not lineage.evicted
        lineage.link(state, value)
        if had_room and lineage.evicted:
            _tell_of_eviction(context.run)


def _tell_of_eviction(run: ActiveFlowRun) -> None:
    from core_engine.engine.run_logs import logger_of_flow_run

    logger_of_flow_run(run).info(
        "The flow was given more values than are remembered. Of the oldest it is not known any more which task run "
        "they came from; pass the futures instead, if that is to be recorded."
    )
