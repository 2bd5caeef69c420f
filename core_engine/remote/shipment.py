"""What goes to workers: a task's definition once, what a map has in common once, and each item's own parameters.

Inputs are final when a run is dispatched (D12), so that handles are replaced here: by small values, by references to
large ones that stay where they are, and by records that the worker reads itself.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import cloudpickle

from core_engine.engine.inputs import HANDLES, checked_state, unsearchable
from core_engine.exceptions import CoreEngineError, MissingResult, StorageError, UpstreamTaskError
from core_engine.remote.payloads import Definition, Shared
from core_engine.remote.values import ClusterResult, InlineResult, unpicklable
from core_engine.results.records import PersistedResult
from core_engine.schemas.states import FAILED
from core_engine.states import get_state_exception, stored_value
from core_engine.utilities.handles import ATOMS, resolve
from core_engine.utilities.importing import is_script_module

if TYPE_CHECKING:
    from core_engine.engine.run_sets import RunSet
    from core_engine.remote.flow_facts import FlowRunFacts
    from core_engine.remote.roads import Road

PLAIN = frozenset({type(None), bool, int, float, str, bytes})


class _Ready:
    """A value that is pickled already: the worker unpickles it in this place."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self._content,)


class _Stored:
    """A value in a storage, which the worker reads itself."""

    def __init__(self, record: PersistedResult[Any]) -> None:
        self.record = record

    def __reduce__(self) -> tuple[Any, ...]:
        return _read, (self.record,)


def _read(record: PersistedResult[Any]) -> Any:
    try:
        return record.read()
    except (MissingResult, StorageError) as error:
        raise UnseenValue(str(error)) from error


class UnseenValue(CoreEngineError):
    """A stored value cannot be read on a worker."""


class _OnCluster:
    """A value that a worker keeps; stands in the pickle as its key."""

    def __init__(self, result: ClusterResult[Any]) -> None:
        self.result = result


def _task_from(module: str, name: str) -> Any:
    return _attribute(module, name)


def _function_from(module: str, name: str) -> Any:
    return _attribute(module, name).fn


def _code_from(fields: Sequence[Any], filename: str) -> CodeType:
    return CodeType(*fields).replace(co_filename=filename)


def _attribute(module: str, name: str) -> Any:
    import importlib

    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _is_by_value(module: str) -> bool:
    """Whether a module exists in this process only, as far as workers are concerned."""
    name = module.partition(".")[0]
    return module in ("__main__", "__mp_main__") or is_script_module(module) or name in _registered_by_value()


def _registered_by_value() -> set[str]:
    return {name.partition(".")[0] for name in cloudpickle.list_registry_pickle_by_value()}


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, that knows tasks by the names of their modules and leaves large values on the cluster."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.kept: list[ClusterResult[Any]] = []

    def persistent_id(self, obj: Any) -> Any:
        if type(obj) is not _OnCluster:
            return None
        self.kept.append(obj.result)
        return obj.result.key

    def reducer_override(self, obj: Any) -> Any:
        from core_engine.tasks import Task

        # A decorated function is not what its name gives, so that cloudpickle would take it along with all it refers
        # to, of which locks and open files could not travel.
        if isinstance(obj, Task):
            if travels_by_name(obj):
                return _task_from, _place_of(obj.fn)
        elif type(obj) is FunctionType:
            place = _place_of(obj)
            if place is not None and getattr(_found(place), "fn", None) is obj:
                return _function_from, place
        elif type(obj) is CodeType:
            # cloudpickle leaves out where it was written, which tracebacks are to show.
            _, fields = self.dispatch_table[CodeType](obj)
            return _code_from, (fields, obj.co_filename)
        return super().reducer_override(obj)


def travels_by_name(found: Any) -> bool:
    """Returns whether workers import a task or a plain function, instead of getting it with all that it refers to."""
    from core_engine.tasks import Task

    is_task = isinstance(found, Task)
    place = _place_of(found.fn if is_task else found)
    if place is None:
        return False
    there = _found(place)
    return there is found or (not is_task and getattr(there, "fn", None) is found)


def _place_of(function: Any) -> tuple[str, str] | None:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module is None or name is None or "<" in name or _is_by_value(module):
        return None
    return module, name


def _found(place: tuple[str, str]) -> Any:
    found: Any = sys.modules.get(place[0])
    for part in place[1].split("."):
        found = getattr(found, part, None)
    return found


def pickled(value: Any) -> tuple[bytes, list[ClusterResult[Any]]]:
    """Returns a value pickled for a worker, and the large values that it refers to."""
    file = io.BytesIO()
    pickler = _script_pickler(file)
    pickler.dump(value)
    return file.getvalue(), pickler.kept


