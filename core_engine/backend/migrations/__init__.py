"""Alembic's revisions of the tables. Imported only when a database has another revision than this version (D30).

A revision's file is named by its number; ``core_engine.backend.schema`` names the last one, and lists them all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def migrate(path: Path, target: str = "head") -> None:
    """Brings the database at `path` to the revision `target`, in one transaction.

    The caller holds the creation lock. An empty file gets all tables.
    """
    from alembic import command
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    from core_engine.backend.connections import connect
    from core_engine.backend.transactions import writing

    # The caller holds the gate.
    db = connect(path, gated=False)
    try:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        engine = create_engine("sqlite://", creator=lambda: db, poolclass=StaticPool)
        # Inside, not around: SQLAlchemy's first look at a connection ends with a rollback. The driver begins no
        # transaction of its own in autocommit mode.
        with engine.connect() as connection, writing(db):
            command.upgrade(_config(connection), target)
    finally:
        db.close()


def _config(connection: Any) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
