"""Deep chains, wide fan-ins and nested flows: whether their cost is linear."""

from __future__ import annotations

from pathlib import Path

from benchmarks.interleaving import interleave
from benchmarks.plans import Plan
from benchmarks.processes import NO_CONSOLE, Spec, engine_spec
from benchmarks.rows import Column, Row, Section, row_of
from benchmarks.verification import check_round


def measure(plan: Plan, work: Path) -> list[Row]:
    """Measures each shape in a small and in a large size."""
    shapes = (
        ("chain of submits", "chained", plan.chain),
        ("fan-in of a map", "fanned_in", plan.fan_in),
        ("subflows with a task each", "nested", plan.nested),
    )
    return [row for name, case, sizes in shapes for row in _measure_shape(plan, name, case, sizes, work)]


def _measure_shape(plan: Plan, name: str, case: str, sizes: tuple[int, int], work: Path) -> list[Row]:
    spec = engine_spec(name, case, "concurrent", NO_CONSOLE)
    return [_measure_size(plan, spec, size, sizes[0], work) for size in sizes]


def _measure_size(plan: Plan, spec: Spec, size: int, warm_up_size: int, work: Path) -> Row:
    measured = interleave([spec], size, plan.rounds, work, check_round, warm_up_size)
    figures = {
        "cpu_us": lambda round: round["cpu"] / size * 1e6,
        "durable_us": lambda round: round["durable"] / size * 1e6,
    }
    return row_of(measured[spec.name], size, figures)


SECTION = Section(
    key="shapes",
    title="Chains, fan-ins and nested flows",
    note=(
        "Per task, in microseconds, on the concurrent runner; for nested flows per subflow with its task. Linear means "
        "that both sizes of a shape cost the same."
    ),
    columns=(Column("CPU", "cpu_us", 1, spread=True), Column("durable", "durable_us", 1)),
    measure=measure,
)
