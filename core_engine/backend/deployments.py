"""Deployments: flows that another process can load, and the claims by which one process takes a run of one."""

from __future__ import annotations

import sqlite3
from typing import Any
from uuid import UUID

from core_engine.backend.connections import WriteConnection
from core_engine.backend.encoding import from_json, to_datetime, to_json, to_seconds
from core_engine.backend.transactions import writing
from core_engine.schemas.records import Deployment

_COLUMNS = "id, name, flow_name, entrypoint, parameters, created"


def write_deployment(db: WriteConnection, deployment: Deployment) -> UUID:
    """See ``Store.write_deployment``."""
    row = (
        deployment.id.bytes,
        deployment.name,
        deployment.flow_name,
        deployment.entrypoint,
        to_json(deployment.parameters),
        to_seconds(deployment.created),
    )
    with writing(db):
        db.execute(
            f"INSERT INTO deployment ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
            "flow_name = excluded.flow_name, entrypoint = excluded.entrypoint, parameters = excluded.parameters",
            row,
        )
        (id,) = db.execute("SELECT id FROM deployment WHERE name = ?", (deployment.name,)).fetchone()
    return UUID(bytes=id)


def read_deployment(db: sqlite3.Connection, id: UUID) -> Deployment | None:
    """See ``Store.read_deployment``."""
    row = db.execute(f"SELECT {_COLUMNS} FROM deployment WHERE id = ?", (id.bytes,)).fetchone()
    return None if row is None else _deployment(row)


def read_deployments(db: sqlite3.Connection, name: str | None) -> list[Deployment]:
    """See ``Store.read_deployments``."""
    query, values = f"SELECT {_COLUMNS} FROM deployment", []
    if name is not None:
        query, values = f"{query} WHERE name = ?", [name]
    return [_deployment(row) for row in db.execute(f"{query} ORDER BY name", values)]


def _deployment(row: tuple[Any, ...]) -> Deployment:
    id, name, flow_name, entrypoint, parameters, created = row
    return Deployment(
        id=UUID(bytes=id),
        name=name,
        flow_name=flow_name,
        entrypoint=entrypoint,
        parameters=from_json(parameters),
        created=to_datetime(created),
    )


def claim_flow_run(db: WriteConnection, id: UUID, owner: str, expected_owner: str | None) -> bool:
    """See ``Store.claim_flow_run``."""
    with writing(db):
        claimed = db.execute(
            "UPDATE flow_run SET owner = ? WHERE id = ? AND owner IS ?", (owner, id.bytes, expected_owner)
        )
    return claimed.rowcount > 0
