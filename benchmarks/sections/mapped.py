"""Mapped no-ops: the engine's runners against bare code that records nothing, and a loop that records by hand."""

from __future__ import annotations

from pathlib import Path

from benchmarks.interleaving import interleave
from benchmarks.plans import Plan
from benchmarks.processes import Spec, engine_spec
from benchmarks.rows import Column, Row, Section, ratios, row_of
from benchmarks.verification import check_round

BY_HAND = "loop, a row each by hand"
WARM_UP_SIZE = 10_000

SPECS = (
    Spec("raw loop", "benchmarks.contenders.bare:Loop", records=False),
    Spec("ThreadPoolExecutor(8)", "benchmarks.contenders.bare:Pool", records=False),
    Spec("asyncio tasks", "benchmarks.contenders.bare:Asyncio", records=False),
    Spec(BY_HAND, "benchmarks.contenders.by_hand:LoopWithRows"),
    engine_spec("sequential", "mapped", "sequential"),
    engine_spec("concurrent, threads", "mapped", "concurrent"),
    engine_spec("concurrent, async", "mapped_async", "concurrent"),
)


def measure(plan: Plan, work: Path) -> list[Row]:
    """Measures every contender with every number of tasks."""
    return [row for size in plan.map_sizes for row in _measure_size(plan, size, work)]


def _measure_size(plan: Plan, size: int, work: Path) -> list[Row]:
    measured = interleave(SPECS, size, plan.rounds, work, check_round, WARM_UP_SIZE)
    by_hand = ratios(list(measured.values()), measured[BY_HAND], lambda round: round["cpu"])
    rows = []
    for name, contender in measured.items():
        row = row_of(
            contender,
            size,
            {
                "cpu_us": lambda round: round["cpu"] / size * 1e6,
                "returned_us": lambda round: round["returned"] / size * 1e6,
                "durable_us": lambda round: round["durable"] / size * 1e6,
                "per_second": lambda round: size / round["durable"],
                "peak_mb": lambda round: round["peak_bytes"] / 1e6,
                "disk_bytes": lambda round: round["disk_bytes"] / size,
            },
        )
        if name in by_hand:
            row.figures["x_by_hand"] = by_hand[name]
        rows.append(row)
    return rows


SECTION = Section(
    key="mapped",
    title="Mapped no-ops",
    note=(
        "Per task, in microseconds. CPU is user and system time of all threads. *Returned*: the flow's call came back. "
        "*Durable*: the journal is empty too; the engine returns only then, so the two clocks agree. The raw loop, "
        "ThreadPoolExecutor and asyncio record nothing; the loop by hand writes one row of nine columns per task, in "
        "transactions of 1,000. Targets are for CPU."
    ),
    columns=(
        Column("CPU", "cpu_us", 1, spread=True),
        Column("returned", "returned_us", 1),
        Column("durable", "durable_us", 1),
        Column("tasks/s, durable", "per_second"),
        Column("CPU x by hand", "x_by_hand", 2),
        Column("peak MB", "peak_mb"),
        Column("bytes on disk", "disk_bytes"),
    ),
    measure=measure,
)
