"""Results on a worker: what becomes of a value there (D12), also where it is to be persisted (D27)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from core_engine.exceptions import StorageError
from core_engine.remote.loading import Pickled
from core_engine.remote.values import (
    ATOMS,
    LARGEST_INLINE,
    SHORT,
    TEXTS,
    CarriedResult,
    ClusterResult,
    InlineResult,
    dumps,
)
from core_engine.results.factory import ResultFactory
from core_engine.results.portable import portable_exception
from core_engine.results.records import BaseResult, PersistedResult, UnpersistedResult, type_name
from core_engine.settings import get_current_settings

if TYPE_CHECKING:
    from core_engine.remote.roads import WorkerRoad


_FIELDS = [field.name for field in fields(ResultFactory)]


class WorkerResultFactory(ResultFactory):
    """A result factory on a worker: values that would stay in memory are pickled or kept on the cluster at once, and
    values that are to be persisted go back to the flow's process where the storage is not shared."""

    __slots__ = ("_carries", "_road")

    _road: WorkerRoad
    _carries: bool

    @classmethod
    def of(cls, factory: ResultFactory, road: WorkerRoad, carries: bool) -> WorkerResultFactory:
        """Makes one.

        Parameters:
            factory: What the flow's process would use.
            road: The way back.
            carries: Whether the flow's process is to write what is persisted.
        """
        made = cls(**{name: getattr(factory, name) for name in _FIELDS})
        object.__setattr__(made, "_road", road)
        object.__setattr__(made, "_carries", carries)
        return made

    def create_result(self, value: Any, parameters: Mapping[str, Any] | None = None) -> BaseResult[Any]:
        record = ResultFactory.create_result(self, value, parameters)
        if type(record) is not UnpersistedResult or not record.has_cached_object():
            return record
        kind = type(value)
        if kind in ATOMS or (kind in TEXTS and len(value) <= SHORT):
            return record
        if isinstance(value, BaseException):
            return InlineResult(dumps(portable_exception(value)))
        return _travelling(value, self._road)

    def _persist(self, value: Any, parameters: Mapping[str, Any] | None) -> PersistedResult[Any]:
        if not self._carries:
            return ResultFactory._persist(self, value, parameters)
        record, content = self._to_store(value, parameters)
        limit = get_current_settings().results_return_limit_bytes
        if len(content) > limit:
            raise StorageError(
                f"A result of type {record.value_type} makes a file of {len(content):,} bytes. Worker "
                f"{self._road.worker} does not share the result storage {record.storage_path} with the flow's process, "
                f"which stores no result of more than {limit:,} bytes for it (setting results_return_limit_bytes). Use "
                "a result_storage that all can reach, such as 's3://bucket/results' or a network directory; or raise "
                "the setting; or set persist_result=False."
            )
        return CarriedResult(record, content)


def _travelling(value: Any, road: WorkerRoad) -> BaseResult[Any]:
    size = _known_size(value)
    if size is not None and size > LARGEST_INLINE:
        kept = value
    else:
        content = dumps(value, "value")
        size = len(content)
        if size <= LARGEST_INLINE:
            return InlineResult(content)
        kept = Pickled(content)
    key = road.keep(kept)
    if key is not None:
        return ClusterResult(key, size, type_name(value))
    return InlineResult(kept.content if type(kept) is Pickled else dumps(value, "value"))


def _known_size(value: Any) -> int | None:
    """The size of bytes, and of an array that pickles as its bytes; None for anything else."""
    if type(value) is bytes:
        return len(value)
    dtype = getattr(value, "dtype", None)
    if dtype is None or getattr(dtype, "hasobject", True):
        return None
    size = getattr(value, "nbytes", None)
    return size if isinstance(size, int) else None
