"""Reading log lines."""

from __future__ import annotations

import sqlite3
from typing import Any
from uuid import UUID

from core_engine import ids
from core_engine.backend.encoding import prefix_bytes
from core_engine.backend.flow_reads import flow_key
from core_engine.backend.store import StoredLog
from core_engine.logging.records import LogEntry

_COLUMNS = "cursor, log.flow_run_id, task_run_id, log.name, level, time, message, worker"

# The key under which lines of flow runs lie that the store does not hold.
_STRAY = 0


def read_logs(
    db: sqlite3.Connection,
    flow_run_id: UUID | None,
    task_run_id: UUID | None,
    min_level: int | None,
    after: int | None,
    limit: int | None,
) -> list[StoredLog]:
    """See ``Store.read_logs``."""
    parts, values = _filters(task_run_id, min_level, after)
    if flow_run_id is None and task_run_id is not None:
        flow_run_id = _flow_run_of(db, task_run_id)
    key = None if flow_run_id is None else flow_key(db, flow_run_id)
    if flow_run_id is not None:
        parts, values = _of_flow_run(db, flow_run_id, key, parts, values)
    # Lines of a flow run that is being deleted have neither id.
    parts.append("coalesce(log.flow_run_id, flow_run.id) IS NOT NULL")
    rows = db.execute(
        f"SELECT {_COLUMNS}, flow_run.id FROM log LEFT JOIN flow_run ON flow_run.key = log.flow_key "
        f"WHERE {' AND '.join(parts)} ORDER BY cursor LIMIT ?",
        [*values, -1 if limit is None else limit],
    )
    return [_stored(row) for row in rows]


def _filters(task_run_id: UUID | None, min_level: int | None, after: int | None) -> tuple[list[str], list[Any]]:
    parts: list[str] = []
    values: list[Any] = []
    for part, value in (
        ("task_run_id = ?", None if task_run_id is None else task_run_id.bytes),
        ("level >= ?", min_level),
        ("cursor > ?", after),
    ):
        if value is not None:
            parts.append(part)
            values.append(value)
    return parts, values


def _of_flow_run(
    db: sqlite3.Connection, id: UUID, key: int | None, parts: list[str], values: list[Any]
) -> tuple[list[str], list[Any]]:
    stray = "log.flow_key = ? AND log.flow_run_id = ?"
    if key is None:
        return [stray, *parts], [_STRAY, id.bytes, *values]
    has_strays = db.execute(f"SELECT 1 FROM log WHERE {stray} LIMIT 1", (_STRAY, id.bytes)).fetchone()
    if has_strays is None:
        # The primary key gives these in order of their cursors: nothing is sorted.
        return ["log.flow_key = ?", *parts], [key, *values]
    return [f"(log.flow_key = ? OR {stray})", *parts], [key, _STRAY, id.bytes, *values]


def _flow_run_of(db: sqlite3.Connection, task_run_id: UUID) -> UUID | None:
    """Returns the flow run of a task run: lines lie by flow run, so that those of a task run are near each other."""
    prefix, _, _ = ids.split_id(task_run_id)
    row = db.execute(
        "SELECT id FROM task_run_group JOIN flow_run ON flow_run.key = flow_key WHERE prefix = ?",
        (prefix_bytes(prefix),),
    ).fetchone()
    return None if row is None else UUID(bytes=row[0])


def _stored(row: tuple[Any, ...]) -> StoredLog:
    cursor, stray_id, task_run_id, name, level, time, message, worker, flow_run_id = row
    entry = LogEntry(
        flow_run_id=UUID(bytes=stray_id or flow_run_id),
        task_run_id=None if task_run_id is None else UUID(bytes=task_run_id),
        name=name,
        level=level,
        timestamp=time,
        message=message,
        worker=worker,
    )
    return StoredLog(cursor, entry)
