"""Commands that act on a run of another process."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from core_engine import get_client
from core_engine.concurrency.waiting import step
from runners.concurrent import ASYNC_WINDOW
from tests.cli.conftest import FLOWS, ROOT, Cli, until
from tests.support.promptness import soon

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def waiting(cli: Cli, start: Start, tmp_path: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process whose flow goes on until the file is removed."""
    file = tmp_path / "file"
    process = start("run", f"{FLOWS}:waiting", "-p", f"path={file}")
    until(file.exists)
    # The flow's function may begin before its state is committed.
    until(lambda: [run["state"]["name"] for run in cli.json("runs")] == ["Running"])
    return process, file


def test_a_run_that_is_cancelled_ends_as_cancelled(cli: Cli, waiting: tuple[subprocess.Popen[str], Path]) -> None:
    process, _ = waiting
    run = cli.json("runs")[0]
    assert run["state"]["name"] == "Running"
    assert "Cancelled" in cli("cancel", run["id"][:8], "--wait", "20").stdout
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 3, stderr
    assert cli.json("runs")[0]["state"]["type"] == "CANCELLED"


@pytest.mark.behaviour("FLOW-HOOK-6", "FLOW-HOOK-9", "D2")
def test_a_run_is_cancelled_within_a_second_with_its_subflow_and_their_task_runs(
    cli: Cli, start: Start, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    process = start("run", f"{FLOWS}:waiting_above", "-p", f"path={file}", "--quiet")
    until(file.exists)
    runs = until(lambda: running if len(running := cli.json("runs", "--subflows")) == 2 else None)
    root = next(run for run in runs if run["flow_name"] == "waiting-above")
    until(lambda: sum(count["count"] for count in _counts(cli, runs) if count["state"] == "Running") == 3)
    asked = time.time()

    cli("cancel", root["id"])
    process.communicate(timeout=20)

    assert process.returncode == 3
    for run in runs:
        shown = cli.json("show", run["id"])
        history = [(state["name"], state["timestamp"]) for state in shown["states"]]
        assert [name for name, _ in history] == ["Pending", "Running", "Cancelling", "Cancelled"]
        assert datetime.fromisoformat(history[-1][1]).timestamp() - asked < soon()
        assert {count["state"] for count in shown["task_runs"]} == {"Cancelled"}
    hooks = (tmp_path / "file.hooks").read_text().split()
    assert hooks == ["waiting:Cancelling", "waiting-above:Cancelling"]


def _counts(cli: Cli, runs: list[Any]) -> list[dict[str, Any]]:
    return [count for run in runs for count in cli.json("show", run["id"])["task_runs"]]


def test_one_task_run_is_cancelled_by_its_name(cli: Cli, waiting: tuple[subprocess.Popen[str], Path]) -> None:
    process, _ = waiting
    run = cli.json("runs")[0]
    until(lambda: [count["state"] for count in _task_runs(cli)] == ["Running"])
    asked = time.monotonic()

    assert "wait_for_end_of-0: Cancelled" in cli("cancel", run["id"], "wait_for_end_of-0", "--wait", "20").stdout

    assert time.monotonic() - asked < soon()
    assert "already ended: Cancelled" in cli("cancel", run["id"], "wait_for_end_of-0", code=1).stderr
    assert process.wait(20) == 0  # the flow does not look at how it ended
    assert cli.json("runs")[0]["state"]["name"] == "Completed"


def test_a_run_that_has_ended_cannot_be_cancelled(cli: Cli) -> None:
    run = cli.run("adding", "-p", "a=1")
    assert "already ended" in cli("cancel", run["id"], code=1).stderr
    assert "no task run named 'nope-1'" in cli("cancel", run["id"], "nope-1", code=2).stderr


def test_following_shows_lines_as_they_come_and_ends_with_the_run(
    cli: Cli, start: Start, waiting: tuple[subprocess.Popen[str], Path]
) -> None:
    process, file = waiting
    follower = start("logs", cli.json("runs")[0]["id"], "--follow")
    assert follower.stdout is not None
    until(lambda: "waiting for file" in follower.stdout.readline())
    file.unlink()
    rest, _ = follower.communicate(timeout=20)
    assert "it is gone" in rest
    assert follower.returncode == 0
    assert process.wait(20) == 0


@pytest.mark.behaviour("D7")
def test_the_run_of_a_process_that_was_killed_is_shown_as_crashed(
    cli: Cli, waiting: tuple[subprocess.Popen[str], Path]
) -> None:
    process, _ = waiting
    process.kill()
    process.wait()
    run = cli.json("runs")[0]
    assert run["state"]["type"] == "CRASHED"
    assert "Crashed" in cli("show", run["id"]).stdout


def test_a_terminated_run_is_recorded_and_told(cli: Cli, waiting: tuple[subprocess.Popen[str], Path]) -> None:
    process, _ = waiting
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 143, stderr
    assert cli.json("runs")[0]["state"]["type"] == "CRASHED"
    assert "Traceback" not in stderr


def test_without_a_terminal_nothing_is_animated(start: Start) -> None:
    stdout, stderr = start("run", f"{FLOWS}:napping", "-p", "count=8").communicate(timeout=30)
    assert "\x1b" not in stdout + stderr
    assert stdout == "going to sleep\n"
    assert "16 task runs, 1 failed" in stderr


@pytest.mark.behaviour("PAUSE-2", "D2")
def test_a_run_that_waits_in_a_pause_is_resumed_by_another_process(cli: Cli, start: Start) -> None:
    process = start("run", f"{FLOWS}:waiting_for_approval", "--quiet")
    run = until(lambda: next((run for run in cli.json("runs") if run["state"]["name"] == "Paused"), None))
    assert "was resumed" in cli("resume", run["id"]).stdout
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 0, stderr
    assert "has completed" in cli("resume", run["id"], code=1).stderr


@pytest.mark.behaviour("D2")
def test_a_run_is_paused_and_resumed_by_another_process(
    cli: Cli, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody reads the process's lines while it runs; a full pipe would block it.
    monkeypatch.setenv("CORE_ENGINE_LOGGING_LEVEL", "ERROR")
    end = tmp_path / "end"
    process = start("run", f"{FLOWS}:step_by_step", "-p", f"path={end}", "--quiet")
    run = until(lambda: next((run for run in cli.json("runs") if run["state"]["name"] == "Running"), None))
    assert "Paused" in cli("pause", run["id"], "--timeout", "60").stdout
    assert "only a running one" in cli("pause", run["id"], code=1).stderr
    assert process.poll() is None
    assert "was resumed" in cli("resume", run["id"]).stdout
    end.touch()
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 0, stderr


def test_the_run_of_a_process_that_was_killed_in_a_pause_is_shown_as_crashed(cli: Cli, start: Start) -> None:
    process = start("run", f"{FLOWS}:waiting_for_approval", "--quiet")
    until(lambda: next((run for run in cli.json("runs") if run["state"]["name"] == "Paused"), None))
    process.kill()
    process.wait()
    assert cli.json("runs")[0]["state"]["type"] == "CRASHED"


@pytest.mark.behaviour("PAUSE-9", "FLOW-LOAD-4")
def test_a_deployed_flow_leaves_in_a_pause_and_is_resumed_in_a_new_process(cli: Cli) -> None:
    cli("deploy", f"{FLOWS}:approved_in_steps", "--name", "nightly", "-p", "number=2")
    run = cli.json("run-later", "nightly")
    assert run["state"]["type"] == "SCHEDULED"
    assert _execute(run["id"]) == 0
    assert cli.json("runs")[0]["state"]["name"] == "Paused"
    assert "Resuming" in cli("resume", run["id"]).stdout
    assert cli.json("runs")[0]["state"]["name"] == "Completed"


def test_a_run_that_left_can_be_resumed_without_being_executed(cli: Cli) -> None:
    cli("deploy", f"{FLOWS}:approved_in_steps", "--name", "nightly")
    run = cli.json("run-later", "nightly", "-p", "number=3")
    _execute(run["id"])
    assert f"core_engine.engine {run['id']}" in cli("resume", run["id"], "--no-execute").stdout
    assert cli.json("runs")[0]["state"]["name"] == "Resuming"
    assert _execute(run["id"]) == 0
    assert cli.json("runs")[0]["state"]["name"] == "Completed"


def test_what_cannot_be_deployed_is_told(cli: Cli) -> None:
    assert "no parameter c" in cli("deploy", f"{FLOWS}:adding", "--name", "n", "-p", "c=1", code=2).stderr
    assert "secret" in cli("deploy", f"{FLOWS}:taking_a_secret", "--name", "n", "-p", "api_token=1", code=2).stderr
    assert "no deployment named" in cli("run-later", "unknown", code=2).stderr


def _execute(id: str) -> int:
    command = [sys.executable, "-m", "core_engine.engine", id]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=50, check=False).returncode


def test_why_is_answered_by_the_process_of_the_run(
    cli: Cli, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core_engine.client.explanations.ANSWER_SECONDS", 20)
    file = tmp_path / "file"
    process = start("run", f"{FLOWS}:queueing", "-p", f"path={file}", "--quiet")
    until(lambda: [count["count"] for count in _task_runs(cli) if count["state"] == "Running"] == [1])
    run = cli.json("runs")[0]
    assert "is running since" in cli("why", run["id"][:8]).stdout
    found = cli.json("why", run["name"], "wait_for_end_of-1")
    assert found["reason"] == "runner"
    assert found["details"] == {"ahead": 0, "executing": 1, "most": 1, "runner": "concurrent"}
    assert found["text"] in cli("why", run["id"], "wait_for_end_of-1").stdout
    assert found["text"] in cli("why", found["run_id"]).stdout
    file.unlink()
    assert process.wait(20) == 0
    assert "ended as Completed" in cli("why", found["run_id"]).stdout


def test_why_names_each_thing_that_a_run_can_wait_for(
    cli: Cli, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core_engine.client.explanations.ANSWER_SECONDS", 20)
    step(get_client().create_concurrency_limit("scarce", 1))
    file = tmp_path / "file"
    arguments = ("-p", f"path={file}", "-p", f"async_runs={ASYNC_WINDOW + 3}")
    process = start("run", f"{FLOWS}:waiting_for_everything", *arguments, "--quiet")
    until((tmp_path / "file.all").exists)
    (run,) = cli.json("runs")

    def why(name: str) -> tuple[str, dict[str, Any]]:
        found = cli.json("why", run["id"], name)
        texts[name] = found["text"]
        return found["reason"], found["details"]

    texts: dict[str, str] = {}
    last = f"wait_with_many-{ASYNC_WINDOW + 2}"
    until(lambda: why(last)[1].get("executing") == ASYNC_WINDOW)

    assert cli("why", run["id"], last).stdout.strip() == texts[last]
    assert why("take_what_is_scarce-3") == ("slot", {"tags": ["scarce"], "ahead": 2})
    assert why("say-0") == ("runner", {"runner": "concurrent", "ahead": 0, "executing": 1, "most": 1})
    upstream = ["take_what_is_scarce-0", "take_what_is_scarce-1"]
    assert why("say-1") == ("upstream", {"upstream": upstream, "count": 2})
    window = {"runner": "concurrent", "ahead": 2, "executing": ASYNC_WINDOW, "most": ASYNC_WINDOW}
    assert why(last) == ("window", window)
    reason, details = why("fail_once-0")
    assert reason == "retry"
    assert details["due"] in texts["fail_once-0"]
    reason, details = why("double-1")
    assert reason == "cached"
    assert details["cache_key"] in texts["double-1"]
    assert details["cached_from"] in texts["double-1"]

    file.unlink()
    assert process.wait(40) == 0
    assert "2 are ahead of it" in texts["take_what_is_scarce-3"]


def _task_runs(cli: Cli) -> list[dict[str, Any]]:
    runs = cli.json("runs")
    return cli.json("show", runs[0]["id"])["task_runs"] if runs else []


def test_why_of_what_is_not_there_is_an_error(cli: Cli) -> None:
    run = cli.run("adding", "-p", "a=1")
    assert "no task run named 'nope-1'" in cli("why", run["id"], "nope-1", code=2).stderr
    assert "nothing" in cli("why", "nothing", code=2).stderr
    assert "01234567-0123" in cli("why", "01234567-0123-4567-89ab-0123456789ab", code=2).stderr


def test_a_run_that_failed_is_resumed_in_this_process_and_says_what_it_used_again(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "file"
    run = cli.run("needs_a_file", "-p", f"path={file}", "-p", "count=5", "--resumable", code=1)
    file.touch()
    done = cli("resume", run["id"][:8], "--runner", "sequential")
    assert f"{run['name']}: 5 of 5 completed task runs have a stored result." in done.stdout
    assert "5 task runs used again with their stored results, 1 task run executed." in done.stdout
    assert "Completed in" in done.stderr
    (after,) = cli.json("runs")
    assert (after["id"], after["state"]["name"], after["task_runner"]) == (run["id"], "Completed", "sequential")
    assert "has completed" in cli("resume", run["id"], code=1).stderr


def test_a_resume_that_fails_again_says_so_by_its_exit_code(cli: Cli, tmp_path: Path) -> None:
    run = cli.run("needs_a_file", "-p", f"path={tmp_path / 'file'}", "-p", "count=2", code=1)
    again = cli("resume", run["id"], code=1)
    assert "2 completed of task 'double' executed again: their results are not stored" in again.stdout
    record = cli.json("resume", run["id"], "-p", f"path={FLOWS}", "--entrypoint", f"{FLOWS}:needs_a_file")
    assert record["state"]["name"] == "Completed"


def test_a_resume_of_a_flow_that_is_not_found_is_told(cli: Cli, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from core_engine import flow\n\n@flow\ndef fails():\n    raise ValueError\n")
    run = cli.json("run", script, code=1)
    script.unlink()
    assert "no file" in cli("resume", run["id"], code=2).stderr
