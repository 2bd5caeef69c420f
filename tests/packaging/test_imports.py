"""What `import core_engine` costs, and what it must leave alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Libraries that the engine imports only when somebody needs them.
HEAVY = (
    "alembic",
    "dask",
    "distributed",
    "fastapi",
    "fsspec",
    "httpx",
    "pydantic",
    "ray",
    "rich",
    "sqlalchemy",
    "typer",
)
# Generous: a loaded machine takes several times what an idle one does.
MOST_SECONDS_OF_CPU = 0.6


def run_python(code: str, *, cwd: Path = ROOT) -> str:
    """Run `code` in a fresh interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported_by(statement: str) -> set[str]:
    """Return the top-level modules that `statement` loads in a fresh interpreter."""
    code = f"import sys, json; {statement}; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    return set(json.loads(run_python(code)))


@pytest.mark.parametrize("statement", ["import core_engine", "from core_engine import flow, task"])
def test_importing_the_package_loads_no_heavy_library(statement: str) -> None:
    assert imported_by(statement).isdisjoint(HEAVY)


def test_importing_the_package_loads_no_runner() -> None:
    assert "runners" not in imported_by("import core_engine")


@pytest.mark.parametrize("runner", ["sequential", "concurrent", "dask", "ray"])
def test_importing_a_runner_loads_no_cluster_library(runner: str) -> None:
    assert imported_by(f"import runners.{runner}").isdisjoint({"dask", "distributed", "ray"})


def cpu_seconds_of(code: str) -> float:
    """Return the least CPU time (user and system) of three fresh interpreters running `code`."""
    times = []
    for _ in range(3):
        before = os.times()
        run_python(code)
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(times)


def test_importing_the_package_costs_little_more_than_starting_python() -> None:
    bare = cpu_seconds_of("pass")
    cost = cpu_seconds_of("import core_engine") - bare
    assert cost < MOST_SECONDS_OF_CPU, f"import core_engine took {cost:.2f} s of CPU time, Python itself {bare:.2f} s"
