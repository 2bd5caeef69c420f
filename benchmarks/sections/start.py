"""How long it takes to import, to ask for help, and to run a trivial flow in a fresh process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measuring import summarise
from benchmarks.plans import Plan
from benchmarks.processes import ROOT, WorkerError, clean_environment
from benchmarks.rows import Column, Row, Section

_TIMED_IMPORT = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
_FLOW = str(Path(__file__).parents[1] / "trivial_flow.py")


def measure(plan: Plan, work: Path) -> list[Row]:
    """Measures each command in a fresh process, one after another, and again."""
    home = work / "home"
    measurements: dict[str, Callable[[], tuple[float, float]]] = {
        "python -c pass": lambda: _process(["-c", "pass"], home),
        "import core_engine": lambda: _import("import core_engine", home),
        "from core_engine import flow, task": lambda: _import("from core_engine import flow, task", home),
        "core-engine --help": lambda: _process(["-m", "core_engine.cli", "--help"], home),
        "trivial flow": lambda: _process([_FLOW], home),
        "trivial flow, in an empty home": lambda: _first_start(work / "empty"),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in measurements}
    for number in range(-1, plan.rounds):
        for name, measurement in measurements.items():
            times = measurement()
            if number >= 0:
                found[name].append(times)
    return [_row(name, times) for name, times in found.items()]


def _row(name: str, times: list[tuple[float, float]]) -> Row:
    seconds, cpu = zip(*times, strict=True)
    return Row(name, None, {"seconds": summarise(seconds), "cpu_seconds": summarise(cpu)})


def _first_start(home: Path) -> tuple[float, float]:
    try:
        return _process([_FLOW], home)
    finally:
        shutil.rmtree(home)


def _import(statement: str, home: Path) -> tuple[float, float]:
    """Returns the seconds that the import takes, and the CPU seconds of its whole process."""
    output: list[bytes] = []
    _, cpu = _process(["-c", _TIMED_IMPORT.format(statement)], home, output)
    return float(output[0]), cpu


def _process(arguments: list[str], home: Path, output: list[bytes] | None = None) -> tuple[float, float]:
    """Returns the seconds from start to exit of an interpreter with `arguments`, and its CPU seconds.

    Raises:
        WorkerError: It failed.
    """
    home.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=clean_environment(home),
    )
    assert process.stdout is not None
    with process.stdout:
        text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise WorkerError(f"python {' '.join(arguments)} ended with exit code {process.returncode}.")
    if output is not None:
        output.append(text)
    return seconds, usage.ru_utime + usage.ru_stime


SECTION = Section(
    key="start",
    title="Import and start",
    note=(
        "Seconds. Imports are timed inside the process; the others from start to exit, the interpreter's own start, "
        "the first row, included. `import core_engine` loads nothing yet; names are loaded when they are asked for."
    ),
    columns=(Column("seconds", "seconds", 3, spread=True), Column("CPU seconds", "cpu_seconds", 3)),
    measure=measure,
)
