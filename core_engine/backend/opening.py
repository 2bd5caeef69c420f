"""Creating and checking a database file before it is used."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from core_engine.backend.connections import connect, translated, writing
from core_engine.backend.schema import APPLICATION_ID, REVISION, TABLES


def prepare_database(path: Path) -> None:
    """Sees to it that the database at `path` exists and has the tables that this version works with."""
    with translated(path):
        db = connect(path)
        try:
            if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                _create(db)
        finally:
            db.close()


def _create(db: sqlite3.Connection) -> None:
    # Before the first table: afterwards it would take a VACUUM. Lets deletes give space back (D31).
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    with writing(db):
        for statement in TABLES:
            db.execute(statement)
        db.execute("INSERT INTO counter (id, seq, next_key) VALUES (1, 0, 1)")
        db.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        db.execute("INSERT INTO alembic_version VALUES (?)", (REVISION,))
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
