"""runs, show, logs and page, on runs that were really made."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core_engine.backend import open_backend
from core_engine.settings import temporary_settings
from tests.cli.conftest import FLOWS, ROOT, Cli


def test_runs_lists_the_newest_first_with_filters(cli: Cli) -> None:
    first = cli.run("failing", code=1)
    second = cli.run("some_fail")
    assert [run["id"] for run in cli.json("runs")] == [second["id"], first["id"]]
    assert [run["id"] for run in cli.json("runs", "list", "--state", "failed")] == [first["id"]]
    assert [run["id"] for run in cli.json("runs", "--flow", "some-fail")] == [second["id"]]
    assert [run["id"] for run in cli.json("runs", "--limit", "1")] == [second["id"]]
    assert cli.json("runs", "--since", "2999-01-01") == []
    assert len(cli.json("runs", "--since", "1h")) == 2


def test_runs_shows_a_table_for_people(cli: Cli) -> None:
    record = cli.run("failing", code=1)
    head, line = cli("runs").stdout.splitlines()
    assert head.split() == ["ID", "NAME", "FLOW", "STATE", "STARTED", "TOOK"]
    assert line.split()[:4] == [record["id"][:8], record["name"], "failing", "Failed"]


def test_runs_leaves_out_subflows_unless_asked(cli: Cli) -> None:
    record = cli.run("outer")
    assert [run["id"] for run in cli.json("runs")] == [record["id"]]
    assert sorted(run["flow_name"] for run in cli.json("runs", "--subflows")) == ["inner", "inner", "outer"]


def test_no_runs_is_told(cli: Cli) -> None:
    result = cli("runs")
    assert result.stdout == ""
    assert "no such flow runs" in result.stderr


def test_show_tells_states_tasks_failures_and_subflows(cli: Cli) -> None:
    cli.run("some_fail", "-p", "count=9")
    record = cli.json("runs")[0]
    text = cli("show", record["id"][:8]).stdout
    for told in ("Pending", "Running", "Completed", "only_even", "only_even-1", "1 is odd", "count=9"):
        assert told in text
    shown = cli.json("show", record["name"])
    assert [state["name"] for state in shown["states"]] == ["Pending", "Running", "Completed"]
    counts = {(count["task"], count["state"]): count["count"] for count in shown["task_runs"]}
    assert counts == {("only_even", "Completed"): 5, ("only_even", "Failed"): 4}
    cli.run("outer")
    assert "inner" in cli("show", cli.json("runs")[0]["id"]).stdout


@pytest.mark.parametrize("command", ["show", "logs", "cancel", "page"])
def test_a_run_that_is_not_there_is_wrong_usage(cli: Cli, command: str) -> None:
    result = cli(command, "no-such-run", code=2)
    assert "no-such-run" in result.stderr
    assert "Traceback" not in result.stderr


def test_logs_are_shown_with_time_level_and_who(cli: Cli) -> None:
    record = cli.run("talking")
    lines = cli("logs", record["id"]).stdout.splitlines()
    assert any(
        re.match(r"\d\d:\d\d:\d\d\.\d{3} \| INFO    \| Flow run '.*' - the flow speaks$", line) for line in lines
    )
    assert any(line.endswith("| WARNING | Task run 'say-1' - loudly again") for line in lines)


def test_logs_can_be_filtered_by_level_and_task(cli: Cli) -> None:
    record = cli.run("talking")
    warnings = cli("logs", record["id"], "--level", "warning").stdout.splitlines()
    assert [line.rpartition(" - ")[2] for line in warnings] == ["loudly hello", "loudly again"]
    of_task = cli("logs", record["id"], "--task", "say").stdout
    assert "loudly hello" in of_task
    assert "the flow speaks" not in of_task
    of_run = cli("logs", record["id"], "--task", "say-1").stdout
    assert "loudly again" in of_run
    assert "hello" not in of_run


def test_logs_for_programs_are_one_object_a_line(cli: Cli) -> None:
    record = cli.run("talking")
    lines = [json.loads(line) for line in cli("logs", record["id"], "--json").stdout.splitlines()]
    said = next(line for line in lines if line["message"] == "saying hello")
    assert (said["level"], said["who"], said["flow_run_id"]) == ("INFO", "Task run 'say-0'", record["id"])


def test_following_a_run_that_has_ended_shows_its_lines_and_ends(cli: Cli) -> None:
    record = cli.run("talking")
    assert "the flow speaks" in cli("logs", record["id"], "--follow").stdout


def test_a_page_is_written(cli: Cli, tmp_path: Path) -> None:
    record = cli.run("outer")
    target = tmp_path / "run.html"
    assert cli("page", record["id"], "-o", target).stdout.strip() == str(target)
    html = target.read_text()
    for told in (record["name"], "inner / double", "Timeline"):
        assert told in html


def test_old_runs_are_deleted_after_a_question(cli: Cli) -> None:
    cli.run("failing", code=1)
    cli.run("some_fail")
    assert "2 flow runs" in cli("runs", "delete", "--older-than", "0s", "--dry-run").stdout
    cli("runs", "delete", "--older-than", "0s", input="n\n", code=1)
    assert len(cli.json("runs")) == 2
    assert "1 flow run" in cli("runs", "delete", "--older-than", "0s", "--state", "failed", "--yes").stdout
    assert [run["flow_name"] for run in cli.json("runs")] == ["some-fail"]
    assert cli.json("runs", "delete", "--older-than", "1d")["flow_runs"] == []
    assert cli("runs", "delete", "--older-than", "1d", "--yes").stdout == "There is nothing to delete.\n"
    cli("runs", "delete", "--older-than", "0s", input="y\n")
    assert cli.json("runs") == []


# As root everything may be written; without these capabilities root is a user like others.
WITHOUT_RIGHTS = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner"]


def read_only(home: Path) -> None:
    for path in (home, *home.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def without_rights(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run a command that may not write what is read-only, also where the tests run as root."""
    command = [sys.executable, "-m", "core_engine.cli", *map(str, arguments)]
    if os.getuid() == 0:
        command = [*WITHOUT_RIGHTS, *command]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=50)


