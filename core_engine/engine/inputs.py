"""Inputs: which runs a value depends on, and what stands in a handle's place when a function is called."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from core_engine.annotations import BaseAnnotation, allow_failure
from core_engine.context import FlowRunContext
from core_engine.exceptions import CoreEngineError, MissingResult, UpstreamTaskError
from core_engine.futures import TaskFuture
from core_engine.lineage import link_handed_over
from core_engine.option_checks import shown
from core_engine.schemas.records import TaskRunResult
from core_engine.schemas.states import COMPLETED, FAILED, State
from core_engine.states import get_state_exception, stored_value
from core_engine.utilities.handles import ATOMS, find_all, may_contain, resolve

HANDLES = (TaskFuture, State)
# What puts something in a handle's place, given the types of the annotations around it.
Replace = Callable[[Any, frozenset[type]], Any]
# The inputs of most parameters, shared because a flow run keeps those of each of its task runs. Never changed: records
# that users get hold copies.
_NO_RUNS: list[TaskRunResult] = []
HANDLES_AND_ANNOTATIONS = (TaskFuture, State, BaseAnnotation)


def holds_handles(value: Any) -> bool:
    """Returns whether a value must be resolved before a function gets it."""
    return type(value) not in ATOMS and may_contain(value, HANDLES_AND_ANNOTATIONS)


def handles_in(values: Iterable[Any]) -> Iterator[Any]:
    """Yields the futures and states in `values`, at any depth, quotes left out."""
    for value in values:
        if type(value) not in ATOMS:
            for found in find_all(value, HANDLES):
                yield found.handle


def _handles_within(expr: Any, max_depth: int) -> Iterator[Any]:
    """Yields the futures and states in `expr` down to a depth: 0 is `expr` itself; negative: at any depth."""
    if max_depth < 0:
        yield from handles_in((expr,))
    else:
        yield from (value for value in _values_in(expr, max_depth) if isinstance(value, HANDLES))


def task_run_id_of(handle: Any) -> UUID | None:
    """Returns the task run behind a future or state; None for a state that belongs to none."""
    if isinstance(handle, TaskFuture):
        return handle.task_run_id
    return handle.state_details.task_run_id if isinstance(handle, State) else None


def task_run_inputs(expr: Any, max_depth: int = -1) -> list[TaskRunResult]:
    """Returns the task runs that `expr` depends on, each once, in the order in which they are found.

    Handles are found, and bare values by what the flow run's lineage knows of them and of the members of a collection,
    as deep as `max_depth` says: 0 is `expr` itself; negative: at any depth.
    """
    kind = type(expr)
    context = FlowRunContext.get()
    lineage = None if context is None or context.run is None else context.run.lineage
    if kind in ATOMS and (lineage is None or not lineage.links):
        return _NO_RUNS
    found: dict[UUID, None] = {}
    for handle in _handles_within(expr, max_depth):
        id = task_run_id_of(handle)
        if id is not None:
            found[id] = None
    if lineage is not None and lineage.links:
        for value in _values_in(expr, max_depth):
            state = None if isinstance(value, HANDLES) else lineage.find(value)
            id = None if state is None else state.state_details.task_run_id
            if id is not None:
                found[id] = None
    return [TaskRunResult(id) for id in found] if found else _NO_RUNS


def _values_in(expr: Any, max_depth: int) -> Iterator[Any]:
    """Yields `expr` and what it holds; neither a quote nor a handle is looked into, and no iterator consumed."""
    from core_engine.annotations import quote
    from core_engine.utilities.collections import StopVisiting, visit_collection

    gathered: list[Any] = []

    def visit(value: Any) -> Any:
        if isinstance(value, quote):
            raise StopVisiting
        gathered.append(value)
        if isinstance(value, (*HANDLES, Iterator)):
            raise StopVisiting
        return value

    visit_collection(expr, visit, return_data=False, max_depth=max_depth)
    return iter(gathered)


async def collect_task_run_inputs(expr: Any, max_depth: int = -1) -> set[TaskRunResult]:
    """Returns the set of task runs that `expr` depends on: futures, states, and values that came from a run.

    Parameters:
        expr: Any value; what a ``quote`` holds is not searched.
        max_depth: How deep it is searched: 0 is `expr` itself; negative: at any depth.
    """
    return set(task_run_inputs(expr, max_depth))


def listed_upstreams(wait_for: Any) -> list[Any] | None:
    """Returns what was given as ``wait_for`` as a list; None stays None.

    Raises:
        TypeError: It is neither a future or state nor a collection of what holds them.
    """
    if wait_for is None:
        return None
    if isinstance(wait_for, HANDLES):
        return [wait_for]
    if isinstance(wait_for, str | bytes) or not isinstance(wait_for, Iterable):
        raise TypeError(f"wait_for takes a list of futures or states, not {shown(wait_for)}.")
    return list(wait_for)


def inputs_by_parameter(
    parameters: Mapping[str, Any], wait_for: Sequence[Any] | None
) -> dict[str, list[TaskRunResult]]:
    """Returns the upstream runs of each parameter, and of ``wait_for`` if given.

    Raises:
        CoreEngineError: A parameter cannot be searched.
    """
    inputs: dict[str, list[TaskRunResult]] = {}
    for name, value in parameters.items():
        try:
            inputs[name] = task_run_inputs(value)
        except Exception as error:
            raise unsearchable(name, value, error) from error
    if wait_for is not None:
        inputs["wait_for"] = task_run_inputs(list(wait_for))
    return inputs


def unsearchable(name: str, value: Any, error: Exception) -> CoreEngineError:
    """Returns the error for a parameter that could not be walked, which `error` says why."""
    return CoreEngineError(
        f"The parameter {name!r} ({type(value).__name__}) could not be searched for futures and states: {error}. "
        f"If it holds none, pass quote({name})."
    )


def link_state_to_result(state: State, result: Any) -> None:
    """Remembers, for the current flow run, that `result` and its members came from the run of `state`."""
    link_handed_over(state, result)


def get_state_for_result(obj: Any) -> State | None:
    """Returns the state, without data, of the run that `obj` came from; None when unknown, or outside a flow run."""
    context = FlowRunContext.get()
    return None if context is None or context.run is None else context.run.lineage.find(obj)


# Resolving ------------------------------------------------------------------------------------------------------------


def unsettled_futures(values: Iterable[Any]) -> list[TaskFuture[Any]]:
    """Returns the futures in `values` whose runs have not ended."""
    return [
        handle
        for handle in handles_in(values)
        if isinstance(handle, TaskFuture) and handle._run_set.states[handle._index] is None
    ]


async def futures_ended(futures: Sequence[TaskFuture[Any]]) -> None:
    """Waits until the runs of all `futures` have ended (not: until that is durable)."""
    for future in futures:
        if future._run_set.states[future._index] is None:
            await future._run_set.ended(future._index)


def when_ended(futures: Sequence[TaskFuture[Any]], callback: Any) -> None:
    """Calls `callback` once, in whatever thread, when the runs of all `futures` have ended."""
    counter = _Countdown(len(futures), callback)
    for future in futures:
        future._run_set.add_callback(future._index, counter.down)


class _Countdown:
    """Calls back when it has been counted down to zero. The lock keeps two threads from counting the same step."""

    __slots__ = ("_callback", "_left", "_lock")

    def __init__(self, count: int, callback: Any) -> None:
        self._left = count
        self._callback = callback
        self._lock = threading.Lock()

    def down(self) -> None:
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._callback()


async def resolve_inputs(
    parameters: Mapping[str, Any], return_data: bool = True, max_depth: int = -1
) -> dict[str, Any]:
    """Returns the parameters with futures and states, at any depth, replaced by their values.

    Parameters:
        parameters: By name; what a ``quote`` holds is handed over as it is.
        return_data: False only waits and checks.
        max_depth: How deep handles are replaced: 1 only those that are a parameter's value; negative: at any depth.

    Raises:
        UpstreamTaskError: An upstream did not complete (unless it failed under ``allow_failure``).
        CoreEngineError: A parameter cannot be searched; the message names it.
    """
    replace: Replace = _value_of if return_data else checked_state
    if max_depth < 0:
        await futures_ended(unsettled_futures(parameters.values()))
    else:
        reached = list(_handles_within(dict(parameters), max_depth))
        await futures_ended([handle for handle in reached if isinstance(handle, TaskFuture)])
        replace = _replacing_only(reached, replace)
    resolved: dict[str, Any] = {}
    for name, value in parameters.items():
        if type(value) in ATOMS:
            resolved[name] = value
            continue
        try:
            resolved[name] = resolve(value, HANDLES, replace)
        except (UpstreamTaskError, MissingResult):
            raise
        except Exception as error:
            raise unsearchable(name, value, error) from error
    return resolved


def _replacing_only(reached: Sequence[Any], replace: Replace) -> Replace:
    """Returns `replace` for handles that were reached, and what leaves others as they are."""
    ids = {id(handle) for handle in reached}
    return lambda handle, annotations: replace(handle, annotations) if id(handle) in ids else handle


def final_state_of(handle: Any) -> State:
    """Returns the final state of an upstream that has ended: of a future, or the state itself."""
    if isinstance(handle, State):
        return handle
    state: State | None = handle._run_set.states[handle._index]
    assert state is not None
    return state


def checked_state(handle: Any, annotations: frozenset[type]) -> State:
    """Returns the final state of an upstream whose value may be used.

    Raises:
        UpstreamTaskError: It did not complete (unless it failed under ``allow_failure``).
    """
    state = final_state_of(handle)
    if state._type is COMPLETED or (state._type is FAILED and allow_failure in annotations):
        return state
    id = state.state_details.task_run_id
    raise UpstreamTaskError(f"Upstream task run {str(id)!r} did not reach a COMPLETED state; it is {state._name}.")


def _value_of(handle: Any, annotations: frozenset[type]) -> Any:
    state = checked_state(handle, annotations)
    return get_state_exception(state) if state._type is FAILED else stored_value(state)
