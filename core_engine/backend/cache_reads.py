"""Reading what completed runs left under cache keys."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from typing import Any
from uuid import UUID

from core_engine.backend.encoding import read_data, read_details, to_datetime
from core_engine.schemas.states import COMPLETED, State

_COLUMNS = "state_id, name, message, time, data, details"


def read_cached_state(db: sqlite3.Connection, key: str, now: float) -> State | None:
    """See ``Store.read_cached_state``."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM cache_entry WHERE key = ? AND (expires IS NULL OR expires > ?) "
        "ORDER BY time DESC, number DESC LIMIT 1",
        (key, now),
    ).fetchone()
    return None if row is None else _state(row)


def read_cached_states(db: sqlite3.Connection, keys: Collection[str], now: float) -> dict[str, State]:
    """See ``Store.read_cached_states``."""
    rows = db.execute(
        f"SELECT key, {_COLUMNS} FROM cache_entry WHERE key IN (SELECT value FROM json_each(?)) "
        "AND (expires IS NULL OR expires > ?) ORDER BY time, number",
        (json.dumps(list(keys)), now),
    )
    # Newer ones come later and replace older ones.
    newest = {key: row for key, *row in rows}
    return {key: _state(row) for key, row in newest.items()}


def _state(row: Any) -> State:
    id, name, message, time, data, details = row
    state = State(COMPLETED, name, message, read_data(data), to_datetime(time), read_details(details), UUID(bytes=id))
    state._time = time
    return state