@pytest.fixture
def shared_home(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with a run, to be made read-only."""
    home = Path(tempfile.mkdtemp(prefix="core-engine-shared-"))
    home.chmod(0o755)
    with temporary_settings({"HOME": str(home)}):
        monkeypatch.setenv("CORE_ENGINE_HOME", str(home))
        cli.run("talking")
        open_backend().close()
    yield home
    for path in (home, *home.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(home)


def test_a_home_that_may_only_be_read_can_be_read(shared_home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in shared_home.rglob("*")}
    read_only(shared_home)

    listed = without_rights("runs", "--json")
    assert listed.returncode == 0, listed.stderr
    (run,) = json.loads(listed.stdout)
    for command, expected in [
        (("show", run["id"]), "talking"),
        (("logs", run["id"]), "the flow speaks"),
        (("why", run["id"]), "ended as Completed"),
    ]:
        done = without_rights(*command)
        assert (done.returncode, expected in done.stdout) == (0, True), done

    assert {path: path.stat().st_mtime_ns for path in shared_home.rglob("*")} == before


def test_commands_that_write_say_that_they_may_not(shared_home: Path) -> None:
    read_only(shared_home)
    for command in (["runs", "delete", "--older-than", "1s", "--yes"], ["run", f"{FLOWS}:adding", "-p", "a=1"]):
        done = without_rights(*command)
        assert done.returncode == 1, done
        assert "CORE_ENGINE_HOME" in done.stderr
        assert "Traceback" not in done.stderr


def test_an_unknown_state_is_an_error_that_lists_states(cli: Cli) -> None:
    cli.run("adding", "-p", "a=1")
    error = cli("runs", "--state", "nope", code=2).stderr
    for part in ("'nope' is not a state", "completed", "TimedOut"):
        assert part in " ".join(error.split())
    assert cli.json("runs", "--state", "timedout") == []
    assert len(cli.json("runs", "--state", "Completed")) == 1


def test_a_state_that_a_flow_named_itself_can_be_asked_for(cli: Cli) -> None:
    cli.run("named_its_state")
    assert [run["state"]["name"] for run in cli.json("runs", "--state", "Delivered")] == ["Delivered"]
