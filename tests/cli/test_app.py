import os
import subprocess
import sys

import pytest

from tests.cli.conftest import ROOT, Cli
from tests.support.promptness import soon

COMMANDS = [
    "run",
    "runs",
    "show",
    "logs",
    "cancel",
    "pause",
    "resume",
    "deploy",
    "run-later",
    "page",
    "settings",
    "db",
    "version",
]
HEAVY = [
    "pydantic",
    "pydantic_settings",
    "sqlalchemy",
    "alembic",
    "rich",
    "httpx",
    "yaml",
    "fsspec",
    "anyio",
    "asyncio",
]


def test_help_lists_the_commands_and_the_exit_codes(cli: Cli) -> None:
    text = cli("--help").stdout
    for told in [*COMMANDS, "Exit codes", "cancelled", "paused"]:
        assert told in text


@pytest.mark.parametrize("command", [*COMMANDS, "runs delete", "runs list", "settings profiles create", "db reset"])
def test_every_command_explains_itself(cli: Cli, command: str) -> None:
    assert "Usage:" in cli(*command.split(), "--help").stdout


def test_help_starts_within_half_a_second_of_work() -> None:
    times = []
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", "core_engine.cli", "--help"], stdout=subprocess.DEVNULL, cwd=ROOT
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        times.append(usage.ru_utime + usage.ru_stime)
    assert min(times) < soon(0.5)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['core-engine', '--help']\n"
        "from core_engine.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('loaded', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert output.endswith("loaded []\n")


def test_a_misspelt_command_is_wrong_usage_with_a_suggestion(cli: Cli) -> None:
    assert "settings" in cli("setings", code=2).stderr


def test_versions_are_shown(cli: Cli) -> None:
    shown = cli.json("version")
    assert list(shown) == ["core-engine", "python", "sqlite", "platform"]
    assert cli("--version").stdout.strip() == shown["core-engine"]
    assert shown["sqlite"] in cli("version").stdout
