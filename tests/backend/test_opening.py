"""First starts, and files that are not what they should be. Nothing is ever written to a file that is not ours."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from core_engine.backend import migrations, opening
from core_engine.backend.connections import connect
from core_engine.backend.schema import APPLICATION_ID, REVISION
from core_engine.backend.sqlite import SqliteStore
from core_engine.exceptions import DatabaseDamaged, DatabaseTooNew, StoreError, StoreUnavailable
from tests.backend.builders import TaskRunScript, recorded


def described(path: Path) -> dict[str, object]:
    """What the tables and indexes of a database are, whoever made them and however they are written."""
    with closing(sqlite3.connect(path)) as db:
        made = db.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
        found: dict[str, object] = {
            pragma: db.execute(f"PRAGMA {pragma}").fetchone() for pragma in ("application_id", "auto_vacuum")
        }
        for type, name, sql in made:
            if type == "table":
                without_rowid = "WITHOUT ROWID" in sql.upper()
                found[name] = (db.execute(f"PRAGMA table_info({name})").fetchall(), without_rowid)
            else:
                where = sql.upper().partition(" WHERE ")[2]
                found[name] = (db.execute(f"PRAGMA index_xinfo({name})").fetchall(), "UNIQUE" in sql.upper(), where)
        found["revision"] = db.execute("SELECT * FROM alembic_version").fetchall()
        found["counter rows"] = db.execute("SELECT * FROM counter").fetchall()
        found["journal"] = db.execute("PRAGMA journal_mode").fetchone()
    return found


def test_the_tables_of_a_first_start_are_those_that_the_migrations_lead_to(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "made.db").close()
    migrations.migrate(tmp_path / "migrated.db")
    assert described(tmp_path / "made.db") == described(tmp_path / "migrated.db")
    store = SqliteStore(tmp_path / "migrated.db", synchronous="off")
    _, tasks = recorded(store, count=1)
    store.apply(TaskRunScript(tasks).done())
    store.close()


@pytest.mark.behaviour("D30")
def test_alembic_and_sqlalchemy_are_not_imported_while_the_revision_is_the_same(path: Path) -> None:
    code = (
        "import sys; from core_engine.backend.sqlite import SqliteStore; SqliteStore(sys.argv[1]).close(); "
        "SqliteStore(sys.argv[1]).close(); print([name for name in ('alembic', 'sqlalchemy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=50)
    assert result.stdout == "[]\n", result.stderr


@pytest.mark.behaviour("D30")
def test_an_older_database_is_migrated_once_and_keeps_its_rows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(path, synchronous="off")
    run, _ = recorded(store)
    store.close()
    versions = path.parent / "migrations" / "versions"
    shutil.copytree(migrations.FOLDER, versions.parent, ignore=shutil.ignore_patterns("__pycache__"))
    (versions / "0002_next.py").write_text(
        "from alembic import op\nimport sqlalchemy as sa\nrevision = '0002'\ndown_revision = '0001'\n"
        "def upgrade():\n    op.add_column('flow_run', sa.Column('colour', sa.Text()))\n"
    )
    monkeypatch.setattr(migrations, "FOLDER", versions.parent)
    monkeypatch.setattr(opening, "REVISIONS", ("0001", "0002"))
    monkeypatch.setattr(opening, "REVISION", "0002")
    for _ in range(2):
        opening.prepare_database(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT colour FROM flow_run").fetchall() == [(None,)]
        assert db.execute("SELECT id FROM flow_run").fetchall() == [(run.id.bytes,)]
        assert db.execute("SELECT * FROM alembic_version").fetchall() == [("0002",)]


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SqliteStore(path, synchronous="off").close()
    before = described(path)
    versions = path.parent / "migrations" / "versions"
    shutil.copytree(migrations.FOLDER, versions.parent, ignore=shutil.ignore_patterns("__pycache__"))
    (versions / "0002_broken.py").write_text(
        "from alembic import op\nimport sqlalchemy as sa\nrevision = '0002'\ndown_revision = '0001'\n"
        "def upgrade():\n    op.add_column('flow_run', sa.Column('colour', sa.Text()))\n"
        "    raise RuntimeError('half')\n"
    )
    monkeypatch.setattr(migrations, "FOLDER", versions.parent)
    monkeypatch.setattr(opening, "REVISIONS", ("0001", "0002"))
    monkeypatch.setattr(opening, "REVISION", "0002")
    with pytest.raises(RuntimeError, match="half"):
        opening.prepare_database(path)
    assert described(path) == before


@pytest.mark.parametrize("content", [b"a text file, not a database\n" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DatabaseDamaged, match="damaged or is not a database") as raised:
        SqliteStore(path)
    assert str(path) in str(raised.value)
    assert "Move the file away" in str(raised.value)
    assert path.read_bytes() == content


def test_the_database_of_another_program_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE recipes (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(DatabaseDamaged, match="belongs to another program"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_newer_database_is_refused_and_left_as_it_is(path: Path) -> None:
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()
    with pytest.raises(DatabaseTooNew, match=r"later version of core_engine \(its revision is '9999'"):
        SqliteStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("statement", ["DROP TABLE alembic_version", "DELETE FROM counter"])
def test_a_database_that_lost_what_says_its_version_is_refused(path: Path, statement: str) -> None:
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)
    with pytest.raises(DatabaseDamaged, match="does not say which version made it"):
        SqliteStore(path)


def test_damaged_pages_are_said_to_be_so_when_they_are_read(path: Path) -> None:
    store = SqliteStore(path, synchronous="off")
    run, tasks = recorded(store, count=2000)
    store.apply([entry for index in range(2000) for entry in TaskRunScript(tasks, index).done()])
    store.close()
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = b"\x5a" * (len(content) - len(content) // 2)
    path.write_bytes(content)
    with pytest.raises(DatabaseDamaged, match="damaged"):
        damaged = SqliteStore(path)
        try:
            damaged.read_task_runs(run.id)
            damaged.read_logs()
        finally:
            damaged.close()


def test_an_empty_file_and_one_without_tables_are_filled(path: Path) -> None:
    path.touch()
    SqliteStore(path).close()
    other = path.with_name("other.db")
    with closing(connect(other)) as db:
        # What a process leaves that was killed while it made the file.
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
    SqliteStore(other).close()
    assert described(path) == described(other)


def test_a_first_start_that_is_killed_half_way_is_finished_by_the_next(path: Path) -> None:
    code = (
        "import os, sys; from core_engine.backend import opening, sqlite\n"
        "opening.TABLES = (*opening.TABLES[:5], 'SELECT kill_me()')\n"
        "original = opening.connect\n"
        "def connect(*a, **k):\n"
        "    db = original(*a, **k); db.create_function('kill_me', 0, lambda: os.kill(os.getpid(), 9)); return db\n"
        "opening.connect = connect\n"
        "sqlite.SqliteStore(sys.argv[1])"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=50)
    assert result.returncode == -9, result.stderr
    store = SqliteStore(path)
    recorded(store)
    store.close()
    assert described(path)["revision"] == [(REVISION,)]
    assert described(path)["application_id"] == (APPLICATION_ID,)


def as_nobody(code: str, *arguments: object) -> str:
    """Runs `code` as a user without rights; returns what it prints. Skips where this user cannot become another."""
    if os.geteuid() == 0:
        code = "import os; os.setgid(65534); os.setuid(65534)\n" + code
    code = "import core_engine.backend.embedded, core_engine.settings\n" + code
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=50
    )
    return result.stdout + result.stderr


_OPENS = """
import sys
from pathlib import Path
from core_engine.backend.sqlite import SqliteStore
from core_engine.exceptions import StoreUnavailable
try:
    SqliteStore(sys.argv[1])
