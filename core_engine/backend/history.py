"""The states that runs went through, and the events that these are (D5).

What the writer left out because it follows from the rest is put back here: ordinal 1, Pending since the group was
created, and ordinal 2, a plain Running since the run's start.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from core_engine import ids
from core_engine.backend.encoding import PENDING_CODE, RUNNING_CODE, TYPES, to_datetime
from core_engine.backend.flow_reads import flow_key, read_flow_states
from core_engine.backend.groups import StoredGroup, children, find_group, read_groups
from core_engine.backend.task_reads import STATE_COLUMNS, task_state
from core_engine.schemas.records import Event, TaskRunGroup
from core_engine.schemas.states import DEFAULT_NAMES, State

_PAST_COLUMNS = "seq, ordinal, type, name, message, time, data, details"
_ROW_COLUMNS = f"start_time, start_seq, seq, {STATE_COLUMNS}"


class _Step(NamedTuple):
    """One state of a task run: the commit that brought it, and the columns ``STATE_COLUMNS``."""

    seq: int
    columns: tuple[Any, ...]


def _steps(group: StoredGroup, row: tuple[Any, ...] | None, past: list[tuple[Any, ...]]) -> list[_Step]:
    """Returns every state of a child in order, from its row (None: it has none) and its rows in ``past_state``."""
    steps = {step[1]: _Step(step[0], step[1:]) for step in past}
    steps.setdefault(1, _Step(group.seq, (1, PENDING_CODE, None, None, group.created, None, None)))
    if row is not None:
        start_time, start_seq, seq, *columns = row
        ordinal = columns[0]
        if ordinal > 2 and 2 not in steps:
            started = seq if start_seq is None else start_seq
            steps[2] = _Step(started, (2, RUNNING_CODE, None, None, start_time, None, None))
        steps[ordinal] = _Step(seq, tuple(columns))
    return [steps[ordinal] for ordinal in sorted(steps)]


def read_states(db: sqlite3.Connection, run_id: UUID) -> list[State]:
    """See ``Store.read_states``."""
    key = flow_key(db, run_id)
    if key is not None:
        return read_flow_states(db, key, run_id)
    prefix, index, ordinal = ids.split_id(run_id)
    group = find_group(db, prefix)
    if group is None or ordinal or index >= group.count:
        return []
    where = "WHERE group_key = ? AND idx = ?"
    row = db.execute(f"SELECT {_ROW_COLUMNS} FROM task_run {where}", (group.key, index)).fetchone()
    past = db.execute(f"SELECT {_PAST_COLUMNS} FROM past_state {where}", (group.key, index)).fetchall()
    return [task_state(group, index, step.columns) for step in _steps(group, row, past)]


# Orders events: the commit, the time within it, and the state's number where times are equal.
_Place = tuple[int, float, int]


@dataclass(slots=True)
class _Change:
    """An event before it is made into one: light, because most are only sorted."""

    place: _Place
    group: TaskRunGroup | None
    index: int
    step: tuple[Any, ...]
    before: tuple[Any, ...] | None


def read_events(db: sqlite3.Connection, flow_run_id: UUID, after: str | None, limit: int | None) -> list[Event]:
    """See ``Store.read_events``."""
    key = flow_key(db, flow_run_id)
    if key is None:
        return []
    start = (0, 0.0, 0) if after is None else _read_cursor(after)
    changes = [
        change
        for source in (_flow_changes(db, key), _task_changes(db, key, flow_run_id, start[0]))
        for change in source
        if change.place > start
    ]
    changes.sort(key=lambda change: change.place)
    return [_event(flow_run_id, change) for change in changes[:limit]]


def _flow_changes(db: sqlite3.Connection, key: int) -> Iterator[_Change]:
    rows = db.execute(
        "SELECT seq, ordinal, type, name, message, time, id FROM flow_run_state WHERE flow_key = ? ORDER BY ordinal",
        (key,),
    )
    before: tuple[Any, ...] | None = None
    clock = _Clock()
    for seq, *columns in rows:
        step = tuple(columns)
        yield _Change((seq, clock.read(seq, step[4]), int.from_bytes(step[5], "big")), None, 0, step, before)
        before = step


def _task_changes(db: sqlite3.Connection, key: int, flow_run_id: UUID, since_seq: int) -> Iterator[_Change]:
    groups = read_groups(db, key, flow_run_id)
    past = _past_of_flow(db, key)
    # A run's row has the commit of its last change: older rows have nothing to say.
    recent = children(db, groups, _ROW_COLUMNS, where="AND seq >= ?", values=(since_seq,), fill=False)
    for group, index, row in recent:
        number = ids.run_number(group.prefix, index)
        before: tuple[Any, ...] | None = None
        clock = _Clock()
        for seq, step in _steps(group, row, past.get((group.key, index), [])):
            place = (seq, clock.read(seq, step[4]), number | step[0])
            # The first state of every child comes below, rows or not.
            if before is not None:
                yield _Change(place, group, index, step, before)
            before = step
    for group in groups:
        if group.seq >= since_seq:
            first = (1, PENDING_CODE, None, None, group.created)
            for index in range(group.count):
                place = (group.seq, group.created, ids.run_number(group.prefix, index) | 1)
                yield _Change(place, group, index, first, None)


class _Clock:
    """Times of a run's states as an order: within one commit a later state is never put before an earlier one."""

    def __init__(self) -> None:
        self._seq = 0
        self._time = 0.0

    def read(self, seq: int, time: float) -> float:
        if seq == self._seq:
            time = max(time, self._time)
        self._seq, self._time = seq, time
        return time


def _past_of_flow(db: sqlite3.Connection, key: int) -> dict[tuple[int | None, int], list[tuple[Any, ...]]]:
    columns = ", ".join(f"past_state.{column}" for column in _PAST_COLUMNS.split(", "))
    rows = db.execute(
        f"SELECT group_key, idx, {columns} FROM task_run_group CROSS JOIN past_state "
        "ON group_key = task_run_group.key WHERE flow_key = ?",
        (key,),
    )
    past: dict[tuple[int | None, int], list[tuple[Any, ...]]] = {}
    for group_key, index, *step in rows:
        past.setdefault((group_key, index), []).append(tuple(step))
    return past


def _event(flow_run_id: UUID, change: _Change) -> Event:
    step, before, group = change.step, change.before, change.group
    type = TYPES[step[1]]
    id = UUID(int=change.place[2])
    if before is None:
        follows = None
    elif group is None:
        follows = UUID(bytes=before[5])
    else:
        follows = ids.state_id(group.prefix, change.index, before[0])
    occurred = to_datetime(step[4])
    assert occurred is not None
    return Event(
        id=id,
        follows=follows,
        flow_run_id=flow_run_id,
        task_run_id=None if group is None else group.run_id(change.index),
        from_type=None if before is None else TYPES[before[1]],
        to_type=type,
        to_name=step[2] or DEFAULT_NAMES[type],
        message=step[3],
        occurred=occurred,
        cursor=_cursor(change.place),
    )


def _cursor(place: _Place) -> str:
    seq, time, number = place
    return f"{seq}.{time.hex()}.{number:032x}"


def _read_cursor(cursor: str) -> _Place:
    try:
        seq, rest = cursor.split(".", 1)
        time, number = rest.rsplit(".", 1)
        return int(seq), float.fromhex(time), int(number, 16)
    except ValueError:
        raise ValueError(
            f"{cursor!r} is no cursor: pass `after` the cursor of an event that was read before."
        ) from None
