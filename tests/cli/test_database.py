import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import FLOWS, Cli, until


def test_the_path_is_shown_without_making_a_database(cli: Cli, home: Path) -> None:
    assert cli("db", "path").stdout.strip() == str(home / "core_engine.db")
    assert cli.json("db", "path") == {"path": str(home / "core_engine.db"), "exists": False, "size_bytes": None}
    assert not home.exists()


def test_migrate_makes_a_database_that_is_missing(cli: Cli, home: Path) -> None:
    assert "up to date" in cli("db", "migrate").stdout
    assert (home / "core_engine.db").exists()


def test_reset_asks_and_deletes(start: Callable[..., subprocess.Popen[str]], cli: Cli, home: Path) -> None:
    # In processes of their own: this one would keep the database open.
    assert start("run", f"{FLOWS}:adding", "-p", "a=1").wait() == 0
    cli("db", "reset", input="n\n", code=1)
    assert (home / "core_engine.db").exists()
    assert "Deleted" in cli("db", "reset", "--yes").stdout
    assert not (home / "core_engine.db").exists()
    assert "no database" in cli("db", "reset", "--yes").stdout


def test_reset_refuses_while_a_process_uses_the_database(
    start: Callable[..., subprocess.Popen[str]], cli: Cli, home: Path, tmp_path: Path
) -> None:
    process = start("run", f"{FLOWS}:waiting", "-p", f"path={tmp_path / 'file'}")
    until((tmp_path / "file").exists)
    assert "in use by" in cli("db", "reset", "--yes", code=1).stderr
    (tmp_path / "file").unlink()
    assert process.wait() == 0


@pytest.mark.parametrize("command", [["runs"], ["db", "migrate"]])
def test_a_damaged_database_is_told_in_a_line_and_left_alone(cli: Cli, home: Path, command: list[str]) -> None:
    home.mkdir()
    database = home / "core_engine.db"
    database.write_bytes(b"this is no database" * 1000)
    result = cli(*command, code=1)
    assert str(database) in result.stderr
    assert "Traceback" not in result.stderr
    assert database.read_bytes() == b"this is no database" * 1000


def test_a_database_of_another_program_is_not_written(cli: Cli, home: Path) -> None:
    home.mkdir()
    with sqlite3.connect(home / "core_engine.db") as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    assert "core_engine.db" in cli("runs", code=1).stderr
