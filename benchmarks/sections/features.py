"""What each thing that a task may have adds to a no-op, and what the other ways to run tasks cost."""

from __future__ import annotations

from pathlib import Path

from benchmarks.interleaving import interleave
from benchmarks.plans import Plan
from benchmarks.processes import engine_spec
from benchmarks.rows import Column, Row, Section, ratios, row_of
from benchmarks.verification import check_round

# By what the table calls them: the flow in contenders.flows.
FLOWS = {
    "mapped no-op": "mapped",
    "mapped, every result taken": "mapped_and_taken",
    "submitted one by one, then results": "submitted",
    "called one by one": "called",
    "small result persisted": "persisting",
    "cache hit": "using_cache",
    "failed once, retried without delay": "retrying",
    "failed, with traceback": "tolerating",
    "log_prints, one line": "capturing",
    "a hook": "hooking",
    "a concurrency limit of 8": "limited",
}


def measure(plan: Plan, work: Path) -> list[Row]:
    """Measures every feature on each runner."""
    return [row for runner in plan.runners for row in _measure_runner(plan, runner, work)]


def _measure_runner(plan: Plan, runner: str, work: Path) -> list[Row]:
    specs = [engine_spec(f"{name}, {runner}", case, runner) for name, case in FLOWS.items()]
    size = plan.tasks
    measured = interleave(specs, size, plan.rounds, work, check_round)
    everybody = list(measured.values())
    x_noop = ratios(everybody, everybody[0], lambda round: round["cpu"])
    rows = []
    for name, contender in measured.items():
        figures = {
            "cpu_us": lambda round: round["cpu"] / size * 1e6,
            "durable_us": lambda round: round["durable"] / size * 1e6,
        }
        row = row_of(contender, size, figures)
        if name in x_noop:
            row.figures["x_noop"] = x_noop[name]
        rows.append(row)
    return rows


SECTION = Section(
    key="features",
    title="Features",
    note=(
        "Per task, in microseconds, everything durable; the last column compares CPU with the mapped no-op of the same "
        "round. What tasks log is stored, and shown on standard error, which is a file here."
    ),
    columns=(
        Column("CPU", "cpu_us", 1, spread=True),
        Column("durable", "durable_us", 1),
        Column("CPU x no-op", "x_noop", 1),
    ),
    measure=measure,
)