except StoreUnavailable as error:
    print("unavailable:", error)
"""


@pytest.fixture
def readable() -> Iterator[Path]:
    """A database file to be, in a folder that others may read but not write."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "core_engine.db"


def test_a_database_that_may_not_be_written_is_said_to_be_so(readable: Path) -> None:
    SqliteStore(readable).close()
    readable.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    output = as_nobody(_OPENS, readable)
    assert "unavailable: " in output
    assert str(readable) in output


def test_a_folder_that_may_not_be_written_is_said_to_be_so(readable: Path) -> None:
    output = as_nobody(_OPENS, readable)
    assert "unavailable: " in output
    assert "CORE_ENGINE_HOME" in output


def test_a_folder_that_may_not_be_entered_is_said_to_be_so(readable: Path) -> None:
    readable.parent.chmod(0o700)
    assert "unavailable: " in as_nobody(_OPENS, readable)


def test_a_store_that_is_closed_says_so_and_may_be_closed_again(path: Path) -> None:
    store = SqliteStore(path)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.read_flow_runs()
    with pytest.raises(StoreError, match="closed"):
        store.apply([])
    with pytest.raises(StoreError, match="closed"):
        store.data_version()


def test_a_path_with_odd_characters_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a b%20?mode=ro#ü'\".db"
    store = SqliteStore(path)
    recorded(store)
    store.close()
    assert path.exists()


def test_a_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be used: .*No such file"):
        SqliteStore(tmp_path / "missing" / "core_engine.db")