def _script_pickler(file: io.BytesIO) -> Pickler:
    register_scripts()
    return Pickler(file)


def register_scripts() -> None:
    """Has what scripts define that were loaded from a path pickled by value: workers cannot import them."""
    known = cloudpickle.list_registry_pickle_by_value()
    for name, module in list(sys.modules.items()):
        if is_script_module(name) and name not in known:
            cloudpickle.register_pickle_by_value(module)


def definition_of(run_set: RunSet, storage_token: str | None, facts: FlowRunFacts) -> bytes:
    """Returns the pickled definition that all runs of a run set share.

    Parameters:
        run_set: The run set.
        storage_token: Key of what this process wrote into the storage of results, None if nothing.
        facts: What is known of the flow run.

    Raises:
        SerializationError: The task cannot be sent; the message names the part that cannot.
    """
    definition = Definition(
        run_set.task,
        run_set.settings,
        run_set.result_factory,
        run_set.log_prints,
        storage_token,
        facts,
    )
    try:
        return pickled(tuple(definition))[0]
    except Exception as error:
        raise unpicklable(run_set.task, f"task {run_set.task.name!r}", error) from error


def shared_of(run_set: RunSet, road: Road, reads_stored: bool) -> tuple[bytes, list[ClusterResult[Any]]]:
    """Returns the pickled parameters that all runs of a run set share, and the large values among them.

    Parameters:
        run_set: The run set.
        road: The way to the cluster: what is on another is fetched here.
        reads_stored: Whether stored values are read here, since workers do not see them.

    Raises:
        UpstreamTaskError: An upstream did not complete.
        SerializationError: A parameter cannot be sent.
    """
    parameters = run_set.shared
    if run_set.has_handles:
        parameters = {name: resolved(name, value, road, reads_stored) for name, value in parameters.items()}
    shared = Shared(parameters, [name for name, _ in run_set.columns], run_set.collapses)
    try:
        return pickled(tuple(shared))
    except Exception as error:
        raise _blame(parameters, error) from error


def row_of(run_set: RunSet, position: int, road: Road, reads_stored: bool) -> list[Any]:
    """Returns the parameters of one run alone, handles replaced; `road` and `reads_stored` as ``shared_of``.

    Raises:
        UpstreamTaskError: An upstream did not complete.
    """
    if not run_set.has_handles:
        return [values[position] for _, values in run_set.columns]
    return [resolved(name, values[position], road, reads_stored) for name, values in run_set.columns]


def rows_pickled(rows: Sequence[Sequence[Any]]) -> tuple[bytes, list[ClusterResult[Any]]]:
    """Returns the rows of a block pickled, and the large values among them. Raises what pickling raises."""
    if all(PLAIN.issuperset(map(type, row)) for row in rows):
        return pickle.dumps(rows, protocol=5), []
    return pickled(rows)


def blame_row(run_set: RunSet, row: Sequence[Any], error: Exception) -> Exception:
    """Returns the error that says which parameter of a row cannot be sent, and why."""
    return _blame(dict(zip([name for name, _ in run_set.columns], row, strict=True)), error)


def _blame(parameters: Mapping[str, Any], error: Exception) -> Exception:
    for name, value in parameters.items():
        try:
            pickled(value)
        except Exception as reason:  # user code runs while it is pickled
            return unpicklable(value, f"parameter {name!r}", reason)
    return unpicklable(dict(parameters), "call", error)


def resolved(name: str, value: Any, road: Road, reads_stored: bool) -> Any:
    """Returns a parameter with its handles replaced by what a worker makes their values of, or by the stored values.

    Raises:
        UpstreamTaskError: An upstream did not complete.
        CoreEngineError: The parameter cannot be searched; the message names it.
    """
    if type(value) in ATOMS:
        return value
    try:
        return resolve(value, HANDLES, partial(_travelling_as_value if reads_stored else _travelling, road))
    except (UpstreamTaskError, MissingResult):
        raise
    except Exception as error:
        raise unsearchable(name, value, error) from error


def _travelling_as_value(road: Road, handle: Any, annotations: frozenset[type]) -> Any:
    found = _travelling(road, handle, annotations)
    return found.record.read() if type(found) is _Stored else found


def _travelling(road: Road, handle: Any, annotations: frozenset[type]) -> Any:
    state = checked_state(handle, annotations)
    if state._type is FAILED:
        return get_state_exception(state)
    data = state._data
    if type(data) is InlineResult:
        return _Ready(data.content)
    if type(data) is ClusterResult and data.is_on(road) and not data.has_cached_object():
        return _OnCluster(data)
    if type(data) is PersistedResult and not data.has_cached_object():
        return _Stored(data)
    return stored_value(state)
