"""Real processes for tests: pieces of code that say when they are ready, and are killed or left to end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextmanager
def python(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Runs `code` in an interpreter of its own, with `arguments` in ``sys.argv``; killed at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def says(process: subprocess.Popen[str]) -> str:
    """Returns the next line that the process prints."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def ends_well(process: subprocess.Popen[str]) -> str:
    """Waits for the end of the process, which must be a good one, and returns what else it printed."""
    output, _ = process.communicate(timeout=50)
    assert process.returncode == 0, output
    return output
