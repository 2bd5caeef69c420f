"""Long streams: what an item costs, and whether the memory of the flow's process is constant."""

from __future__ import annotations

from pathlib import Path

from benchmarks.interleaving import interleave
from benchmarks.plans import Plan
from benchmarks.processes import NO_CONSOLE, engine_spec
from benchmarks.rows import Column, Row, Section, row_of
from benchmarks.verification import check_round

NAME = "stream"


def measure(plan: Plan, work: Path) -> list[Row]:
    """Measures streams of several lengths, each in a process of its own, whose peak is the stream's."""
    return [_measure_size(plan, size, work) for size in plan.streams]


def _measure_size(plan: Plan, size: int, work: Path) -> Row:
    spec = engine_spec(NAME, "streamed", "concurrent", NO_CONSOLE)
    # A round of the longest takes most of a minute, and says as much as many short ones.
    rounds = plan.rounds if size <= 100_000 else 1
    measured = interleave([spec], size, rounds, work, check_round, plan.streams[0])
    figures = {
        "cpu_us": lambda round: round["cpu"] / size * 1e6,
        "durable_us": lambda round: round["durable"] / size * 1e6,
        "peak_mb": lambda round: round["peak_bytes"] / 1e6,
        "disk_bytes": lambda round: round["disk_bytes"] / size,
    }
    return row_of(measured[NAME], size, figures)


SECTION = Section(
    key="streams",
    title="Streams",
    note=(
        "`task.stream` over a range, every result taken and no future kept. Per item, in microseconds, on the "
        "concurrent runner. *Peak* is the most that the flow's process ever had in RAM: the same for any number."
    ),
    columns=(
        Column("CPU", "cpu_us", 1, spread=True),
        Column("durable", "durable_us", 1),
        Column("peak MB", "peak_mb"),
        Column("bytes on disk", "disk_bytes"),
    ),
    measure=measure,
)
