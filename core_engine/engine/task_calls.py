"""Calls of tasks: from ``task(...)``, ``submit`` and ``map`` to a run set that is dispatched."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, cycle, islice, repeat
from operator import length_hint
from typing import TYPE_CHECKING, Any

from core_engine import clock, ids
from core_engine.backend.entries import TaskRunsCreated
from core_engine.concurrency.waiting import step
from core_engine.context import FlowRunContext, TagsContext, TaskRunContext
from core_engine.engine.active import HAS_ENDED
from core_engine.engine.dispatch import dispatch, ended_unless_sent
from core_engine.engine.forks import is_inherited
from core_engine.engine.inputs import holds_handles, inputs_by_parameter, listed_upstreams
from core_engine.engine.overdue import FlowTimeIsOver, limit_exceeded
from core_engine.engine.run_sets import RunSet
from core_engine.exceptions import MissingContextError
from core_engine.futures import TaskFuture
from core_engine.schemas.records import TaskRunGroup
from core_engine.settings import get_settings_context
from core_engine.states import fetch_state_result
from core_engine.utilities.collections import isiterable

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveFlowRun
    from core_engine.task_runners import BaseTaskRunner
    from core_engine.tasks import Task

# How many values of an iterator map reads without a word, and how many at most.
MANY_READ = 1_000_000
MOST_READ = 10_000_000
# Asks for a run in the flow's process, whatever the flow's runner is (D18).
local_task_runner: Any = object()


def enter_task_run_engine(
    task: Task[..., Any],
    parameters: dict[str, Any],
    wait_for: Iterable[Any] | None,
    return_type: str,
    task_runner: BaseTaskRunner | None,
    mapped: bool,
) -> Any:
    """What a task's call, `submit` and `map` call.

    Parameters:
        task: The task.
        parameters: Bound to its signature; for a map without defaults.
        wait_for: Upstreams without data; None: none.
        return_type: "future", "state" or "result".
        task_runner: Where to run; None: on the flow's runner.
        mapped: Whether to make a run for each position of the iterable parameters.

    Returns:
        What `return_type` says, of each run if `mapped`; an awaitable of it if both task and flow are async.

    Raises:
        RuntimeError: Outside a flow run, or inside a task.
        TimeoutError: The flow run's time is over.
    """
    context = check_can_run_tasks(task, FlowRunContext.get(), TaskRunContext.get())
    wait_for = listed_upstreams(wait_for)
    begin: Any
    if mapped:
        from core_engine.engine.maps import begin_task_map

        begin = begin_task_map(task, context, parameters, wait_for, return_type, task_runner)
    else:
        begin = get_task_call_return_value(task, context, parameters, wait_for, return_type, task_runner)
    if task.isasync and context.flow.isasync:
        begin.__qualname__ = task.name  # what Python calls it when it warns that nobody awaited it
        return begin
    return step(begin)


def check_can_run_tasks(
    task: Task[..., Any], context: FlowRunContext | None, task_context: TaskRunContext | None
) -> FlowRunContext:
    """Returns the context of the flow run in which a task may run here.

    Raises:
        RuntimeError: Outside a flow run, inside a task, or in a forked process.
        TimeoutError: The flow run's time is over.
    """
    if is_inherited(context):
        raise RuntimeError(
            f"Task {task.name!r} was called in a process that was forked off inside a flow run. The tasks of that run "
            f"run only in the process of the flow. Call the plain function with {task.name}.fn(), or call a flow here."
        )
    if task_context is not None:
        raise RuntimeError(
            f"Task {task.name!r} was called inside a task, and tasks cannot run tasks. Make the outer one a flow "
            f"(a subflow), or call the plain function with {task.name}.fn()."
        )
    if context is None or context.run is None:
        raise RuntimeError(
            f"Task {task.name!r} was called outside a flow, and tasks run only inside one. "
            f"To call the plain function, write {task.name}.fn()."
        )
    _check_going_on(context.run)
    return context


def _check_going_on(flow_run: ActiveFlowRun) -> None:
    """Raises what ends the flow run, if it is being ended or has ended: no further task run starts."""
    if flow_run.stopping is not None:
        from core_engine.engine.cancellation import raise_stopping

        raise_stopping(flow_run)
    if not flow_run.takes_runs:
        raise RuntimeError(HAS_ENDED)
    if limit_exceeded(flow_run) is not None:
        raise FlowTimeIsOver("The flow run's time is over; it starts no further task runs.")


async def get_task_call_return_value(
    task: Task[..., Any],
    flow_run_context: FlowRunContext,
    parameters: dict[str, Any],
    wait_for: Sequence[Any] | None,
    return_type: str,
    task_runner: BaseTaskRunner | None,
    extra_task_inputs: Mapping[str, Any] | None = None,
) -> Any:
    """Makes the future of one run and returns it, or the run's state or result; see ``enter_task_run_engine``."""
    if return_type not in ("future", "state", "result"):
        raise ValueError(f"return_type must be 'future', 'state' or 'result', not {return_type!r}.")
    future = await create_task_run_future(
        task, flow_run_context, parameters, wait_for, task_runner, extra_task_inputs, waits=return_type != "future"
    )
    if return_type == "future":
        return future
    state = await future._arrive()
    if return_type == "state":
        return state
    assert state is not None
    return await fetch_state_result(state)


