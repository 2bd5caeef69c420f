"""What becomes of a worker's records in the flow's process: states, lines of logs, cache entries.

A state is taken only if its run has no outcome, its execution is the present one and it follows the state that the run
is in (I2, I9): of two that end a run the one that is recorded first stands, the other is dropped.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from core_engine import ids
from core_engine.backend.entries import CacheStored
from core_engine.engine.proposals import record_task
from core_engine.logging.records import LogEntry
from core_engine.remote.reports import Record, Transition
from core_engine.remote.values import data_from_tuple
from core_engine.schemas.states import (
    CANCELLING,
    COMPLETED,
    DETAILS_TIMES,
    FINAL_TYPES,
    RUNNING,
    State,
    StateDetails,
    StateType,
    make_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_engine.engine.active import ActiveTaskRun
    from core_engine.engine.run_sets import RunSet

_logger = logging.getLogger("core_engine.remote")


def take_transition(
    run_set: RunSet, change: Transition, worker: str, clock_offset: float, keep: Callable[[str, int, str], Any]
) -> ActiveTaskRun | None:
    """Records a state that a worker decided.

    Parameters:
        run_set, change: The run and its new state.
        worker: Who reports it.
        clock_offset: Seconds by which the worker's clock is ahead of ours.
        keep: Makes the record of a value that stays on the cluster.

    Returns:
        The run as it stands then, None if the state was not taken.
    """
    position = change.position
    with run_set.flow_run.decisions:
        ended = run_set.states[position]
        if ended is not None:
            _tell_of_drop(run_set, ended, change)
            return None
        run = run_set.activate(position)
        if not _follows(run, change):
            _tell_of_drop(run_set, run.state, change)
            return None
        state = make_state(
            StateType(change.type),
            change.time - clock_offset,
            None,
            0,
            0,
            change.name,
            change.message,
            data_from_tuple(change.data, keep),
            None if change.details is None else _details(change.details, clock_offset),
        )
        run.worker = worker
        record_task(run, state, change.flow_run_count)
        # The execution that it might open is open.
        run.reopens = False
    if run.holds_slots and state._type is not RUNNING and state._type is not CANCELLING:
        run_set.flow_run.client.release_slots(run)
    return run


def _tell_of_drop(run_set: RunSet, state: State, change: Transition) -> None:
    group, index = run_set.summary.origin(change.position)
    _logger.debug("Dropped a state of %s that does not follow %s: %r", group.run_name(index), state, change)


def _follows(run: ActiveTaskRun, change: Transition) -> bool:
    state = run.state
    if change.ordinal != state._ordinal + 1:
        return False
    if state._type in FINAL_TYPES:
        return run.reopens and change.execution == run.execution + 1
    return change.execution == run.execution


def _details(values: dict[str, Any], clock_offset: float) -> StateDetails:
    details = StateDetails.from_dict(values)
    if not clock_offset:
        return details
    ahead = timedelta(seconds=clock_offset)
    times = {name: getattr(details, name) for name in DETAILS_TIMES}
    return replace(details, **{name: time - ahead for name, time in times.items() if time is not None})


def take_cache(run_set: RunSet, position: int, key: str, expires: float | None, clock_offset: float) -> None:
    """Records that a run's state may serve others, until a moment by the worker's clock."""
    run = run_set.active.get(position)
    # It may have been cancelled here, in which case its completion was not taken.
    if run is not None and run.state._type is COMPLETED:
        expires = None if expires is None else expires - clock_offset
        run.state._position = run_set.flow_run.client.journal.append(CacheStored(key, expires, run.state))


def take_name(run_set: RunSet, position: int, name: str) -> None:
    """Records the name that a run was given on the worker."""
    if run_set.states[position] is None:
        run = run_set.activate(position)
        run.name = run_set.names[position] = name
        run_set.flow_run.client.rename_task_run(run)


def take_log(run_set: RunSet, record: Record, worker: str, clock_offset: float, to_console: bool) -> None:
    """Stores a line that a worker logged, and shows it if its level is shown here (D28).

    Parameters:
        run_set: Whose block the line came with.
        record: The line, as it travels.
        worker, clock_offset: As for ``take_transition``.
        to_console: False for workers inside this process, whose lines have been shown.
    """
    _, flow_run_id, task_run_id, name, level, timestamp, message = record
    entry = LogEntry(
        UUID(bytes=flow_run_id),
        None if task_run_id is None else UUID(bytes=task_run_id),
        name,
        level,
        timestamp - clock_offset,
        message,
        worker,
    )
    run_set.flow_run.client.log_sink.append_log(entry)
    logger = logging.getLogger(name)
    if to_console and logger.isEnabledFor(level):
        logger.handle(_console_record(run_set, entry))


def _console_record(run_set: RunSet, entry: LogEntry) -> logging.LogRecord:
    flow_run = run_set.flow_run.record
    fields = {
        "name": entry.name,
        "levelno": entry.level,
        "levelname": logging.getLevelName(entry.level),
        "msg": entry.message,
        "args": (),
        "created": entry.timestamp,
        "msecs": entry.timestamp % 1 * 1000,
        "send_to_api": False,
        "worker": entry.worker,
        "flow_run_id": str(entry.flow_run_id),
        "flow_run_name": flow_run.name,
        "flow_name": flow_run.flow_name,
    }
    if entry.task_run_id is not None:
        fields |= {
            "task_run_id": str(entry.task_run_id),
            "task_run_name": _run_name(run_set, entry.task_run_id),
            "task_name": run_set.group.task_name,
        }
    return logging.makeLogRecord(fields)


def _run_name(run_set: RunSet, task_run_id: UUID) -> str:
    number = task_run_id.int
    for run in list(run_set.active.values()):
        if ids.run_number(run.group.prefix, run.index) == number:
            return run.run_name
    index = (number >> ids.ORDINAL_BITS) & (ids.MAX_GROUP_SIZE - 1)
    return run_set.group.run_name(index)


def clock_offset_between(before: float, theirs: float, after: float) -> float:
    """Returns by how many seconds another clock is ahead of ours; 0.0 if that cannot be told from the delay.

    Parameters:
        before, after: Our clock when the other was asked, and when the answer came.
        theirs: What it said.
    """
    offset = theirs - (before + after) / 2
    return offset if abs(offset) > after - before else 0.0
