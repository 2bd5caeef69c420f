"""ResultFactory: makes records of values, by the policy of one flow or task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core_engine.results.files import encode_file
from core_engine.results.keys import KeyTemplate, check_key, random_key
from core_engine.results.portable import exception_as_text, survives
from core_engine.results.records import (
    NOT_READ,
    BaseResult,
    Gone,
    LiteralResult,
    PersistedResult,
    UnpersistedResult,
    is_literal,
    type_name,
)
from core_engine.results.storage import ResultStorage, remember_storage
from core_engine.serializers import PickleSerializer, Serializer

if TYPE_CHECKING:
    from core_engine.results.policy import FlowOptions, TaskOptions
    from core_engine.settings import Settings


@dataclass(slots=True, frozen=True)
class ResultFactory:
    """What becomes of the values of one flow or task. A value itself: comparable, picklable, never changed.

    Parameters:
        persist_result: Whether values go to storage.
        cache_result_in_memory: Whether this process holds them.
        serializer: What writes them.
        storage: Where they go.
        storage_key_fn: Called without arguments for the key of each stored value.
    """

    persist_result: bool
    cache_result_in_memory: bool
    serializer: Serializer
    storage: ResultStorage
    storage_key_fn: Callable[[], str] = random_key

    # HOT: once per task run, hence the cases that need no work first.
    def create_result(self, value: Any, parameters: Mapping[str, Any] | None = None) -> BaseResult[Any]:
        """Returns the record of a value; one that is a record already is kept. Blocks while a storage is written.

        Parameters:
            value: What a run returned, or the exception that it ended with.
            parameters: The run's parameters with defaults, for keys made of them; None takes them from the context.

        Raises:
            SerializationError: The value cannot be serialized; the message names the part of it that cannot.
            StorageError: The storage cannot be written.
            TypeError, ValueError: The storage key is no text, or cannot be used.
        """
        if isinstance(value, BaseResult):
            return value
        if self.persist_result:
            return LiteralResult(value) if is_literal(value) else self._persist(value, parameters)
        if self.cache_result_in_memory or value is None or isinstance(value, BaseException):
            # An exception is how the run ended, not what it gave: it would be missed where it must be raised.
            return UnpersistedResult(value)
        return UnpersistedResult(Gone(type_name(value)))

    def wrap(self, value: Any, parameters: Mapping[str, Any] | None = None) -> BaseResult[Any]:
        """The same as `create_result`, for the data of states made by hand."""
        return self.create_result(value, parameters)

    def _persist(self, value: Any, parameters: Mapping[str, Any] | None) -> PersistedResult[Any]:
        record, content = self._to_store(value, parameters)
        self.storage.write(record.storage_key, content)
        remember_storage(self.storage)
        return record

    def _to_store(self, value: Any, parameters: Mapping[str, Any] | None) -> tuple[PersistedResult[Any], bytes]:
        """Returns the record of a value, and what is to be stored under its key."""
        key = self._new_key(parameters)
        serializer = self.serializer
        if isinstance(value, BaseException):
            content, serializer = _encode_exception(value, serializer)
        else:
            content = encode_file(value, serializer)
        record = PersistedResult(
            serializer_type=serializer.type,
            storage_path=self.storage.base_path,
            storage_key=key,
            value_type=type_name(value),
            storage_name=self.storage.name,
            value=value if self.cache_result_in_memory else NOT_READ,
            keeps_value=self.cache_result_in_memory,
        )
        return record, content

    def _new_key(self, parameters: Mapping[str, Any] | None) -> str:
        make_key = self.storage_key_fn
        return check_key(make_key.fill(parameters) if isinstance(make_key, KeyTemplate) else make_key())

    @classmethod
    def from_flow(cls, flow: FlowOptions, settings: Settings | None = None) -> ResultFactory:
        """Returns the factory of a flow that is called here: a subflow if there is a flow run around.

        Parameters:
            flow: The flow.
            settings: None uses the settings in force.
        """
        from core_engine.context import FlowRunContext
        from core_engine.results.policy import flow_factory

        return flow_factory(flow, FlowRunContext.get(), settings)

    @classmethod
    def from_task(cls, task: TaskOptions, settings: Settings | None = None) -> ResultFactory:
        """Returns the factory of a task that is called here.

        Parameters:
            task: The task.
            settings: None uses the settings in force.

        Raises:
            MissingContextError: There is no flow run around.
        """
        from core_engine.results.policy import task_factory

        return task_factory(task, settings=settings)

    @classmethod
    def default_factory(cls, settings: Settings | None = None, **fields: Any) -> ResultFactory:
        """Returns the factory that the settings alone give.

        Parameters:
            settings: None uses the settings in force.
            fields: Those of the constructor that are not to come from the settings; None means not given.

        Raises:
            TypeError: Storage or serializer is nothing that can be one.
        """
        from core_engine.results.policy import default_factory

        return default_factory(settings, **fields)


def _encode_exception(exception: BaseException, serializer: Serializer) -> tuple[bytes, Serializer]:
    """Returns the file's content and what wrote it: the exception if any serializer brings it back, else its text."""
    for candidate in (serializer, PickleSerializer()):
        if survives(exception, candidate):
            return encode_file(exception, candidate), candidate
    return encode_file(exception_as_text(exception), PickleSerializer()), PickleSerializer()
