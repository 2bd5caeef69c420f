"""The types of the public names, as mypy and pyright see them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = sorted(str(path.relative_to(ROOT)) for path in Path(__file__).parent.glob("*.py") if "test" not in path.name)


def check(*command: str) -> None:
    """Run a type checker and fail with what it says."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(120)  # mypy without a cache reads the whole package and what it imports
def test_mypy_sees_the_parameters_and_results_of_flows_tasks_and_futures() -> None:
    check("mypy", "--strict", *CASES)


@pytest.mark.timeout(120)
def test_pyright_sees_the_same_types() -> None:
    if shutil.which("node") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("pyright needs node, which is not installed here")
        pytest.skip("pyright needs node")
    check("pyright", "--pythonpath", sys.executable, *CASES)
