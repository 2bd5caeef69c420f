"""What a state is: a type, a name, a message, a time, details and data."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from core_engine import ids

if TYPE_CHECKING:
    from core_engine.schemas.records import TaskRunGroup


class StateType(str, Enum):  # noqa: UP042 - StrEnum would change what str() gives
    """The nine kinds of state. The first column of the transition table in ``core_engine.orchestration``."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    CRASHED = "CRASHED"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"


SCHEDULED = StateType.SCHEDULED
PENDING = StateType.PENDING
RUNNING = StateType.RUNNING
COMPLETED = StateType.COMPLETED
FAILED = StateType.FAILED
CANCELLED = StateType.CANCELLED
CRASHED = StateType.CRASHED
PAUSED = StateType.PAUSED
CANCELLING = StateType.CANCELLING

FINAL_TYPES = frozenset({COMPLETED, FAILED, CANCELLED, CRASHED})
DEFAULT_NAMES = {type: type.value.capitalize() for type in StateType}

# The fields of ``StateDetails`` that are moments.
DETAILS_TIMES = ("scheduled_time", "cache_expiration", "pause_timeout")


@dataclass(slots=True)
class StateDetails:
    """What a state says beside its type. Times are aware datetimes in UTC; None means that it does not apply."""

    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None
    child_flow_run_id: UUID | None = None
    scheduled_time: datetime | None = None
    cache_key: str | None = None
    cached_from: UUID | None = None
    cache_expiration: datetime | None = None
    refresh_cache: bool | None = None
    untrackable_result: bool = False
    pause_timeout: datetime | None = None
    pause_reschedule: bool = False
    pause_key: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields that are set, with ids and times as text, ready for JSON."""
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None or value is False:
                continue
            if isinstance(value, UUID):
                value = str(value)
            elif isinstance(value, datetime):
                value = value.isoformat()
            values[field.name] = value
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StateDetails:
        """Reads what ``to_dict`` wrote."""
        read = dict(values)
        for name in ("flow_run_id", "task_run_id", "child_flow_run_id", "cached_from"):
            if name in read:
                read[name] = UUID(read[name])
        for name in DETAILS_TIMES:
            if name in read:
                read[name] = datetime.fromisoformat(read[name])
        return cls(**read)


class State:
    """A state of a run.

    Parameters:
        type: A StateType or its text.
        name: What to call it; None means the capitalised type.
        message: One line for people; None means nothing to say.
        data: The value or result record, or for a bad state the exception or its text; None means none.
        timestamp: When it came about (aware datetime); None means now.
        state_details: More facts; None means none.
        id: The state's id; None means that it follows from its run, or is made when asked for.

    A state is a value: once recorded nothing changes it. The underscored fields are the engine's: a state of a task
    run knows the group and index of its run and its ordinal in the run's history, from which ids follow; `_position`
    is the journal position at which it was appended, 0 while it was not.
    """

    __slots__ = (
        "__weakref__",
        "_data",
        "_details",
        "_group",
        "_id",
        "_index",
        "_message",
        "_name",
        "_ordinal",
        "_position",
        "_time",
        "_type",
    )

    _type: StateType
    _name: str
    _message: str | None
    _data: Any
    _time: float
    _details: StateDetails | None
    _group: TaskRunGroup | None
    _index: int
    _ordinal: int
    _position: int
    _id: UUID | None

    def __init__(
        self,
        type: StateType | str,
        name: str | None = None,
        message: str | None = None,
        data: Any = None,
        timestamp: datetime | None = None,
        state_details: StateDetails | None = None,
        id: UUID | None = None,
    ) -> None:
        self._type = StateType(type)
        self._name = name or DEFAULT_NAMES[self._type]
        self._message = message
        self._data = data
        self._time = time.time() if timestamp is None else timestamp.timestamp()
        self._details = state_details
        self._group = None
        self._index = 0
        self._ordinal = 0
        self._position = 0
        self._id = id

    @property
    def type(self) -> StateType:
        return self._type

    @property
    def name(self) -> str:
        return self._name

    @property
    def message(self) -> str | None:
        return self._message

    @property
    def data(self) -> Any:
        return self._data

    @property
    def timestamp(self) -> datetime:
        return datetime.fromtimestamp(self._time, UTC)

    @property
    def id(self) -> UUID:
        if self._id is None:
            if self._group is not None and self._ordinal:
                self._id = ids.state_id(self._group.prefix, self._index, self._ordinal)
            else:
                self._id = ids.new_id()
        return self._id

    @property
    def state_details(self) -> StateDetails:
        details = self._details
        if details is None:
            details = self._details = StateDetails()
        if self._group is not None and details.task_run_id is None:
            from core_engine.lineage import is_untrackable_state

            details = self._details = replace(
                details,
                task_run_id=ids.run_id(self._group.prefix, self._index),
                flow_run_id=self._group.flow_run_id,
                untrackable_result=details.untrackable_result or is_untrackable_state(self),
            )
        return details

    def is_scheduled(self) -> bool:
        return self._type is SCHEDULED

    def is_pending(self) -> bool:
        return self._type is PENDING

    def is_running(self) -> bool:
        return self._type is RUNNING

    def is_completed(self) -> bool:
        return self._type is COMPLETED

    def is_failed(self) -> bool:
        return self._type is FAILED

    def is_crashed(self) -> bool:
        return self._type is CRASHED

    def is_cancelled(self) -> bool:
        return self._type is CANCELLED

    def is_cancelling(self) -> bool:
        return self._type is CANCELLING

    def is_paused(self) -> bool:
        return self._type is PAUSED

    def is_final(self) -> bool:
        return self._type in FINAL_TYPES

    def result(self, raise_on_failure: bool = True, fetch: bool | None = None) -> Any:
        """Returns the run's value.

        Parameters:
            raise_on_failure: False returns the exception of a bad state instead of raising it.
            fetch: In async code True returns an awaitable of the value, False the raw result record; None is False
                with a DeprecationWarning unless the setting ASYNC_FETCH_STATE_RESULT is on. Sync code always fetches.

        Raises:
            UnfinishedRun: The run has not ended.
            PausedRun: The run is paused.
            MissingResult: The run completed, and its value was not kept.
            Exception: What the run failed with, or FailedRun, CrashedRun, CancelledRun where only its text is known.
        """
        from core_engine.states import get_state_result

        return get_state_result(self, raise_on_failure=raise_on_failure, fetch=fetch)

    def get(self, raise_on_failure: bool = True) -> Awaitable[Any]:
        """Returns an awaitable of the run's value: ``result(fetch=True)`` for async code."""
        from core_engine.states import fetch_state_result

        return fetch_state_result(self, raise_on_failure=raise_on_failure)

    def copy(self, **changes: Any) -> Self:
        """Returns a new state with `changes` (constructor names), a timestamp of now and an id of its own."""
        values: dict[str, Any] = {
            "type": self._type,
            "name": self._name,
            "message": self._message,
            "data": self._data,
            "state_details": None if self._details is None else replace(self._details),
        }
        values.update(changes)
        return type(self)(**values)

    def __getstate__(self) -> dict[str, Any]:
        """What travels: ids are made explicit, so that the group stays where it is."""
        return {
            "type": self._type,
            "name": self._name,
            "message": self._message,
            "data": self._data,
            "time": self._time,
            "details": self.state_details,
            "id": self.id,
            "ordinal": self._ordinal,
        }

    def __setstate__(self, travelled: dict[str, Any]) -> None:
        self._type = travelled["type"]
        self._name = travelled["name"]
        self._message = travelled["message"]
        self._data = travelled["data"]
        self._time = travelled["time"]
        self._details = travelled["details"]
        self._id = travelled["id"]
        self._ordinal = travelled["ordinal"]
        self._group = None
        self._index = 0
        self._position = 0

    def __str__(self) -> str:
        parts = []
        if self._message:
            parts.append(repr(self._message))
        if self._name.upper() != self._type.value:
            parts.append(f"type={self._type.value}")
        return f"{self._name}({', '.join(parts)})"

    def __repr__(self) -> str:
        parts = [f"type={self._type.value}"]
        if self._message:
            parts.insert(0, f"message={self._message!r}")
        parts.append(f"result={self._data!r}")
        return f"{self._name}({', '.join(parts)})"


def make_state(
    type: StateType,
    time: float,
    group: TaskRunGroup | None,
    index: int,
    ordinal: int,
    name: str | None = None,
    message: str | None = None,
    data: Any = None,
    details: StateDetails | None = None,
) -> State:
    """Makes a recorded state of a task run without checks: the constructor of the hot path and of the store's reads."""
    state = State.__new__(State)
    state._type = type
    state._name = name or DEFAULT_NAMES[type]
    state._message = message
    state._data = data
    state._time = time
    state._details = details
    state._group = group
    state._index = index
    state._ordinal = ordinal
    state._position = 0
    state._id = None
    return state
