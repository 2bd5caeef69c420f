import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from core_engine.cli.app import app
from core_engine.utilities.importing import load_script_as_module

SCRIPT = Path(__file__).parents[2] / "examples" / "source_census.py"
GOOD = """\
import os, sys
from os.path import join
from . import sibling


class A:
    def method(self):
        if self:
            return 1
        elif not self:
            return 2
        else:
            for _ in ():
                pass


async def function():
    match 1:
        case 1:
            pass
"""
FILES = {
    "good.py": GOOD.encode(),
    "package/__init__.py": b"",
    "package/module.py": b"import os\n\n\ndef f():\n    return 1\n",
    "bad_syntax.py": b"def (:\n",
    "bad_encoding.py": b"# coding: utf-8\nx = '\xff'\n",
    "null.py": b"x = 1\0",
    "notes.txt": b"no Python",
    "__pycache__/cached.py": b"x = 1\n",
}
UNPARSABLE = 3
ALL = 6


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "broken_link.py").symlink_to(root / "nowhere.py")
    return root


@pytest.fixture
def script() -> ModuleType:
    return load_script_as_module(SCRIPT)


def census(root: Path, *arguments: str) -> tuple[dict[str, Any], str, Path]:
    """Takes a census with the command line; returns the run's record, what was printed, and the page's path."""
    page = root.parent / "out" / "page.html"
    parameters = ["-p", f"roots={json.dumps([str(root)])}", "-p", f"output={page}"]
    result = CliRunner().invoke(app, ["run", f"{SCRIPT}:census", *parameters, "--json", *arguments])
    assert result.exit_code == 0, result.output
    printed, _, record = result.stdout.partition("\n{\n")
    return json.loads("{" + record), printed, page


def counts(record: dict[str, Any], task: str) -> tuple[int, int, int]:
    """Returns (total, failed, cached) of a task."""
    found = next(counted for counted in record["task_runs"] if counted["task"] == task)
    return found["total"], found["failed"], found["cached"]


@pytest.mark.parametrize("runner", ["concurrent", "sequential"])
def test_a_file_that_cannot_be_parsed_fails_its_own_task_run_only(root: Path, runner: str) -> None:
    record, printed, _ = census(root, "--runner", runner)
    assert record["state"]["type"] == "COMPLETED"
    assert counts(record, "read_and_parse") == (ALL, UNPARSABLE, 0)
    assert counts(record, "measure") == (ALL, 0, 0)
    assert f"{ALL} files, 25 lines, 3 functions" in printed


def test_the_traceback_of_such_a_file_is_in_the_log_of_its_run(root: Path) -> None:
    record, _, _ = census(root)
    logs = CliRunner().invoke(app, ["logs", record["id"], "--task", "read_and_parse", "--level", "error"]).output
    assert "Traceback" in logs
    assert "bad_syntax.py" in logs


def test_a_second_census_reads_only_what_has_changed(root: Path) -> None:
    census(root)
    changed = root / "good.py"
    changed.write_text("x = 1\n")
    os.utime(changed, ns=(1, 1))
    record, printed, _ = census(root)
    assert counts(record, "read_and_parse") == (ALL, UNPARSABLE, ALL - UNPARSABLE - 1)
    assert f"{ALL} files, 6 lines, 1 functions" in printed


def test_the_page_shows_the_timeline_and_the_charts(root: Path) -> None:
    record, printed, page = census(root)
    html = page.read_text()
    for told in (
        record["name"],
        "Completed",
        "Most imported modules",
        'id="timeline-data"',
        "rank / top",
        "bad_syntax.py",
    ):
        assert told in html
    assert str(page) in printed


def test_the_limit_holds(root: Path) -> None:
    record, _, _ = census(root, "-p", "limit=2")
    assert counts(record, "read_and_parse")[0] == 2


def test_no_files_and_no_failures_are_right_too(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    _, printed, page = census(empty)
    assert "0 files, 0 lines, 0 functions" in printed
    assert page.exists()
    (empty / "one.py").write_text("x = 1\n")
    record, _, _ = census(empty)
    assert counts(record, "read_and_parse") == (1, 0, 0)


def test_the_reductions_form_a_tree(tmp_path: Path) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(70):
        (root / f"file_{number}.py").write_text("x = 1\n" * number)
    record, printed, _ = census(root)
    assert counts(record, "merge")[0] == 3 + 1
    assert f"70 files, {sum(range(70)):,} lines" in printed


def test_an_outline_has_what_is_measured(script: ModuleType, root: Path) -> None:
    path = root / "good.py"
    source = script.SourceFile(str(path), "good.py", 0, 0)
    outline = script.read_and_parse.fn(source)
    assert outline["lines"] == GOOD.count("\n")
    assert sorted(outline["functions"]) == [("function", 4), ("method", 8)]
    assert outline["imports"] == ["os", "sys", "os.path"]
    assert outline["depth"] == 4  # class, method, if (elif is no deeper), for
    assert script.measure.fn(source, outline).imports == {"os": 1, "sys": 1}


def test_looking_for_files_is_tried_again_when_one_vanishes(
    script: ModuleType, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def with_a_vanishing_file(folder: Path) -> list[Path]:
        tries.append(folder)
        return [root / "nowhere.py"] if len(tries) == 1 else [root / "good.py"]

    monkeypatch.setattr(script, "_python_files", with_a_vanishing_file)
    monkeypatch.setattr(script, "find_files", script.find_files.with_options(retry_delay_seconds=0))
    total, _ = script.census(roots=[root], output=tmp_path / "page.html")
    assert (len(tries), total.files) == (2, 1)


def test_the_roots_are_the_interpreters_own(script: ModuleType) -> None:
    roots = script.interpreter_roots()
    assert len(set(roots)) == len(roots)
    assert any((root / "os.py").is_file() for root in roots)
