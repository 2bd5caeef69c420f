"""Result records: what stands as a state's data once a run has ended.

A record is small, can be pickled, and says where the value is: in this process (``UnpersistedResult``), in the record
itself (``LiteralResult``), or in a storage (``PersistedResult``). The last two are written into the store with their
state, as the JSON that ``to_json`` gives and ``record_from_json`` reads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from core_engine.exceptions import MissingResult

if TYPE_CHECKING:
    from core_engine.results.storage import ResultStorage

R = TypeVar("R")


class Gone:
    """Stands where a value was that nobody keeps, and remembers its type."""

    __slots__ = ("type_name",)

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name


# Values that take no more memory than what would remember them.
_LIGHT = frozenset({type(None), bool, int, float, Gone})


class _NotRead:
    """The type of NOT_READ, which stands for a stored value that is not in memory."""

    def __reduce__(self) -> str:
        return "NOT_READ"


NOT_READ = _NotRead()


class BaseResult(Generic[R]):
    """Base of all records.

    Attributes:
        stored: Whether the record goes into the store with its state; False means that it lives in this process only.
        artifact_type: Always "result".
    """

    __slots__ = ()

    stored: ClassVar[bool] = True
    artifact_type: ClassVar[str] = "result"

    @property
    def description(self) -> str:
        """One line for people: the value's type and where it is."""
        raise NotImplementedError

    @property
    def artifact_description(self) -> str:
        """The same as `description`."""
        return self.description

    def has_cached_object(self) -> bool:
        """Returns whether `get` needs no storage."""
        raise NotImplementedError

    def read(self) -> R:
        """Returns the value, in whatever code this is called; blocks while a storage is read.

        Raises:
            MissingResult: The value was kept nowhere that can be read from here.
            SerializationError: The stored bytes cannot be turned into a value.
            StorageError: The storage cannot be reached.
        """
        raise NotImplementedError

    async def aget(self) -> R:
        """Returns the value without blocking the event loop. Raises what `read` raises."""
        return self.read()

    def get(self) -> Any:
        """Returns the value; in async code an awaitable of it. Raises what `read` raises."""
        from core_engine.context import in_async_code

        if in_async_code():
            awaitable: Awaitable[R] = self.aget()
            return awaitable
        return self.read()

    def without_value(self) -> BaseResult[Any]:
        """Returns what is to be kept when nobody can ask for the value in this process: itself if it holds none."""
        return self

    def to_json(self) -> dict[str, Any] | None:
        """Returns the record as JSON values for the store; None means that nothing of it is stored."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.description})"


class UnpersistedResult(BaseResult[R]):
    """The value itself, for as long as this process holds it. Made once per task run, hence as little as possible.

    Parameters:
        value: The value, or `Gone` where it must not be held in memory.
    """

    __slots__ = ("_value",)

    stored = False

    def __init__(self, value: R | Gone) -> None:
        self._value = value

    @property
    def description(self) -> str:
        if type(self._value) is Gone:
            return f"{self._value.type_name}, not kept"
        return f"{type_name(self._value)}, in memory only"

    def has_cached_object(self) -> bool:
        return type(self._value) is not Gone

    def read(self) -> R:
        value = self._value
        if type(value) is Gone:
            raise MissingResult(
                f"The result of type {value.type_name} was neither persisted nor held in memory, and is gone. "
                "Use persist_result=True to keep it, or leave cache_result_in_memory at True."
            )
        return value  # type: ignore[return-value]  # `type() is` narrows nothing in a union with a type variable

    def without_value(self) -> BaseResult[Any]:
        value = self._value
        return self if type(value) in _LIGHT else UnpersistedResult(Gone(type_name(value)))

    def to_json(self) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        value: Any = self._value
        if isinstance(value, BaseException):
            from core_engine.results.portable import portable_exception

            # How a run ended must arrive, even if its exception cannot.
            value = portable_exception(value)
        return UnpersistedResult, (value,)


class LiteralResult(BaseResult[bool | None]):
    """True, False or None, kept in the record itself.

    Raises:
        TypeError: The value is something else.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bool | None) -> None:
        if not is_literal(value):
            raise TypeError(f"A literal result is True, False or None, not {type_name(value)}: {value!r}.")
        self._value = value

    @property
    def value(self) -> bool | None:
        return self._value

    @property
    def description(self) -> str:
        return f"{type_name(self._value)}, the literal {self._value}"

    def has_cached_object(self) -> bool:
        return True

    def read(self) -> bool | None:
        return self._value

    def to_json(self) -> dict[str, Any]:
        return {"type": "literal", "value": self._value}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LiteralResult) and other._value is self._value

    def __hash__(self) -> int:
        return hash((LiteralResult, self._value))