async def create_task_run_future(
    task: Task[..., Any],
    flow_run_context: FlowRunContext,
    parameters: dict[str, Any],
    wait_for: Sequence[Any] | None,
    task_runner: BaseTaskRunner | None,
    extra_task_inputs: Mapping[str, Any] | None = None,
    waits: bool = False,
) -> TaskFuture[Any]:
    """Makes a run of a task and its future, and sends the run on its way.

    Parameters as `enter_task_run_engine`; `extra_task_inputs` are upstream runs beside those in the parameters, and
    `waits` tells whether the caller waits for the run.
    """
    preflight(task, flow_run_context, parameters, task_runner)
    run_set = create_run_set(
        task,
        flow_run_context,
        shared=parameters,
        columns={},
        count=1,
        wait_for=wait_for,
        task_inputs={**inputs_by_parameter(parameters, wait_for), **(extra_task_inputs or {})},
        is_map=False,
    )
    (future,) = run_set.futures()
    await create_task_run_then_submit(run_set, flow_run_context, task_runner)
    return future


def preflight(
    task: Task[..., Any],
    context: FlowRunContext,
    parameters: Mapping[str, Any],
    task_runner: BaseTaskRunner | None,
) -> None:
    """Has the runner check a call, or the first run of a map, before anything is recorded.

    Raises:
        Exception: What the runner has against it.
    """
    assert context.run is not None
    session = context.run.session
    runner = session.runner if task_runner is None and session is not None else task_runner
    if runner is not None and runner is not local_task_runner and not runner.shares_memory:
        runner.preflight(task, parameters)


async def create_task_run_then_submit(
    run_set: RunSet, flow_run_context: FlowRunContext, task_runner: BaseTaskRunner | None
) -> None:
    """Sends a run set to a task runner; None: the flow's. A run that is final already (a re-run) keeps its state."""
    with ended_unless_sent(run_set):
        previous = run_set.flow_run.previous
        resumption = run_set.flow_run.resumption
        if previous is not None and not (resumption is not None and resumption.reuses):
            previous.settle_completed(run_set)
        session = run_set.flow_run.session
        assert session is not None
        if task_runner is None:
            runner = session.runner
        elif task_runner is local_task_runner:
            runner = await session.local_runner()
        else:
            runner = task_runner
        await dispatch(run_set, runner)


