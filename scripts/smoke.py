#!/usr/bin/env python3
"""A small flow on each runner, for an installed core-engine: run it where the checkout cannot be imported.

Usage: smoke.py FOLDER, where FOLDER must hold the packages that get imported.
"""

import sys
from pathlib import Path

import core_engine
import runners
from core_engine import flow, task


@task(retries=1)
def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


@flow
def total_of_doubles(count: int) -> int:
    """Map, wait and add up."""
    return sum(future.result() for future in double.map(range(count)))


def main() -> int:
    """Run the flow on both runners and compare."""
    installed_in = Path(sys.argv[1]).resolve()
    for package in (core_engine, runners):
        home = Path(package.__file__ or "").resolve()
        if not home.is_relative_to(installed_in):
            print(f"{package.__name__} was imported from {home}, not from {installed_in}", file=sys.stderr)
            return 1
    for runner in ("sequential", "concurrent"):
        total = total_of_doubles.with_options(task_runner=runner)(count=50)
        print(f"{runner}: {total}")
        if total != 2450:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
