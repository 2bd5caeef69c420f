"""One log line of a task: stored, and stored and shown; of one task, and of many that log a hundred each."""

from __future__ import annotations

from pathlib import Path

from benchmarks.interleaving import interleave
from benchmarks.plans import Plan
from benchmarks.processes import NO_CONSOLE, Spec, engine_spec
from benchmarks.rows import Column, Row, Section, row_of
from benchmarks.verification import check_round

SPECS = (
    Spec("logging alone, formatted and dropped", "benchmarks.contenders.bare:LogLines", records=False),
    engine_spec("stored", "logged", "sequential", NO_CONSOLE),
    engine_spec("stored, and shown on standard error", "logged", "sequential"),
    engine_spec("100 of each mapped task, stored", "logged_by_many", "sequential", NO_CONSOLE),
    engine_spec("100 of each mapped task, stored, threads", "logged_by_many", "concurrent", NO_CONSOLE),
)


def measure(plan: Plan, work: Path) -> list[Row]:
    """Measures many lines; the flow and the tasks around them are part of it, and small."""
    measured = interleave(SPECS, plan.lines, plan.rounds, work, check_round)
    figures = {
        "cpu_us": lambda round: round["cpu"] / plan.lines * 1e6,
        "durable_us": lambda round: round["durable"] / plan.lines * 1e6,
        "disk_bytes": lambda round: round["disk_bytes"] / plan.lines,
    }
    return [row_of(contender, plan.lines, figures) for contender in measured.values()]


SECTION = Section(
    key="logs",
    title="One log line",
    note="Per line, in microseconds, of a task that logs many through `get_run_logger()`, and of many with 100 each.",
    columns=(
        Column("CPU", "cpu_us", 1, spread=True),
        Column("durable", "durable_us", 1),
        Column("bytes on disk", "disk_bytes"),
    ),
    measure=measure,
)
