"""Maps: one run for each position of the iterable parameters, recorded as one thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core_engine.annotations import BaseAnnotation, allow_failure, quote, rewrap_like, unmapped, unwrap_all
from core_engine.context import FlowRunContext
from core_engine.engine.dispatch import ended_unless_sent
from core_engine.engine.inputs import (
    HANDLES,
    futures_ended,
    inputs_by_parameter,
    resolve_inputs,
    task_run_inputs,
    unsettled_futures,
)
from core_engine.engine.task_calls import create_run_set, create_task_run_then_submit, materialised, preflight
from core_engine.exceptions import MappingLengthMismatch, MappingMissingIterable
from core_engine.futures import TaskFuture
from core_engine.utilities.collections import isiterable

if TYPE_CHECKING:
    from core_engine.engine.run_sets import RunSet
    from core_engine.task_runners import BaseTaskRunner
    from core_engine.tasks import Task


async def begin_task_map(
    task: Task[..., Any],
    flow_run_context: FlowRunContext,
    parameters: dict[str, Any],
    wait_for: Sequence[Any] | None,
    return_type: str,
    task_runner: BaseTaskRunner | None,
) -> list[Any]:
    """Makes and dispatches the runs of a map; parameters as `enter_task_run_engine`.

    Raises:
        MappingMissingIterable: No parameter is iterable.
        MappingLengthMismatch: The iterables have different lengths.
        UpstreamTaskError: A parameter is a future whose run did not complete.
    """
    parameters = {name: materialised(name, value) for name, value in task.signature.explode(parameters).items()}
    inputs = _collect_inputs(parameters, wait_for)
    opened = {name: await _open(name, value) for name, value in parameters.items()}
    shared, columns, count = _split(task, opened)
    if count:
        first = {name: values[0] for name, values in columns.items()}
        preflight(task, flow_run_context, {**shared, **first}, task_runner)
    run_set = create_run_set(
        task,
        flow_run_context,
        shared=shared,
        columns=columns,
        count=count,
        wait_for=wait_for,
        task_inputs=_shared_inputs(inputs, parameters, columns),
        is_map=True,
    )
    _collect_variadics(task, run_set)
    if count == 0:
        run_set.flow_run.ended(run_set)
        return []
    with ended_unless_sent(run_set):
        _record_own_inputs(run_set, parameters)
    await create_task_run_then_submit(run_set, flow_run_context, task_runner)
    futures = run_set.futures()
    if return_type == "future":
        return futures
    states = [await future._arrive() for future in futures]
    if return_type == "state":
        return states
    return [future._value(future._in_time(state, None), True) for future, state in zip(futures, states, strict=True)]


def _collect_inputs(parameters: Mapping[str, Any], wait_for: Sequence[Any] | None) -> dict[str, Any]:
    """Upstream runs of each whole parameter: of a future that will be opened, and of values that all runs share."""
    handles = {name: value for name, value in parameters.items() if _is_shared_or_future(value)}
    return inputs_by_parameter(handles, wait_for)


def _is_shared_or_future(value: Any) -> bool:
    bare, annotations = unwrap_all(value)
    return unmapped in annotations or isinstance(bare, HANDLES) or not isiterable(bare)


async def _open(name: str, value: Any) -> Any:
    """Resolves a future or state at the top of a parameter, so that its length is known; nested ones stay."""
    bare, annotations = unwrap_all(value)
    if not isinstance(bare, HANDLES) or unmapped in annotations or quote in annotations or allow_failure in annotations:
        return value
    await futures_ended(unsettled_futures([bare]))
    opened = (await resolve_inputs({"value": bare}))["value"]
    return rewrap_like(value, materialised(name, opened))


def _split(task: Task[..., Any], parameters: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Sequence[Any]], int]:
    """Tells parameters that all runs share from columns; returns both and how many runs there are."""
    shared: dict[str, Any] = {}
    columns: dict[str, Sequence[Any]] = {}
    for name, value in parameters.items():
        bare, annotations = unwrap_all(value)
        if unmapped in annotations or isinstance(bare, HANDLES) or not isiterable(bare):
            shared[name] = rewrap_like(value, bare, leave_out=(unmapped,))
        else:
            columns[name] = _column(value, bare)
    if not columns:
        shown = ", ".join(f"{name}: {type(value).__name__}" for name, value in parameters.items()) or "no arguments"
        raise MappingMissingIterable(
            f"map needs at least one iterable argument; task {task.name!r} was given none ({shown}). "
            "Give a list, or use submit for a single run."
        )
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise MappingLengthMismatch.from_lengths(lengths)
    for name, default in task.signature.defaults.items():
        if name not in columns:
            shared.setdefault(name, default)
    return shared, columns, next(iter(lengths.values()))


def _column(value: Any, bare: Any) -> Sequence[Any]:
    values: Sequence[Any] = bare if isinstance(bare, (list, tuple, range)) else list(bare)
    if isinstance(value, BaseAnnotation):
        return [rewrap_like(value, element) for element in values]
    # A list that the caller changes later must not change the runs' inputs.
    return list(values) if isinstance(values, list) else values


def _shared_inputs(
    inputs: dict[str, Any], parameters: Mapping[str, Any], columns: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    """Upstream runs that are the same for all runs; a column's whole value counts for each."""
    shared = {name: inputs.get(name) or task_run_inputs(_Whole.of(value)) for name, value in parameters.items()}
    if "wait_for" in inputs:
        shared["wait_for"] = inputs["wait_for"]
    return shared


class _Whole:
    """Looks a collection up in the lineage by its own identity, without its members."""

    @staticmethod
    def of(value: Any) -> Any:
        from core_engine.engine.inputs import get_state_for_result

        bare, annotations = unwrap_all(value)
        return None if quote in annotations or isinstance(bare, HANDLES) else get_state_for_result(bare)


def _record_own_inputs(run_set: RunSet, parameters: Mapping[str, Any]) -> None:
    """Records the upstream runs that only one run of the map has: those inside its own elements."""
    from core_engine.backend.entries import TaskRunUpdated

    lineage = run_set.flow_run.lineage
    if not run_set.has_handles and not lineage.links:
        return
    for index in range(run_set.count):
        own = {name: found for name, values in run_set.columns if (found := task_run_inputs(values[index]))}
        if not own:
            continue
        merged = {
            name: list(dict.fromkeys([*run_set.group.task_inputs.get(name, ()), *found])) for name, found in own.items()
        }
        group, position = run_set.summary.origin(index)
        run_set.own_inputs[index] = merged
        run_set.flow_run.client.journal.append(TaskRunUpdated(group, position, {"task_inputs": merged}))


def _collect_variadics(task: Task[..., Any], run_set: RunSet) -> None:
    """Remembers which names are entries of ``**kwargs``, to be put back for each call."""
    if task.signature.var_keyword is not None:
        run_set.collapses = True


__all__ = ["TaskFuture", "begin_task_map"]
