"""Deleting flow runs with all that belongs to them, while others run (D31).

Flow runs, each with its subflows, disappear some at a time in short transactions, which note their keys. What belonged
to them is then swept away in pieces, so that no writer waits for long, and its space is given back. A sweep that is cut
short is finished by the next one.

The file of a result to which nothing refers any more is reported for removal. Where a cache entry referred to it, that
is not at once: another process may have found the entry just before it went, and be about to record a run that refers
to the file. It is reported by the next deletion after ``CACHE_HIT_SECONDS``, unless something refers to it then.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from core_engine.backend.connections import WriteConnection
from core_engine.backend.encoding import FIRST_FINAL_CODE, TYPE_CODES, file_column, read_data, read_file
from core_engine.backend.store import DeletionReport
from core_engine.backend.transactions import writing
from core_engine.schemas.states import StateType

# Rows, and pages given back, in one transaction: some 20 ms in which other processes wait.
_ROWS = 5_000
_PAGES = 500

# Flow runs, with those below them, that go in one transaction.
_ROOTS = 50
# By so long after its cache entry a result's file stays: longer than any process takes from finding the entry to
# recording a run that refers to the file.
CACHE_HIT_SECONDS = 60.0

_OF_LIVING = "flow_key NOT IN (SELECT key FROM deleted_flow_run)"
# Tables of task runs, with their keys.
_OF_TASK_RUNS = {
    "task_run": "group_key, idx",
    "past_state": "group_key, idx, ordinal",
    "task_run_extra": "group_key, idx",
    "input_digest": "group_key, first_idx, execution, seq",
}
_OF_FLOW = "group_key IN (SELECT key FROM task_run_group WHERE flow_key = ?)"


def delete_flow_runs(
    db: WriteConnection,
    older_than: float,
    state_types: Collection[StateType] | None,
    dry_run: bool,
    now: float,
) -> DeletionReport:
    """See ``Store.delete_flow_runs``."""
    report = DeletionReport(dry_run=dry_run)
    pages = _page_count(db)
    which = _Which(older_than, state_types)
    roots = db.execute(f"SELECT key, id FROM flow_run WHERE {which.sql} ORDER BY created", which.values).fetchall()
    if dry_run:
        keys = [member for key, id in roots for member in _gather(db, key, id, report)]
        _count(db, keys, report)
        cached = _files_of_cache_entries(db, keys)
        files = _only_referenced_by(db, keys)
        report.results = [read_file(file) for file in files if file not in cached]
        report.results_later = len(files) - len(report.results)
        return report
    for start in range(0, len(roots), _ROOTS):
        with writing(db):
            _delete_families(db, roots[start : start + _ROOTS], which, report)
    _sweep(db, older_than, now)
    _give_space_back(db)
    report.results, report.results_later = _unreferenced(db, now)
    report.bytes_freed = max(0, pages - _page_count(db)) * int(db.execute("PRAGMA page_size").fetchone()[0])
    return report


def read_cleaned(db: sqlite3.Connection) -> float | None:
    """See ``Store.read_cleaned``."""
    cleaned: float | None = db.execute("SELECT cleaned FROM counter").fetchone()[0]
    return cleaned


def note_cleaned(db: WriteConnection, now: float) -> None:
    """See ``Store.note_cleaned``."""
    with writing(db):
        db.execute("UPDATE counter SET cleaned = ?", (now,))


def forget_results(db: WriteConnection, results: Sequence[dict[str, Any]]) -> None:
    """See ``Store.forget_results``."""
    files = [(file_column(read_data(json.dumps(result))),) for result in results]
    with writing(db):
        db.executemany("DELETE FROM unreferenced_file WHERE file = ?", files)


def _page_count(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA page_count").fetchone()[0])


# Which ones.


class _Which:
    """The condition on flow runs that are to go: old ones in some final states that are no subflows."""

    def __init__(self, older_than: float, state_types: Collection[StateType] | None) -> None:
        types = [type for type in StateType if TYPE_CODES[type] >= FIRST_FINAL_CODE]
        if state_types is not None:
            wanted = {StateType(type) for type in state_types}
            types = [type for type in types if type in wanted]
        self.sql = (
            f"parent_task_run_id IS NULL AND state_type IN ({', '.join(str(TYPE_CODES[type]) for type in types)}) "
            "AND coalesce(end_time, state_time) < ?"
        )
        self.values = (older_than,)


def _gather(db: sqlite3.Connection, key: int, id: bytes, report: DeletionReport) -> list[int]:
    """Returns the keys of a flow run and of all below it, and reports them; none while one of them has not ended."""
    family = _family(db, key, id) or []
    report.flow_runs += [UUID(bytes=member_id) for _, member_id in family]
    return [member for member, _ in family]


def _delete_families(
    db: WriteConnection, roots: Sequence[tuple[int, bytes]], which: _Which, report: DeletionReport
) -> None:
    """Deletes the rows of flow runs and of those below them, within the caller's transaction."""
    keys = []
    for key, id in roots:
        # One may have been deleted by another process meanwhile, or been resumed.
        if db.execute(f"SELECT 1 FROM flow_run WHERE key = ? AND {which.sql}", (key, *which.values)).fetchone():
            keys += _gather(db, key, id, report)
    counted = DeletionReport()
    _count(db, keys, counted)
    report.task_runs += counted.task_runs
    report.log_lines += counted.log_lines
    report.cache_entries += counted.cache_entries
    for key in keys:
        db.execute("INSERT INTO deleted_flow_run (key) VALUES (?)", (key,))
        db.execute("DELETE FROM flow_run_state WHERE flow_key = ?", (key,))
        db.execute("DELETE FROM flow_run WHERE key = ?", (key,))


