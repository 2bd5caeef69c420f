import json
from pathlib import Path

import pytest

from tests.cli.conftest import FLOWS, Cli


def test_a_flow_is_run_and_its_outcome_told(cli: Cli) -> None:
    result = cli("run", f"{FLOWS}:adding", "-p", "a=2", "-p", "b=3")
    assert result.stdout == "sum: 5\n"
    assert "adding" in result.stderr
    assert "Completed in" in result.stderr


@pytest.mark.parametrize(
    ("flow", "code", "state"), [("failing", 1, "Failed"), ("cancelled", 3, "Cancelled"), ("paused", 4, "Paused")]
)
def test_the_exit_code_tells_how_the_run_ended(cli: Cli, flow: str, code: int, state: str) -> None:
    record = cli.run(flow, code=code)
    assert record["state"]["name"] == state
    assert cli.json("show", record["id"])["state"] == record["state"]


def test_a_parameter_of_the_wrong_type_is_a_failed_run_with_the_reason(cli: Cli) -> None:
    result = cli("run", f"{FLOWS}:adding", "-p", "a=many", code=1)
    assert "a:" in result.stderr
    assert "Traceback" not in result.stderr
    assert cli.json("runs")[0]["state"]["name"] == "Failed"


@pytest.mark.parametrize("arguments", [[], ["-p", "a=1", "-p", "c=1"]])
def test_parameters_that_the_flow_does_not_have_are_wrong_usage(cli: Cli, arguments: list[str]) -> None:
    result = cli("run", f"{FLOWS}:adding", *arguments, code=2)
    assert "adding" in result.stderr
    assert cli.json("runs") == []


def test_values_are_json_or_text_and_are_coerced(cli: Cli) -> None:
    assert cli.run("adding", "-p", 'a="7"')["state"]["type"] == "COMPLETED"


def test_an_async_flow_is_run(cli: Cli) -> None:
    assert cli.run("asynchronous", "-p", "a=1")["state"]["type"] == "COMPLETED"


def test_a_flow_is_found_by_module_or_alone_in_its_file(cli: Cli, tmp_path: Path) -> None:
    script = tmp_path / "alone.py"
    script.write_text("from core_engine import flow\n\n@flow\ndef alone():\n    return 1\n")
    assert cli.json("run", script)["flow_name"] == "alone"
    assert cli.json("run", "tests.cli.sample_flows:adding", "-p", "a=1")["flow_name"] == "adding"


def test_task_runs_are_counted_as_the_store_has_them(cli: Cli) -> None:
    record = cli.run("some_fail", "-p", "count=9")
    expected = {"task": "only_even", "total": 9, "completed": 5, "cached": 0, "failed": 4, "cancelled": 0}
    assert record["task_runs"] == [expected]


def test_task_runs_of_subflows_are_counted(cli: Cli) -> None:
    record = cli.run("outer")
    assert {task["task"]: task["total"] for task in record["task_runs"]} == {"inner": 2, "double": 7}


def test_the_runner_can_be_chosen(cli: Cli) -> None:
    assert "equential" in cli.run("some_fail", "--runner", "sequential")["task_runner"]


def test_an_unknown_runner_is_wrong_usage_and_the_known_ones_are_listed(cli: Cli) -> None:
    result = cli("run", f"{FLOWS}:adding", "-p", "a=1", "--runner", "hamster", code=2)
    assert "hamster" in result.stderr
    assert "sequential" in result.stderr


@pytest.mark.parametrize(
    ("entrypoint", "told"),
    [
        (f"{FLOWS}:nothing", "nothing"),
        (f"{FLOWS}:FLOWS", "FLOWS"),
        (f"{FLOWS}:double", "not a flow"),
        ("/no/such/file.py:flow", "/no/such/file.py"),
        ("no_such_module:flow", "no_such_module"),
        ("just-a-word", "just-a-word"),
        (str(FLOWS), "several flows"),
    ],
)
@pytest.mark.behaviour("FLOW-LOAD-2", "FLOW-LOAD-3")
def test_a_flow_that_is_not_there_is_wrong_usage_told_in_a_line(cli: Cli, entrypoint: str, told: str) -> None:
    result = cli("run", entrypoint, code=2)
    assert told in result.stderr
    assert result.stderr.startswith("core-engine: ")
    assert "Traceback" not in result.stderr


def test_a_script_that_raises_is_told_in_a_line_and_with_debug_in_full(cli: Cli, tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("1 / 0\n")
    result = cli("run", f"{script}:flow", code=1)
    assert "ZeroDivisionError" in result.stderr
    assert "Traceback" not in result.stderr
    assert cli("--debug", "run", f"{script}:flow", code=1).exception.__cause__.args == ("division by zero",)


def test_quiet_shows_neither_progress_nor_summary(cli: Cli) -> None:
    result = cli("run", f"{FLOWS}:adding", "-p", "a=1", "--quiet")
    assert "Completed in" not in result.stderr


def test_json_is_all_that_stdout_has_beside_the_flows_own_output(cli: Cli) -> None:
    stdout = cli("run", f"{FLOWS}:adding", "-p", "a=1", "--json").stdout
    own, _, rest = stdout.partition("\n")
    assert own == "sum: 2"
    assert json.loads(rest)["parameters"] == {"a": 1, "b": 1}


@pytest.mark.behaviour("D32")
def test_a_secret_parameter_is_shown_nowhere(cli: Cli) -> None:
    result = cli("run", f"{FLOWS}:secretive", "-p", "api_token=hunter2", "--json")
    record = json.loads(result.stdout)
    shown = [
        cli("show", record["id"]).output,
        cli("logs", record["id"]).output,
        cli("page", record["id"], "-o", "/dev/stdout").output,
    ]
    assert not [text for text in (result.output, *shown) if "hunter2" in text]
