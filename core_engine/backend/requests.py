"""The inbox: what others ask of the process that owns a flow run (D2)."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection
from typing import Any
from uuid import UUID

from core_engine import ids
from core_engine.backend.connections import WriteConnection
from core_engine.backend.encoding import FIRST_FINAL_CODE, prefix_bytes, to_json
from core_engine.backend.store import Request
from core_engine.backend.transactions import writing
from core_engine.exceptions import ObjectNotFound

_COLUMNS = "request.id, kind, run_id, flow_run_id, payload, request.created"


def write_request(db: WriteConnection, kind: str, run_id: UUID, payload: dict[str, Any]) -> int:
    """See ``Store.write_request``."""
    with writing(db):
        flow_run_id = _flow_run_of(db, run_id)
        if flow_run_id is None:
            raise ObjectNotFound(f"There is no flow run or task run {run_id} of which to ask {kind!r}.")
        # From the counter, so that the number of a finished request is never given again.
        db.execute("UPDATE counter SET next_key = next_key + 1")
        id = int(db.execute("SELECT next_key - 1 FROM counter").fetchone()[0])
        db.execute(
            "INSERT INTO request (id, kind, run_id, flow_run_id, payload, created) VALUES (?, ?, ?, ?, ?, ?)",
            (id, kind, run_id.bytes, flow_run_id, to_json(payload), time.time()),
        )
    return id


def _flow_run_of(db: sqlite3.Connection, run_id: UUID) -> bytes | None:
    if db.execute("SELECT 1 FROM flow_run WHERE id = ?", (run_id.bytes,)).fetchone():
        return run_id.bytes
    prefix, index, _ = ids.split_id(run_id)
    row = db.execute(
        "SELECT flow_run.id FROM task_run_group JOIN flow_run ON flow_run.key = flow_key "
        "WHERE prefix = ? AND count > ?",
        (prefix_bytes(prefix), index),
    ).fetchone()
    return None if row is None else bytes(row[0])


def read_requests(
    db: sqlite3.Connection, flow_run_ids: Collection[UUID] | None, owner: str | None, after: int
) -> list[Request]:
    """See ``Store.read_requests``."""
    if owner is not None:
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM request JOIN flow_run ON flow_run.id = flow_run_id "
            "WHERE owner = ? AND request.id > ? AND answer IS NULL ORDER BY request.id",
            (owner, after),
        )
    else:
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM request WHERE request.id > ? AND answer IS NULL ORDER BY request.id", (after,)
        )
    found = [
        Request(id, kind, UUID(bytes=run_id), UUID(bytes=flow_run_id), json.loads(payload), created)
        for id, kind, run_id, flow_run_id, payload, created in rows
    ]
    if flow_run_ids is None:
        return found
    wanted = set(flow_run_ids)
    return [request for request in found if request.flow_run_id in wanted]


def is_open(db: sqlite3.Connection, id: int) -> bool:
    """See ``Store.is_request_open``."""
    return db.execute("SELECT 1 FROM request WHERE id = ? AND answer IS NULL", (id,)).fetchone() is not None


def answer_request(db: WriteConnection, id: int, answer: dict[str, Any]) -> None:
    """See ``Store.answer_request``."""
    with writing(db):
        db.execute("UPDATE request SET answer = ? WHERE id = ?", (to_json(answer), id))


def read_answer(db: sqlite3.Connection, id: int) -> dict[str, Any] | None:
    """See ``Store.read_answer``."""
    row = db.execute("SELECT answer FROM request WHERE id = ?", (id,)).fetchone()
    answer: dict[str, Any] | None = None if row is None or row[0] is None else json.loads(row[0])
    return answer


def finish_request(db: WriteConnection, id: int) -> None:
    """See ``Store.finish_request``."""
    with writing(db):
        db.execute("DELETE FROM request WHERE id = ?", (id,))


def drop_pointless(db: sqlite3.Connection) -> None:
    """Takes requests out that nobody can fulfil any more, within the caller's transaction: their flow run has ended."""
    db.execute(
        "DELETE FROM request WHERE NOT EXISTS "
        "(SELECT 1 FROM flow_run WHERE flow_run.id = request.flow_run_id "
        f"AND (state_type IS NULL OR state_type < {FIRST_FINAL_CODE}))"
    )
