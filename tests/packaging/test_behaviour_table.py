"""The script that shows which test holds which behaviour, and the plug-in that feeds it."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "behaviours.py"


def write_report(path: Path, **outcomes_by_behaviour: str) -> Path:
    """Write a report with one test for each behaviour; `_` stands for the dash of an id."""
    tests = [
        {"test": f"tests/test_it.py::test_{name}", "behaviours": [name.replace("_", "-")], "outcome": outcome}
        for name, outcome in outcomes_by_behaviour.items()
    ]
    path.write_text(json.dumps({"tests": tests}))
    return path


def run_script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=30)


def test_the_table_shows_number_result_and_test(tmp_path: Path) -> None:
    done = run_script(write_report(tmp_path / "report.json", FLOW_DEF_1="passed"))
    assert done.returncode == 0
    row = next(line for line in done.stdout.splitlines() if line.startswith("FLOW-DEF-1 "))
    assert row.split() == ["FLOW-DEF-1", "core", "due", "passed", "tests/test_it.py::test_FLOW_DEF_1"]
    assert done.stdout.splitlines()[-1] == "1 passed, 0 failed, 0 skipped"


def test_the_check_fails_for_a_line_that_is_due_and_has_no_test(tmp_path: Path) -> None:
    done = run_script("--check", write_report(tmp_path / "report.json", FLOW_DEF_1="passed"))
    assert done.returncode == 1
    assert "FLOW-DEF-2: is due, but no test names it" in done.stderr
    assert "FLOW-DEF-1:" not in done.stderr


def test_the_check_fails_for_a_line_that_is_due_and_was_skipped(tmp_path: Path) -> None:
    done = run_script("--check", write_report(tmp_path / "report.json", FLOW_DEF_1="skipped"))
    assert "FLOW-DEF-1: is due, but every test of it was skipped" in done.stderr


def test_the_check_fails_for_a_failed_test_of_a_line_that_is_not_due(tmp_path: Path) -> None:
    done = run_script("--check", write_report(tmp_path / "report.json", DASK_1="failed"))
    assert "DASK-1: failed in tests/test_it.py::test_DASK_1" in done.stderr


def test_an_unknown_number_is_an_error(tmp_path: Path) -> None:
    done = run_script(write_report(tmp_path / "report.json", FLOW_DEF_999="passed"))
    assert done.returncode == 2
    assert "names 'FLOW-DEF-999', which behaviours.txt does not list" in done.stderr
    assert done.stdout == ""


def run_pytest(folder: Path, test_file: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one test file with the suite's own plug-ins in a session of its own."""
    (folder / "test_it.py").write_text(test_file)
    plugins = ("-p", "tests.support.behaviours", "-p", "tests.support.leaks")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", *plugins]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, *arguments, "test_it.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=50
    )


TESTS = """
import pytest

pytestmark = pytest.mark.behaviour("I1")

@pytest.mark.behaviour("FLOW-DEF-1", "FLOW-DEF-2")
def test_good():
    pass

@pytest.mark.behaviour("FLOW-DEF-3")
def test_bad():
    assert False

@pytest.mark.behaviour("FLOW-DEF-4")
@pytest.mark.skip
def test_later():
    pass
"""


def test_the_report_brings_outcomes_home_from_worker_processes(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = behaviour: ids\n")
    done = run_pytest(tmp_path, TESTS, "-n", "1", "--behaviour-report=out/report.json")
    assert done.returncode == 1, done.stderr
    tests = json.loads((tmp_path / "out" / "report.json").read_text())["tests"]
    assert {test["test"].partition("::")[2]: (test["outcome"], test["behaviours"]) for test in tests} == {
        "test_good": ("passed", ["FLOW-DEF-1", "FLOW-DEF-2", "I1"]),
        "test_bad": ("failed", ["FLOW-DEF-3", "I1"]),
        "test_later": ("skipped", ["FLOW-DEF-4", "I1"]),
    }


UNKNOWN_ID = """
import pytest

@pytest.mark.behaviour("FLOW-DEF-999")
def test_it():
    pass
"""


def test_a_test_that_names_an_unknown_number_fails(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, UNKNOWN_ID)
    assert done.returncode == 1
    assert "The marker names FLOW-DEF-999" in done.stdout


LEAKS = """
import subprocess, sys, threading

release = threading.Event()

def test_thread():
    threading.Thread(target=release.wait, name="stray", daemon=True).start()

def test_process():
    release.set()
    subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

def test_allowed_threads():
    for name in ("core-engine-loop", "core-engine-journal writer", "core-engine-idle-3"):
        threading.Thread(target=threading.Event().wait, name=name, daemon=True).start()

def test_idle_thread_that_got_work():
    idle = next(thread for thread in threading.enumerate() if thread.name.startswith("core-engine-idle"))
    idle.name = "busy"
"""


def test_a_test_that_leaves_a_thread_or_a_process_behind_fails(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, LEAKS, "--leak-grace-seconds=0.2", "-W", "ignore")
    assert done.returncode == 1
    assert "The test left behind: thread 'stray' (daemon)" in done.stdout
    assert "The test left behind: process" in done.stdout
    assert "The test left behind: thread 'busy' (daemon)" in done.stdout
    assert "4 passed, 3 errors" in done.stdout