def _family(db: sqlite3.Connection, key: int, id: bytes) -> list[tuple[int, bytes]] | None:
    """Returns a flow run and those below it; None when one of them has not ended."""
    family = [(key, id)]
    for member, _ in family:
        prefixes = db.execute(
            "SELECT prefix FROM task_run_group WHERE flow_key = ? AND kind = 'subflow'", (member,)
        ).fetchall()
        for (prefix,) in prefixes:
            children = db.execute(
                "SELECT key, id, state_type FROM flow_run WHERE parent_task_run_id BETWEEN ? AND ?",
                (prefix.ljust(16, b"\x00"), prefix.ljust(16, b"\xff")),
            ).fetchall()
            if any(type is None or type < FIRST_FINAL_CODE for _, _, type in children):
                return None
            family += [(child, child_id) for child, child_id, _ in children]
    return family


def _count(db: sqlite3.Connection, keys: list[int], report: DeletionReport) -> None:
    listed = (json.dumps(keys),)
    among = "flow_key IN (SELECT value FROM json_each(?))"
    query = f"SELECT coalesce(sum(count), 0) FROM task_run_group WHERE {among}"
    report.task_runs = db.execute(query, listed).fetchone()[0]
    report.log_lines = db.execute(f"SELECT count(*) FROM log WHERE {among}", listed).fetchone()[0]
    report.cache_entries = db.execute(f"SELECT count(*) FROM cache_entry WHERE {among}", listed).fetchone()[0]


def _only_referenced_by(db: sqlite3.Connection, keys: list[int]) -> list[str]:
    rows = db.execute(
        "WITH going (key) AS (SELECT value FROM json_each(?)) "
        "SELECT DISTINCT file FROM result_file WHERE flow_key IN going AND NOT EXISTS ("
        "SELECT 1 FROM result_file AS other WHERE other.file = result_file.file AND other.flow_key NOT IN going"
        ") ORDER BY file",
        (json.dumps(keys),),
    )
    return [file for (file,) in rows]


def _files_of_cache_entries(db: sqlite3.Connection, keys: list[int]) -> set[str | None]:
    rows = db.execute(
        "SELECT data FROM cache_entry WHERE flow_key IN (SELECT value FROM json_each(?))", (json.dumps(keys),)
    )
    return {file_column(read_data(data)) for (data,) in rows}


# Taking away.


