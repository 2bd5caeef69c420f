"""Reading flow runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from core_engine.backend.encoding import (
    FLOW_RUN_FIELDS,
    TYPE_CODES,
    TYPES,
    read_data,
    read_details,
    read_flow_run_field,
    to_datetime,
)
from core_engine.backend.store import Order
from core_engine.exceptions import ObjectNotFound
from core_engine.schemas.records import FlowRun
from core_engine.schemas.states import DEFAULT_NAMES, State, StateType

_STATE_COLUMNS = "state_id, ordinal, state_type, state_name, state_message, state_time, state_data, state_details"
_COLUMNS = f"id, {_STATE_COLUMNS}, {', '.join(FLOW_RUN_FIELDS)}"
_MIN_PREFIX = 4
_CANDIDATES = 5


def flow_key(db: sqlite3.Connection, id: UUID) -> int | None:
    """Returns the key of a flow run, None when there is no such run."""
    row = db.execute("SELECT key FROM flow_run WHERE id = ?", (id.bytes,)).fetchone()
    return None if row is None else int(row[0])


def read_flow_run(db: sqlite3.Connection, id: UUID) -> FlowRun | None:
    """See ``Store.read_flow_run``."""
    row = db.execute(f"SELECT {_COLUMNS} FROM flow_run WHERE id = ?", (id.bytes,)).fetchone()
    return None if row is None else _flow_run(row)


def read_flow_runs(
    db: sqlite3.Connection,
    *,
    name: str | None,
    flow_name: str | None,
    state_types: Collection[StateType] | None,
    state_names: Collection[str] | None,
    tags: Collection[str] | None,
    parent_task_run_id: UUID | None,
    since: float | None,
    before: float | None,
    order: Order,
    limit: int | None,
    offset: int,
) -> list[FlowRun]:
    """See ``Store.read_flow_runs``."""
    where = _Conditions()
    where.equal("name", name)
    where.equal("flow_name", flow_name)
    where.equal("parent_task_run_id", None if parent_task_run_id is None else parent_task_run_id.bytes)
    where.add("created >= ?", since)
    where.add("created < ?", before)
    if state_types is not None:
        where.among("state_type", [TYPE_CODES[StateType(type)] for type in state_types])
    if state_names is not None:
        where.among(f"coalesce(state_name, {_default_name_sql()})", list(state_names))
    for tag in tags or ():
        where.add("EXISTS (SELECT 1 FROM json_each(tags) WHERE json_each.value = ?)", tag)
    direction = "DESC" if order == "desc" else "ASC"
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM flow_run {where.sql()} ORDER BY created {direction}, key {direction} LIMIT ? OFFSET ?",
        [*where.values, -1 if limit is None else limit, offset],
    )
    return [_flow_run(row) for row in rows]


class _Conditions:
    """The conditions of a query, with the values that they bind."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.values: list[Any] = []

    def add(self, part: str, value: Any) -> None:
        if value is not None:
            self._parts.append(part)
            self.values.append(value)

    def equal(self, column: str, value: Any) -> None:
        self.add(f"{column} = ?", value)

    def among(self, column: str, values: list[Any]) -> None:
        self._parts.append(f"{column} IN ({', '.join('?' * len(values))})")
        self.values += values

    def sql(self) -> str:
        return f"WHERE {' AND '.join(self._parts)}" if self._parts else ""


def _default_name_sql() -> str:
    whens = " ".join(f"WHEN {code} THEN '{DEFAULT_NAMES[type]}'" for code, type in enumerate(TYPES))
    return f"CASE state_type {whens} END"


def resolve_flow_run_id(db: sqlite3.Connection, text: str) -> UUID:
    """See ``Store.resolve_flow_run_id``."""
    text = text.strip()
    named = db.execute(
        "SELECT id, name FROM flow_run WHERE name = ? ORDER BY created DESC LIMIT ?", (text, _CANDIDATES + 1)
    ).fetchall()
    return the_one_meant(text, [(UUID(bytes=id), name) for id, name in named or _by_prefix(db, text)])


def the_one_meant(text: str, found: Sequence[tuple[UUID, str]]) -> UUID:
    """Returns the id of the only (id, name) in `found`, the flow runs that `text` may mean, newest first.

    Raises:
        ObjectNotFound: There is none, or more than one.
    """
    if len(found) == 1:
        return found[0][0]
    if not found:
        raise ObjectNotFound(
            f"No flow run is named {text!r}, and no id begins with it. `core-engine runs` lists what there is."
        )
    listed = ", ".join(f"{id} ({name})" for id, name in found[:_CANDIDATES])
    more = " and others" if len(found) > _CANDIDATES else ""
    raise ObjectNotFound(f"Several flow runs are meant by {text!r}: {listed}{more}. Give more of the id.")


def _by_prefix(db: sqlite3.Connection, text: str) -> list[Any]:
    digits = digits_of_id(text)
    if digits is None:
        return []
    low, high = bytes.fromhex(digits.ljust(32, "0")), bytes.fromhex(digits.ljust(32, "f"))
    query = "SELECT id, name FROM flow_run WHERE id BETWEEN ? AND ? ORDER BY created DESC LIMIT ?"
    return db.execute(query, (low, high, _CANDIDATES + 1)).fetchall()


def digits_of_id(text: str) -> str | None:
    """Returns the hexadecimal digits of an id or of the beginning of one, None when `text` is neither."""
    digits = text.replace("-", "").lower()
    if not _MIN_PREFIX <= len(digits) <= 32 or any(digit not in "0123456789abcdef" for digit in digits):
        return None
    return digits


def _flow_run(row: tuple[Any, ...]) -> FlowRun:
    id, state_id, ordinal, type, name, message, time, data, details, *fields = row
    values = {field: read_flow_run_field(field, value) for field, value in zip(FLOW_RUN_FIELDS, fields, strict=True)}
    run_id = UUID(bytes=id)
    state = None if type is None else flow_state(run_id, state_id, ordinal, type, name, message, time, data, details)
    return FlowRun(id=run_id, state=state, **values)


def flow_state(
    run_id: UUID,
    id: bytes,
    ordinal: int,
    type: int,
    name: str | None,
    message: str | None,
    time: float,
    data: str | None,
    details: str | None,
) -> State:
    """Makes the state of a flow run from its columns."""
    state = State(TYPES[type], name, message, read_data(data), to_datetime(time), read_details(details), UUID(bytes=id))
    # The timestamp as it was stored: going through a datetime would round it to microseconds.
    state._time = time
    state._ordinal = ordinal
    state.state_details.flow_run_id = run_id
    return state


def read_flow_states(db: sqlite3.Connection, key: int, run_id: UUID) -> list[State]:
    """Returns every state of a flow run, in order."""
    rows = db.execute(
        "SELECT id, ordinal, type, name, message, time, data, details FROM flow_run_state WHERE flow_key = ? "
        "ORDER BY ordinal",
        (key,),
    )
    return [flow_state(run_id, *row) for row in rows]
