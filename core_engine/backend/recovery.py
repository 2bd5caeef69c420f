"""Flow runs whose process is gone: nobody will ever report how they ended, so they crashed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from uuid import UUID

from core_engine import ids
from core_engine.backend import requests
from core_engine.backend.connections import WriteConnection
from core_engine.backend.encoding import CRASHED_CODE, FIRST_FINAL_CODE
from core_engine.backend.sql import COPY_TO_PAST, IS_IMPLIED
from core_engine.backend.transactions import writing

IsFree = Callable[[str], bool]

FLOW_MESSAGE = "The process that ran the flow ended without reporting: it was killed, or its machine went down."
TASK_MESSAGE = "The process that ran the flow of this task ended without reporting."

_UNFINISHED = f"state_type < {FIRST_FINAL_CODE}"
_OF_FLOW = f"group_key IN (SELECT key FROM task_run_group WHERE flow_key = ?) AND {_UNFINISHED}"


def reconcile(db: WriteConnection, now: float, is_free: IsFree) -> list[UUID]:
    """See ``Store.reconcile``."""
    owners = db.execute(
        f"SELECT owner FROM flow_run WHERE owner IS NOT NULL AND {_UNFINISHED} UNION SELECT owner FROM slot"
    ).fetchall()
    dead = [owner for (owner,) in owners if is_free(owner)]
    if not dead:
        return []
    crashed = []
    with writing(db):
        db.execute("UPDATE counter SET seq = seq + 1")
        (seq,) = db.execute("SELECT seq FROM counter").fetchone()
        for owner in dead:
            # Read again: in the meantime another process may have done it, or the run may have ended in order.
            rows = db.execute(
                f"SELECT key, id, ordinal, execution FROM flow_run WHERE owner = ? AND {_UNFINISHED} ORDER BY key",
                (owner,),
            ).fetchall()
            for key, id, ordinal, execution in rows:
                _crash_flow_run(db, key, UUID(bytes=id), ordinal + 1, execution, seq, now)
                _crash_task_runs(db, key, seq, now)
                crashed.append(UUID(bytes=id))
            db.execute("DELETE FROM slot WHERE owner = ?", (owner,))
        requests.drop_pointless(db)
    return crashed


def _crash_flow_run(
    db: sqlite3.Connection, key: int, id: UUID, ordinal: int, execution: int, seq: int, now: float
) -> None:
    # Ids made here leave room for the ordinal; one that was made elsewhere may not.
    follows_from_run = id.int & ids.MAX_ORDINAL == 0
    state_id = UUID(int=id.int | ordinal) if follows_from_run else ids.new_id()
    db.execute(
        f"UPDATE flow_run SET ordinal = ?, state_id = ?, state_type = {CRASHED_CODE}, state_name = NULL, "
        "state_message = ?, state_time = ?, state_data = NULL, state_details = NULL, end_time = ?, owner = NULL, "
        "next_scheduled_start_time = NULL WHERE key = ?",
        (ordinal, state_id.bytes, FLOW_MESSAGE, now, now, key),
    )
    db.execute(
        "INSERT INTO flow_run_state (flow_key, ordinal, execution, seq, id, type, message, time) "
        f"VALUES (?, ?, ?, ?, ?, {CRASHED_CODE}, ?, ?)",
        (key, ordinal, execution, seq, state_id.bytes, FLOW_MESSAGE, now),
    )


def _crash_task_runs(db: sqlite3.Connection, key: int, seq: int, now: float) -> None:
    """Crashes the task runs that had begun. Children that never left Pending stay so: nothing happened to them."""
    # Which ones is not counted: who reads events looks at all groups.
    db.execute(
        "INSERT INTO flow_commit (flow_key, seq, runs, first_group, last_group, first_idx, last_idx) "
        "VALUES (?, ?, 1, 0, (SELECT next_key FROM counter), 0, 0)",
        (key, seq),
    )
    db.execute(f"{COPY_TO_PAST} FROM task_run WHERE {_OF_FLOW} AND NOT {IS_IMPLIED}", (key,))
    db.execute(
        "UPDATE task_run SET ordinal = ordinal + 1, start_seq = coalesce(start_seq, seq), seq = ?, "
        f"state_type = {CRASHED_CODE}, state_name = NULL, state_message = ?, state_time = NULL, "
        f"state_data = NULL, state_details = NULL, end_time = ? WHERE {_OF_FLOW}",
        (seq, TASK_MESSAGE, now, key),
    )
