"""Reading task runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

from core_engine import ids
from core_engine.backend.encoding import (
    PENDING_CODE,
    TYPE_CODES,
    TYPES,
    prefix_from_bytes,
    read_data,
    read_details,
    read_inputs,
    to_datetime,
)
from core_engine.backend.entries import DIGEST_BYTES
from core_engine.backend.flow_reads import flow_key
from core_engine.backend.groups import StoredGroup, children, find_group, find_group_of_call, read_groups
from core_engine.backend.store import Order, TaskRunCount, TaskRunTime
from core_engine.schemas.records import TaskRun, TaskRunGroup
from core_engine.schemas.states import DEFAULT_NAMES, PENDING, State, StateType, make_state

STATE_COLUMNS = (
    "ordinal, state_type, state_name, state_message, coalesce(state_time, end_time), state_data, state_details"
)
_RUN_COLUMNS = f"{STATE_COLUMNS}, run_count, flow_run_count, start_time, end_time, total_run_time, worker, execution"


def read_task_run(db: sqlite3.Connection, id: UUID) -> TaskRun | None:
    """See ``Store.read_task_run``."""
    prefix, index, ordinal = ids.split_id(id)
    group = find_group(db, prefix)
    if group is None or ordinal or index >= group.count:
        return None
    return _read_child(db, group, index)


def find_task_run(db: sqlite3.Connection, flow_run_id: UUID, task_key: str, dynamic_index: int) -> TaskRun | None:
    """See ``Store.find_task_run``."""
    key = flow_key(db, flow_run_id)
    group = None if key is None else find_group_of_call(db, key, flow_run_id, task_key, dynamic_index)
    return None if group is None else _read_child(db, group, dynamic_index - group.first_index)


def read_input_digests(db: sqlite3.Connection, flow_run_id: UUID) -> dict[tuple[UUID, int], bytes]:
    """See ``Store.read_input_digests``."""
    rows = db.execute(
        "SELECT prefix, first_idx, input_digest.execution, digests FROM flow_run "
        "JOIN task_run_group ON task_run_group.flow_key = flow_run.key "
        "JOIN input_digest ON input_digest.group_key = task_run_group.key "
        "WHERE flow_run.id = ? ORDER BY input_digest.seq",
        (flow_run_id.bytes,),
    )
    found: dict[tuple[UUID, int], bytes] = {}
    for stored_prefix, first, execution, digests in rows:
        prefix = prefix_from_bytes(stored_prefix)
        for place, digest in enumerate(split_digests(digests)):
            # What was recorded later counts: with that the execution began.
            found[ids.run_id(prefix, first + place), execution] = digest
    return found


def split_digests(digests: bytes) -> Iterator[bytes]:
    """Yields the digests that stand one after the other."""
    for start in range(0, len(digests), DIGEST_BYTES):
        yield digests[start : start + DIGEST_BYTES]


def _read_child(db: sqlite3.Connection, group: StoredGroup, index: int) -> TaskRun:
    row = db.execute(
        f"SELECT {_RUN_COLUMNS} FROM task_run WHERE group_key = ? AND idx = ?", (group.key, index)
    ).fetchone()
    return _task_run(group, index, row, _Extras(db).of(group, index))


def read_task_groups(db: sqlite3.Connection, flow_run_id: UUID) -> list[TaskRunGroup]:
    """See ``Store.read_task_groups``."""
    key = flow_key(db, flow_run_id)
    return [] if key is None else list(read_groups(db, key, flow_run_id))


def read_task_runs(
    db: sqlite3.Connection,
    flow_run_id: UUID,
    *,
    task_name: str | None,
    state_types: Collection[StateType] | None,
    state_names: Collection[str] | None,
    order: Order,
    limit: int | None,
    offset: int,
) -> list[TaskRun]:
    """See ``Store.read_task_runs``."""
    key = flow_key(db, flow_run_id)
    if key is None:
        return []
    groups = read_groups(db, key, flow_run_id, task_name)
    wanted = _Wanted(state_types, state_names)
    if wanted.everything:
        found = children(db, groups, _RUN_COLUMNS, order=order, skip=offset)
        offset = 0
    elif wanted.never_started:
        found = (child for child in children(db, groups, _RUN_COLUMNS, order=order) if wanted.has(child[2]))
    else:
        found = children(db, groups, _RUN_COLUMNS, order=order, where=wanted.sql, values=wanted.values, fill=False)
    extras = _Extras(db)
    stop = None if limit is None else offset + limit
    return [_task_run(group, index, row, extras.of(group, index)) for group, index, row in islice(found, offset, stop)]


class _Wanted:
    """A filter by state, as a condition on rows and as a question about children without one."""

    def __init__(self, state_types: Collection[StateType] | None, state_names: Collection[str] | None) -> None:
        self._types = None if state_types is None else {StateType(type) for type in state_types}
        self._names = None if state_names is None else set(state_names)
        self.everything = self._types is None and self._names is None
        self.never_started = self._takes(PENDING, DEFAULT_NAMES[PENDING])
        self.sql = ""
        self.values: list[Any] = []
        if self._types is not None:
            self.sql += f" AND state_type IN ({', '.join(str(TYPE_CODES[type]) for type in self._types)})"
        if self._names is not None:
            # A name that the type says by itself stands as NULL.
            plain = [str(code) for code, type in enumerate(TYPES) if DEFAULT_NAMES[type] in self._names]
            marks = ", ".join("?" * len(self._names))
            self.sql += f" AND (state_name IN ({marks}) OR (state_name IS NULL AND state_type IN ({', '.join(plain)})))"
            self.values += self._names

    def has(self, row: Sequence[Any] | None) -> bool:
        """Returns whether a child with this row (None: without one) is wanted."""
        if row is None:
            return self.never_started
        type = TYPES[row[1]]
        return self._takes(type, row[2] or DEFAULT_NAMES[type])

    def _takes(self, type: StateType, name: str) -> bool:
        return (self._types is None or type in self._types) and (self._names is None or name in self._names)


class _Extras:
    """What some task runs have beside what their group says. Groups of which none has any are asked about once."""

    _NONE: tuple[None, None, None] = (None, None, None)

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._last: tuple[int | None, bool] = (None, False)

    def of(self, group: TaskRunGroup, index: int) -> tuple[Any, Any, Any]:
        """Returns (name, task_inputs, child_flow_run_id), each None where nothing was said."""
        if self._last[0] != group.key:
            query = "SELECT EXISTS (SELECT 1 FROM task_run_extra WHERE group_key = ?)"
            self._last = (group.key, bool(self._db.execute(query, (group.key,)).fetchone()[0]))
        if not self._last[1]:
            return self._NONE
        query = "SELECT name, task_inputs, child_flow_run_id FROM task_run_extra WHERE group_key = ? AND idx = ?"
        return self._db.execute(query, (group.key, index)).fetchone() or self._NONE


def _task_run(group: StoredGroup, index: int, row: Sequence[Any] | None, extra: tuple[Any, Any, Any]) -> TaskRun:
    name, own_inputs, child = extra
    number = group.first_index + index
    run = TaskRun(
        id=group.run_id(index),
        name=name or group.run_name(index),
        flow_run_id=group.flow_run_id,
        task_key=group.task_key,
        task_name=group.task_name,
        dynamic_key=str(number),
        task_version=group.task_version,
        tags=set(group.tags),
        task_inputs={**group.task_inputs, **read_inputs(own_inputs)},
        policy=group.policy,
        created=to_datetime(group.created),
        child_flow_run_id=None if child is None else UUID(bytes=child),
        is_subflow=group.kind == "subflow",
    )
    if row is None:
        run.state = group.first_state(index)
        run.expected_start_time = run.created
        return run
    state = task_state(group, index, row)
    details = state._details
    run.state = state
    run.run_count, run.flow_run_run_count = row[7], row[8]
    run.start_time, run.end_time = to_datetime(row[9]), to_datetime(row[10])
    run.total_run_time, run.worker, run.execution = row[11], row[12], row[13]
    run.expected_start_time = (details and details.scheduled_time) or run.created
    if details is not None:
        run.cache_key, run.cache_expiration = details.cache_key, details.cache_expiration
    return run


def task_state(group: TaskRunGroup, index: int, columns: Sequence[Any]) -> State:
    """Makes the state of a task run from the columns ``STATE_COLUMNS``."""
    ordinal, type, name, message, time, data, details = columns[:7]
    return make_state(TYPES[type], time, group, index, ordinal, name, message, read_data(data), read_details(details))


def count_task_runs(db: sqlite3.Connection, flow_run_id: UUID) -> list[TaskRunCount]:
    """See ``Store.count_task_runs``."""
    key = flow_key(db, flow_run_id)
    if key is None:
        return []
    totals = db.execute(
        "SELECT task.name, sum(count), min(task_run_group.key) FROM task_run_group JOIN task ON task.key = task "
        "WHERE task_run_group.flow_key = ? GROUP BY task.name ORDER BY 3",
        (key,),
    ).fetchall()
    counted: dict[str, dict[tuple[int, str | None], int]] = {name: {} for name, _, _ in totals}
    rows = db.execute(
        "SELECT task.name, state_type, state_name, count(*) FROM task_run_group JOIN task ON task.key = task "
        "CROSS JOIN task_run ON group_key = task_run_group.key "
        "WHERE task_run_group.flow_key = ? GROUP BY task.name, state_type, state_name",
        (key,),
    )
    for task_name, type, name, count in rows:
        counted[task_name][type, name] = count
    for task_name, total, _ in totals:
        states = counted[task_name]
        # Children without a row are those that the groups have and the rows have not.
        missing = total - sum(states.values())
        if missing:
            states[PENDING_CODE, None] = states.get((PENDING_CODE, None), 0) + missing
    return [
        TaskRunCount(task_name, TYPES[type], name or DEFAULT_NAMES[TYPES[type]], count)
        for task_name, states in counted.items()
        for (type, name), count in sorted(states.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    ]


def task_run_times(db: sqlite3.Connection, flow_run_id: UUID) -> Iterator[TaskRunTime]:
    """See ``Store.task_run_times``."""
    key = flow_key(db, flow_run_id)
    if key is None:
        return
    groups = read_groups(db, key, flow_run_id)
    names = _given_names(db, key)
    default_names = [DEFAULT_NAMES[type] for type in TYPES]
    columns = "state_type, state_name, worker, start_time, end_time"
    for group, index, row in children(db, groups, columns):
        name = names.get((group.key, index)) if names else None
        number = group.first_index + index
        if row is None:
            yield TaskRunTime(
                group.task_name, number, name, None, PENDING, default_names[PENDING_CODE], group.created, None, None
            )
            continue
        type, state_name, worker, start, end = row
        yield TaskRunTime(
            group.task_name,
            number,
            name,
            worker,
            TYPES[type],
            state_name or default_names[type],
            group.created,
            start,
            end,
        )


def _given_names(db: sqlite3.Connection, key: int) -> dict[tuple[int | None, int], str]:
    rows = db.execute(
        "SELECT group_key, idx, task_run_extra.name FROM task_run_group CROSS JOIN task_run_extra "
        "ON group_key = task_run_group.key WHERE flow_key = ? AND task_run_extra.name IS NOT NULL",
        (key,),
    )
    return {(group_key, index): name for group_key, index, name in rows}
