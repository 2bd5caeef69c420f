"""Writing flow runs: few, so written as they come, with every state kept in ``flow_run_state``."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from core_engine.backend.encoding import (
    FIRST_FINAL_CODE,
    FLOW_RUN_FIELDS,
    TYPE_CODES,
    data_column,
    file_column,
    flow_details_column,
    flow_run_column,
    flow_run_columns,
    name_column,
)
from core_engine.backend.entries import FlowRunChanged, FlowRunCreated
from core_engine.backend.folding import FlowEntry
from core_engine.backend.sql import INSERT_FILES
from core_engine.backend.statements import storable
from core_engine.schemas.records import FlowRun
from core_engine.schemas.states import State

# How many flow runs' keys are remembered; the next log line of a forgotten one costs a look-up.
_REMEMBERED = 10_000

_STATE_FIELDS = (
    "ordinal",
    "state_id",
    "state_type",
    "state_name",
    "state_message",
    "state_time",
    "state_data",
    "state_details",
)
_INSERT = (
    f"INSERT INTO flow_run (key, id, {', '.join(_STATE_FIELDS)}, {', '.join(FLOW_RUN_FIELDS)}) "
    f"VALUES ({', '.join('?' * (2 + len(_STATE_FIELDS) + len(FLOW_RUN_FIELDS)))}) ON CONFLICT (id) DO NOTHING"
)
# When a run was created, and by which run, is said once.
_CHANGING_FIELDS = tuple(field for field in FLOW_RUN_FIELDS if field not in ("created", "parent_task_run_id"))
_ASSIGNMENTS = ", ".join(f"{field} = ?" for field in _STATE_FIELDS + _CHANGING_FIELDS)
_UPDATE = f"UPDATE flow_run SET {_ASSIGNMENTS} WHERE key = ?"
_INSERT_STATE = (
    "INSERT OR IGNORE INTO flow_run_state "
    "(flow_key, ordinal, execution, seq, id, type, name, message, time, data, details) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class FlowKeys:
    """The keys of flow runs by their ids, as far as this writer has met them."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._keys: dict[UUID, int] = {}

    def of(self, id: UUID) -> int | None:
        """Returns the key of the flow run, None when the store does not hold it."""
        key = self._keys.get(id)
        if key is None:
            row = self._db.execute("SELECT key FROM flow_run WHERE id = ?", (id.bytes,)).fetchone()
            if row is None:
                return None
            key = row[0]
            if len(self._keys) >= _REMEMBERED:
                self._keys.clear()
            self._keys[id] = key
        return key

    def clear(self) -> None:
        self._keys.clear()


def write_flow_entries(
    db: sqlite3.Connection, keys: FlowKeys, entries: list[FlowEntry], seq: int, next_key: Iterator[int]
) -> list[int]:
    """Writes `entries` in order within the caller's transaction. Returns the keys of flow runs that became final."""
    finished = []
    for entry in entries:
        if isinstance(entry, FlowRunCreated):
            _create(db, entry.flow_run, seq, next(next_key))
        elif isinstance(entry, FlowRunChanged):
            key = _change(db, keys, entry.flow_run, seq)
            if key is not None and entry.flow_run.state is not None and entry.flow_run.state.is_final():
                finished.append(key)
        else:
            _update(db, entry.flow_run_id, entry.changes)
    return finished


def _create(db: sqlite3.Connection, flow_run: FlowRun, seq: int, key: int) -> None:
    state = flow_run.state
    ordinal = 0 if state is None else state._ordinal or 1
    columns = dict(zip(FLOW_RUN_FIELDS, flow_run_columns(flow_run), strict=True))
    if columns["created"] is None:
        columns["created"] = time.time() if state is None else state._time
    row = [key, flow_run.id.bytes, *_state_columns(state, ordinal), *columns.values()]
    if db.execute(_INSERT, [*map(storable, row)]).rowcount and state is not None:
        _record_state(db, key, ordinal, flow_run.execution, seq, state)


def _change(db: sqlite3.Connection, keys: FlowKeys, flow_run: FlowRun, seq: int) -> int | None:
    """Returns the run's key, None where the change was refused: it is late, or the run is final in this execution."""
    state = flow_run.state
    key = keys.of(flow_run.id)
    if key is None or state is None:
        return None
    ordinal, execution, type = db.execute(
        "SELECT ordinal, execution, state_type FROM flow_run WHERE key = ?", (key,)
    ).fetchone()
    new_ordinal = state._ordinal or ordinal + 1
    is_final = type is not None and type >= FIRST_FINAL_CODE
    if (
        new_ordinal <= ordinal
        or flow_run.execution < execution
        or (flow_run.execution == execution and is_final)
        or (not state._ordinal and _has_state(db, key, state))
    ):
        return None
    columns = [flow_run_column(field, getattr(flow_run, field)) for field in _CHANGING_FIELDS]
    row = [*_state_columns(state, new_ordinal), *columns, key]
    db.execute(_UPDATE, [*map(storable, row)])
    _record_state(db, key, new_ordinal, flow_run.execution, seq, state)
    return key


def _has_state(db: sqlite3.Connection, key: int, state: State) -> bool:
    row = db.execute("SELECT 1 FROM flow_run_state WHERE flow_key = ? AND id = ?", (key, state.id.bytes)).fetchone()
    return row is not None


def _update(db: sqlite3.Connection, id: UUID, changes: dict[str, Any]) -> None:
    if not changes:
        return
    unknown = changes.keys() - set(FLOW_RUN_FIELDS)
    if unknown:
        raise ValueError(f"A FlowRunUpdated cannot set {sorted(unknown)}; it sets any of {', '.join(FLOW_RUN_FIELDS)}.")
    values = [storable(flow_run_column(field, value)) for field, value in changes.items()]
    db.execute(
        f"UPDATE flow_run SET {', '.join(f'{field} = ?' for field in changes)} WHERE id = ?", [*values, id.bytes]
    )


def _state_columns(state: State | None, ordinal: int) -> list[Any]:
    if state is None:
        return [ordinal, *[None] * 7]
    type, name = TYPE_CODES[state._type], name_column(state)
    data, details = data_column(state._data), flow_details_column(state._details)
    return [ordinal, state.id.bytes, type, name, state._message, state._time, data, details]


def _record_state(db: sqlite3.Connection, key: int, ordinal: int, execution: int, seq: int, state: State) -> None:
    _, id, *columns = _state_columns(state, ordinal)
    db.execute(_INSERT_STATE, [key, ordinal, execution, seq, id, *map(storable, columns)])
    file = file_column(state._data)
    if file is not None:
        INSERT_FILES.execute(db, [(key, file)])