class PersistedResult(BaseResult[R]):
    """A reference to a stored value.

    Pickling leaves a value that is held in memory behind: who receives the record reads it from storage.

    Parameters:
        serializer_type: Type text of the serializer that wrote it; the stored file says all that reading needs.
        storage_path: Directory or URL of the storage, as it is found from any process.
        storage_key: Name of the result in it.
        value_type: Name of the value's type.
        storage_name: Name under which the storage is saved; None means that its path says all.
        value: The value, to hold in memory; NOT_READ holds none.
        keeps_value: False reads the storage each time and holds nothing in memory.
    """

    __slots__ = (
        "_keeps_value",
        "_value",
        "serializer_type",
        "storage_key",
        "storage_name",
        "storage_path",
        "value_type",
    )

    def __init__(
        self,
        *,
        serializer_type: str,
        storage_path: str,
        storage_key: str,
        value_type: str,
        storage_name: str | None = None,
        value: R | _NotRead = NOT_READ,
        keeps_value: bool = True,
    ) -> None:
        self.serializer_type = serializer_type
        self.storage_path = storage_path
        self.storage_key = storage_key
        self.value_type = value_type
        self.storage_name = storage_name
        self._value = value
        self._keeps_value = keeps_value

    @property
    def storage(self) -> ResultStorage:
        """The storage that holds the value."""
        from core_engine.results.storage import find_storage

        return find_storage(self.storage_path, self.storage_name)

    @property
    def storage_id(self) -> str:
        """The storage's id: the same for the same path, in every process."""
        from core_engine.results.storage import id_of

        return id_of(self.storage_path)

    @property
    def location(self) -> str:
        """The stored file's path or URL."""
        return f"{self.storage_path.rstrip('/')}/{self.storage_key}"

    @property
    def description(self) -> str:
        return f"{self.value_type}, persisted at {self.location}"

    def has_cached_object(self) -> bool:
        return self._value is not NOT_READ

    def exists(self) -> bool:
        """Returns whether the stored file is still there. Raises StorageError where the storage cannot be reached."""
        return self.storage.exists(self.storage_key)

    def read(self) -> R:
        value = self._value
        if value is NOT_READ:
            from core_engine.results.files import read_value

            value = read_value(self.storage, self.storage_key)
            if self._keeps_value:
                self._value = value
        return value  # type: ignore[return-value]  # not NOT_READ any more

    def without_value(self) -> BaseResult[Any]:
        if self._value is NOT_READ:
            return self
        left: PersistedResult[Any] = PersistedResult.__new__(PersistedResult)
        left.__setstate__(self.__getstate__())
        return left

    async def aget(self) -> R:
        if self.has_cached_object():
            return self.read()
        from core_engine.concurrency.waiting import run_blocking

        return await run_blocking(self.read)

    def to_json(self) -> dict[str, Any]:
        record = {
            "type": "reference",
            "serializer_type": self.serializer_type,
            "storage_path": self.storage_path,
            "storage_key": self.storage_key,
            "value_type": self.value_type,
        }
        if self.storage_name is not None:
            record["storage_name"] = self.storage_name
        return record

    def __getstate__(self) -> dict[str, Any]:
        return {**self.to_json(), "keeps_value": self._keeps_value}

    def __setstate__(self, travelled: dict[str, Any]) -> None:
        arguments = {name: value for name, value in travelled.items() if name != "type"}
        PersistedResult.__init__(self, **arguments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PersistedResult) and other.to_json() == self.to_json()

    def __hash__(self) -> int:
        return hash((self.storage_path, self.storage_key))


def is_literal(value: object) -> bool:
    """Returns whether `value` is True, False or None itself; 1 and 0 are not."""
    return value is None or value is True or value is False


def type_name(value: object) -> str:
    """Returns the name of a value's type, with its module unless that is builtins."""
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def record_from_json(record: Mapping[str, Any]) -> BaseResult[Any]:
    """Returns the record that ``to_json`` wrote. It holds its value in memory after the first reading.

    Raises:
        ValueError: It is no such record.
    """
    kind = record.get("type")
    if kind == "reference":
        return PersistedResult(
            serializer_type=record["serializer_type"],
            storage_path=record["storage_path"],
            storage_key=record["storage_key"],
            value_type=record["value_type"],
            storage_name=record.get("storage_name"),
        )
    if kind == "literal":
        return LiteralResult(record["value"])
    raise ValueError(f"A stored result record is of type 'literal' or 'reference', not {kind!r}: {dict(record)!r}.")
