"""Seeing to it that a database file is there, is ours, and has the tables of this version.

The usual case costs a few reads. Creation and migration happen under a file lock, so that fifty processes that start
at once on an empty home make one database; nothing is ever written to a file that is not understood.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from core_engine.backend.connections import WriteConnection, connect, translated
from core_engine.backend.gates import gate_path
from core_engine.backend.schema import APPLICATION_ID, REVISION, REVISIONS, TABLES
from core_engine.backend.transactions import writing
from core_engine.exceptions import DatabaseDamaged, DatabaseTooNew, StoreUnavailable


def prepare_database(path: Path) -> None:
    """Makes the database at `path` when it is missing, and migrates it when it is older.

    Raises:
        DatabaseDamaged: The file is no database, is damaged, or belongs to another program.
        DatabaseTooNew: A later version made it.
        StoreUnavailable: It cannot be read or written.
    """
    if _revision_of(path) == REVISION:
        return
    with _locked(path):
        # Another process may have done it while this one waited.
        revision = _revision_of(path)
        if revision is None:
            with translated(path), closing(connect(path, gated=False)) as db:
                _create(db)
        elif revision != REVISION:
            from core_engine.backend.migrations import migrate

            with translated(path):
                migrate(path)


def _revision_of(path: Path) -> str | None:
    """Returns the revision of the database at `path`, None when there is none yet."""
    if not _is_there(path):
        return None
    with translated(path), closing(connect(path, gated=False)) as db:
        if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            # A process that died while it made the file leaves one without tables.
            if db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None:
                return None
            raise DatabaseDamaged(
                f"The database {path} belongs to another program: it holds tables that core_engine did not make. "
                "Nothing was changed. Set CORE_ENGINE_DATABASE_PATH to another file."
            )
        revision = _recorded_revision(db, path)
    if revision not in REVISIONS:
        raise _too_new(path, revision)
    return revision


def check_revision(db: sqlite3.Connection, path: Path) -> None:
    """Checks that a database can be read as it is, by a version that cannot migrate it there.

    Raises:
        DatabaseDamaged, DatabaseTooNew, StoreUnavailable: It cannot.
    """
    revision = _recorded_revision(db, path)
    if revision not in REVISIONS:
        raise _too_new(path, revision)
    if revision != REVISION:
        raise StoreUnavailable(
            f"The database {path} was made by an earlier version of core_engine, and may not be written by this user, "
            "so it cannot be brought up to date."
        )


def _too_new(path: Path, revision: str) -> DatabaseTooNew:
    return DatabaseTooNew(
        f"The database {path} was made by a later version of core_engine (its revision is {revision!r}, this "
        f"version knows up to {REVISION!r}). Nothing was changed. Upgrade core_engine, "
        "or set CORE_ENGINE_HOME to another folder."
    )


def _is_there(path: Path) -> bool:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreUnavailable(_not_usable(path, error.strerror or str(error))) from error
    if not os.access(path, os.R_OK | os.W_OK):
        raise StoreUnavailable(_not_usable(path, "it may not be read and written by this user"))
    return size > 0


def _not_usable(path: Path, reason: str) -> str:
    return (
        f"The database {path} cannot be used: {reason}. Change the permissions, "
        "or set CORE_ENGINE_HOME to a folder that you may write."
    )


def _recorded_revision(db: sqlite3.Connection, path: Path) -> str:
    try:
        rows = db.execute("SELECT version_num FROM alembic_version, counter").fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        rows = []
    if len(rows) != 1:
        raise DatabaseDamaged(
            f"The database {path} is damaged: it does not say which version made it. Nothing was changed. "
            "Move the file away to start with an empty one, or put a copy of it back."
        )
    return str(rows[0][0])


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the gate of the database at `path` while it is created or migrated; waits for whoever holds it."""
    lock = gate_path(path)
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreUnavailable(_not_usable(path, f"{lock}: {error.strerror or error}")) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _create(db: WriteConnection) -> None:
    # Before the first table: afterwards it would take a VACUUM. Lets deletes give space back (D31).
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    # One transaction: a process that dies in here leaves a file without tables, which the next one fills.
    with writing(db):
        for statement in TABLES:
            db.execute(statement)
        db.execute("INSERT INTO counter (id, seq, next_key) VALUES (1, 0, 1)")
        db.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        db.execute("INSERT INTO alembic_version VALUES (?)", (REVISION,))
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
