"""Where the values of runs on workers are: in the report if they are small, else on the cluster until asked for (D12).

As it travels, a state's data is a tuple of plain values: ("value", atom), ("gone", type name), ("inline", bytes),
("kept", key, size, type name), or ("record", bytes) for records that say themselves where their value is. To be stored
by the flow's process: ("carried", bytes of the record, content).
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, TypeVar

from core_engine.exceptions import CoreEngineError, MissingResult, SerializationError
from core_engine.results.portable import portable_exception
from core_engine.results.records import BaseResult, Gone, PersistedResult, UnpersistedResult
from core_engine.results.unpicklable import describe_type, find_unpicklable

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_engine.remote.roads import Road

R = TypeVar("R")

LARGEST_INLINE = 64 * 1024
# Values of these exact types are part of the report itself; texts and bytes if they are short.
ATOMS = frozenset({type(None), bool, int, float})
TEXTS = frozenset({str, bytes})
SHORT = 1_000


class InlineResult(BaseResult[R]):
    """A small value that came with its run's report, unpickled when somebody asks for it.

    Parameters:
        content: The pickled value.
    """

    __slots__ = ("_content", "_has_value", "_value")

    stored = False

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._has_value = False
        self._value: Any = None

    @property
    def content(self) -> bytes:
        return self._content

    @property
    def description(self) -> str:
        return f"{len(self._content):,} bytes, in memory only"

    def without_value(self) -> BaseResult[Any]:
        return UnpersistedResult(Gone("unknown, not unpickled here"))

    def has_cached_object(self) -> bool:
        return True

    def read(self) -> R:
        if not self._has_value:
            try:
                self._value = pickle.loads(self._content)
            except Exception as error:
                raise SerializationError(
                    f"A value that a worker sent cannot be unpickled in the flow's process: "
                    f"{type(error).__name__}: {error}. Is a module missing here, or of another version?"
                ) from error
            self._has_value = True
        return self._value  # type: ignore[no-any-return]

    def to_json(self) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return InlineResult, (self._content,)


class ClusterResult(BaseResult[R]):
    """A large value that stays on the cluster until somebody asks for it.

    Parameters:
        key: Its name on the cluster.
        size: About how many bytes it has.
        value_type: Name of its type.
        road: The way to the cluster; None on the worker.
    """

    __slots__ = ("__weakref__", "_has_value", "_reason_missing", "_road", "_value", "key", "size", "value_type")

    stored = False

    def __init__(self, key: str, size: int, value_type: str, road: Road | None = None) -> None:
        self.key = key
        self.size = size
        self.value_type = value_type
        self._road = road
        self._has_value = False
        self._value: Any = None
        self._reason_missing = ""

    @property
    def description(self) -> str:
        return f"{self.value_type} of {self.size:,} bytes, {'in memory only' if self._has_value else 'on the cluster'}"

    def has_cached_object(self) -> bool:
        return self._has_value

    def is_on(self, road: Road) -> bool:
        """Returns whether the value can be given to calls on that road by its key."""
        return self._road is road

    def read(self) -> R:
        return self.fetch(None)

    def fetch(self, timeout_seconds: float | None) -> R:
        """Returns the value, brought here within some time; None: however long that takes.

        Raises:
            MissingResult: It is gone, or did not come in time.
        """
        if self._has_value:
            return self._value  # type: ignore[no-any-return]
        if self._road is None:
            raise MissingResult(self._reason_missing or self._left())
        try:
            value = self._road.fetch(self.key, timeout_seconds)
        except Exception as error:
            raise MissingResult(
                f"A result of type {self.value_type} ({self.size:,} bytes) could not be fetched from the cluster: "
                f"{type(error).__name__}: {error}. Use persist_result=True for results that must outlive a worker."
            ) from error
        self._value, self._has_value = value, True
        return value  # type: ignore[no-any-return]

    def without_value(self) -> BaseResult[Any]:
        return UnpersistedResult(Gone(self.value_type))

    async def aget(self) -> R:
        from core_engine.concurrency.waiting import run_blocking

        return await run_blocking(self.read)

    def leave(self, reason: str = "") -> None:
        """The value is missing from now on if it was not fetched; `reason` says why, "" that the cluster is gone."""
        self._road, self._reason_missing = None, reason

    def _left(self) -> str:
        return (
            f"A result of type {self.value_type} ({self.size:,} bytes) was left on the cluster, which is gone or "
            "lost it. Use persist_result=True to keep it, or read it before the flow run ends."
        )

    def to_json(self) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return UnpersistedResult, (self.read(),)


class CarriedResult(PersistedResult[R]):
    """A persisted value on its way from a worker that does not share the storage: the flow's process writes it there.

    Parameters:
        record: The record that it will have.
        content: What is to be stored.
    """

    __slots__ = ("content",)

    def __init__(self, record: PersistedResult[R], content: bytes) -> None:
        super().__init__(
            serializer_type=record.serializer_type,
            storage_path=record.storage_path,
            storage_key=record.storage_key,
            value_type=record.value_type,
            storage_name=record.storage_name,
            value=record._value,
            keeps_value=record._keeps_value,
        )
        self.content = content

    def reference(self) -> PersistedResult[R]:
        """Returns the record alone."""
        return PersistedResult(
            serializer_type=self.serializer_type,
            storage_path=self.storage_path,
            storage_key=self.storage_key,
            value_type=self.value_type,
            storage_name=self.storage_name,
            keeps_value=self._keeps_value,
        )


def dumps(value: Any, name: str = "value") -> bytes:
    """Pickles a value, by value where its class exists in this process only.

    Raises:
        SerializationError: It cannot be pickled; the message names the part that cannot.
    """
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:  # a class or function of a script: cloudpickle takes it along
        return dumps_by_value(value, name)


def dumps_by_value(value: Any, name: str) -> bytes:
    """``dumps`` for what the other process may know under its name but does not have.

    Raises:
        SerializationError: As ``dumps``.
    """
    import cloudpickle

    try:
        content: bytes = cloudpickle.dumps(value, protocol=5)
    except Exception as error:
        raise unpicklable(value, name, error) from error
    return content


def unpicklable(value: Any, name: str, error: Exception) -> SerializationError:
    """Returns the error for a value that cannot be pickled, naming the part of it that cannot."""
    found = find_unpicklable(value, name=name)
    part = "" if found is None else f"{found[0]} is of type {describe_type(found[1])}. "
    return SerializationError(
        f"The {name} cannot be sent to another process: {part}{type(error).__name__}: {error}. "
        "Make the object inside the task, or pass what it can be made from."
    )


# On the worker --------------------------------------------------------------------------------------------------------


def data_to_tuple(data: Any) -> tuple[Any, ...] | None:
    """Returns a state's data as it travels; None for none."""
    kind = type(data)
    if data is None:
        return None
    if kind is UnpersistedResult:
        value = data._value
        if type(value) is Gone:
            return ("gone", value.type_name)
        if type(value) in ATOMS or (type(value) in TEXTS and len(value) <= SHORT):
            return ("value", value)
        return ("inline", dumps(data.read()))
    if kind is InlineResult:
        return ("inline", data.content)
    if kind is CarriedResult:
        return ("carried", dumps(data.reference()), data.content)
    if kind is ClusterResult:
        return ("kept", data.key, data.size, data.value_type)
    if isinstance(data, BaseException):
        return ("raw", dumps(portable_exception(data)))
    return ("record" if isinstance(data, BaseResult) else "raw", dumps(data))


# In the flow's process ------------------------------------------------------------------------------------------------


def data_from_tuple(travelled: tuple[Any, ...] | None, keep: Callable[[str, int, str], Any]) -> Any:
    """Returns the data of a state; `keep` makes the record of a value that stays on the cluster."""
    if travelled is None:
        return None
    kind, content = travelled[0], travelled[1]
    if kind == "value":
        return UnpersistedResult(content)
    if kind == "inline":
        return InlineResult(content)
    if kind == "kept":
        return keep(content, travelled[2], travelled[3])
    if kind == "gone":
        return UnpersistedResult(Gone(content))
    try:
        return pickle.loads(content)
    except Exception as error:
        return CoreEngineError(f"What a worker sent cannot be unpickled: {type(error).__name__}: {error}")
