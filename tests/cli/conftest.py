import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from core_engine.cli.app import app

FLOWS = Path(__file__).parent / "sample_flows.py"
ROOT = Path(__file__).parents[2]


class Cli:
    """Calls the command line in this process."""

    def __call__(self, *arguments: object, code: int = 0, input: str | None = None) -> Any:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=input)
        assert result.exit_code == code, f"{result.exit_code}: {result.output}\n{result.exception!r}"
        return result

    def json(self, *arguments: object, code: int = 0) -> Any:
        """Returns what a command printed with ``--json``."""
        stdout = self(*arguments, "--json", code=code).stdout
        # A flow that was run may have printed before.
        return json.loads(stdout[min(place for mark in "[{" if (place := stdout.find(mark)) >= 0) :])

    def run(self, flow: str, *arguments: object, code: int = 0) -> Any:
        """Runs one of the sample flows, and returns its record."""
        return self.json("run", f"{FLOWS}:{flow}", *arguments, code=code)


@pytest.fixture
def cli() -> Cli:
    return Cli()


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts ``core-engine`` as a process of its own, which does not survive the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "core_engine.cli", *map(str, arguments)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ.copy()
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Returns what `condition` gives as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)
    return value