def _sweep(db: WriteConnection, older_than: float, now: float) -> None:
    """Deletes what belonged to deleted flow runs, in pieces."""
    with writing(db):
        db.execute("DELETE FROM log WHERE flow_key = 0 AND time < ?", (older_than,))
        db.execute("DELETE FROM cache_entry WHERE expires < ?", (older_than,))
    while (row := db.execute("SELECT key FROM deleted_flow_run LIMIT 1").fetchone()) is not None:
        with writing(db):
            if not _delete_piece(db, row[0], now):
                db.execute("DELETE FROM task WHERE flow_key = ?", row)
                db.execute("DELETE FROM flow_commit WHERE flow_key = ?", row)
                db.execute("DELETE FROM task_run_group WHERE flow_key = ?", row)
                db.execute("DELETE FROM deleted_flow_run WHERE key = ?", row)


def _delete_piece(db: sqlite3.Connection, key: int, now: float) -> bool:
    """Deletes some rows of a deleted flow run; returns False when there was nothing left to delete."""
    for table, primary in _OF_TASK_RUNS.items():
        some = f"SELECT {primary} FROM {table} WHERE {_OF_FLOW} LIMIT {_ROWS}"
        if db.execute(f"DELETE FROM {table} WHERE ({primary}) IN ({some})", (key,)).rowcount:
            return True
    some = f"SELECT cursor FROM log WHERE flow_key = ?1 LIMIT {_ROWS}"
    if db.execute(f"DELETE FROM log WHERE flow_key = ?1 AND cursor IN ({some})", (key,)).rowcount:
        return True
    return _delete_cache_entries(db, key, now) or _delete_file_references(db, key)


def _delete_cache_entries(db: sqlite3.Connection, key: int, now: float) -> bool:
    """An entry goes with the last flow run that refers to its file; one without a file with the run that made it."""
    entries = db.execute(
        f"SELECT key, number, data FROM cache_entry WHERE flow_key = ? LIMIT {_ROWS}", (key,)
    ).fetchall()
    for entry_key, number, data in entries:
        file = file_column(read_data(data))
        heir = db.execute(
            "SELECT flow_key FROM result_file WHERE file = ? AND flow_key <> ? "
            "AND flow_key NOT IN (SELECT key FROM deleted_flow_run)",
            (file, key),
        ).fetchone()
        if heir is None:
            db.execute("DELETE FROM cache_entry WHERE key = ? AND number = ?", (entry_key, number))
            # In the same transaction, so that nobody takes the file for one that no entry referred to.
            db.execute("DELETE FROM result_file WHERE flow_key = ? AND file = ?", (key, file))
            if file is not None:
                db.execute(
                    "INSERT OR REPLACE INTO unreferenced_file (file, removable) VALUES (?, ?)",
                    (file, now + CACHE_HIT_SECONDS),
                )
        else:
            db.execute("UPDATE cache_entry SET flow_key = ? WHERE key = ? AND number = ?", (heir[0], entry_key, number))
    return bool(entries)


def _delete_file_references(db: sqlite3.Connection, key: int) -> bool:
    files = db.execute(f"SELECT file FROM result_file WHERE flow_key = ? LIMIT {_ROWS}", (key,)).fetchall()
    db.executemany("DELETE FROM result_file WHERE flow_key = ? AND file = ?", [(key, file) for (file,) in files])
    db.executemany(
        "INSERT OR IGNORE INTO unreferenced_file (file, removable) "
        f"SELECT ?1, 0 WHERE NOT EXISTS (SELECT 1 FROM result_file WHERE file = ?1 AND {_OF_LIVING})",
        files,
    )
    return bool(files)


def _unreferenced(db: WriteConnection, now: float) -> tuple[list[dict[str, Any]], int]:
    """Returns the results whose files may be removed, and of how many that may be so later.

    A file that was written, or referred to, again since is not among them.
    """
    with writing(db):
        db.execute(f"DELETE FROM unreferenced_file WHERE file IN (SELECT file FROM result_file WHERE {_OF_LIVING})")
        rows = db.execute("SELECT file, removable FROM unreferenced_file ORDER BY file").fetchall()
    files = [file for file, removable in rows if removable <= now]
    return [read_file(file) for file in files], len(rows) - len(files)


def _give_space_back(db: WriteConnection) -> None:
    while db.execute("PRAGMA freelist_count").fetchone()[0]:
        with writing(db):
            db.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
    # Into the file itself, where it shrinks; when others are writing, their next checkpoint does it.
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
