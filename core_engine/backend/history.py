"""The states that runs went through.

What the writer left out because it follows from the rest is put back here: ordinal 1, Pending since the group was
created, and ordinal 2, a plain Running since the run's start.
"""

from __future__ import annotations

import sqlite3
from typing import Any, NamedTuple
from uuid import UUID

from core_engine import ids
from core_engine.backend.encoding import PENDING_CODE, RUNNING_CODE
from core_engine.backend.flow_reads import flow_key, read_flow_states
from core_engine.backend.groups import StoredGroup, find_group
from core_engine.backend.task_reads import STATE_COLUMNS, task_state
from core_engine.schemas.states import State

PAST_COLUMNS = "seq, ordinal, type, name, message, time, data, details"
ROW_COLUMNS = f"start_time, start_seq, seq, {STATE_COLUMNS}"


class Step(NamedTuple):
    """One state of a task run: the commit that brought it, and the columns ``STATE_COLUMNS``."""

    seq: int
    columns: tuple[Any, ...]


def steps(group: StoredGroup, row: tuple[Any, ...] | None, past: list[tuple[Any, ...]]) -> list[Step]:
    """Returns every state of a child in order, from its row (None: it has none) and its rows in ``past_state``."""
    found = {step[1]: Step(step[0], step[1:]) for step in past}
    found.setdefault(1, Step(group.seq, (1, PENDING_CODE, None, None, group.created, None, None)))
    if row is not None:
        start_time, start_seq, seq, *columns = row
        ordinal = columns[0]
        if ordinal > 2 and 2 not in found:
            started = seq if start_seq is None else start_seq
            found[2] = Step(started, (2, RUNNING_CODE, None, None, start_time, None, None))
        found[ordinal] = Step(seq, tuple(columns))
    return [found[ordinal] for ordinal in sorted(found)]


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
    row = db.execute(f"SELECT {ROW_COLUMNS} FROM task_run {where}", (group.key, index)).fetchone()
    past = db.execute(f"SELECT {PAST_COLUMNS} FROM past_state {where}", (group.key, index)).fetchall()
    return [task_state(group, index, step.columns) for step in steps(group, row, past)]