def create_run_set(
    task: Task[..., Any],
    context: FlowRunContext,
    *,
    shared: dict[str, Any],
    columns: Mapping[str, Sequence[Any]],
    count: int,
    wait_for: Sequence[Any] | None,
    task_inputs: Mapping[str, Any],
    is_map: bool,
    task_key: str | None = None,
) -> RunSet:
    """Makes the runs of one call, submit or map: reserves their keys, records them in one journal entry.

    `task_key` is the key under which the runs are counted; None: the task's.
    """
    from core_engine.results import ResultFactory

    flow_run = context.run
    assert flow_run is not None
    task_key = task_key or task.task_key
    group = TaskRunGroup(
        prefix=ids.new_prefix(),
        flow_run_id=flow_run.id,
        task_key=task_key,
        task_name=task.name,
        created=clock.now(),
        first_index=flow_run.reserve(task_key, count),
        count=count,
        is_map=is_map,
        task_version=task.version,
        tags=frozenset(task.tags | TagsContext.get().current_tags),
        policy=task.policy,
        task_inputs=task_inputs,
    )
    origins, new = None, [group]
    if flow_run.previous is not None:
        origins, new = flow_run.previous.origins(group)
    run_set = RunSet(
        flow_run,
        task,
        group,
        shared=shared,
        columns=columns,
        wait_for=wait_for,
        has_handles=_needs_resolving(shared, columns, wait_for),
        result_factory=ResultFactory.from_task(task),
        log_prints=context.log_prints if task.log_prints is None else task.log_prints,
        settings=get_settings_context(),
        asynchronous=task.isasync and context.flow.isasync,
        origins=origins,
    )
    run_set.in_caller = not context.flow.isasync
    for made in new:
        flow_run.client.journal.append(TaskRunsCreated(made))
    with ended_unless_sent(run_set):
        flow_run.opened(run_set)
        _log_created(run_set, logging.INFO if task_key == task.task_key else logging.DEBUG)
    return run_set


def _needs_resolving(
    shared: Mapping[str, Any], columns: Mapping[str, Sequence[Any]], wait_for: Sequence[Any] | None
) -> bool:
    if wait_for:
        return True
    return any(holds_handles(value) for value in shared.values()) or any(
        holds_handles(value) for values in columns.values() for value in values
    )


def _log_created(run_set: RunSet, level: int) -> None:
    """One line for all runs; chunks of a stream are told of at DEBUG."""
    from core_engine.logging import get_run_logger

    group = run_set.group
    with contextlib.suppress(MissingContextError):
        logger = get_run_logger()
        if group.count == 1:
            logger.log(level, "Created task run '%s' for task '%s'", group.run_name(0), group.task_name)
        elif group.count > 1:
            first, last = group.run_name(0), group.run_name(group.count - 1)
            logger.log(
                level, "Created %d task runs '%s' to '%s' for task '%s'", group.count, first, last, group.task_name
            )


def materialised(name: str, value: Any) -> Any:
    """Returns an iterator's values as a list, anything else (files and text too) as it is.

    Parameters:
        name: The parameter's name, for warning and error.
        value: What was given for it.

    Raises:
        ValueError: The iterator has no end, or none within ``MOST_READ`` values.
    """
    if not isinstance(value, Iterator) or not isiterable(value):
        return value
    if _is_endless(value):
        raise ValueError(
            f"The iterator given for {name!r} ({value!r}) has no end, and map needs all its values before the first "
            "run starts. Use task.stream, which reads as it goes."
        )
    values = list(islice(value, MANY_READ))
    if len(values) == MANY_READ:
        _read_on(name, values, value)
    return values


def _is_endless(iterator: Iterator[Any]) -> bool:
    if isinstance(iterator, repeat):
        # The length of one that has no end cannot be asked for.
        return not repr(iterator).endswith(f", {length_hint(iterator, -1)})")
    return isinstance(iterator, count | cycle)


def _read_on(name: str, values: list[Any], iterator: Iterator[Any]) -> None:
    from core_engine.logging import get_run_logger

    get_run_logger().warning(
        "%s values were read from the iterator given for %r, and map reads on: it needs all of them before the first "
        "run starts. task.stream reads as it goes.",
        f"{MANY_READ:,}",
        name,
    )
    values.extend(islice(iterator, MOST_READ - MANY_READ))
    if len(values) == MOST_READ and next(iterator, values) is not values:
        raise ValueError(
            f"The iterator given for {name!r} has more than {MOST_READ:,} values, and map needs all of them before the "
            "first run starts. Use task.stream, which reads as it goes, or give a list if so many runs are meant."
        )
