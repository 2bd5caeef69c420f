"""One ``submit().result()``, committed before it is seen, against the bare chain of threads behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.interleaving import interleave
from benchmarks.measuring import quantile
from benchmarks.plans import Plan
from benchmarks.processes import QUIET, Spec, engine_spec
from benchmarks.rows import Column, Row, Section, ratios, row_of
from benchmarks.verification import check_round

CHAIN = "bare chain"

SPECS = (
    Spec(CHAIN, "benchmarks.contenders.by_hand:Chain"),
    Spec("ThreadPoolExecutor", "benchmarks.contenders.bare:PoolLatency", records=False),
    engine_spec("sequential", "one_by_one", "sequential"),
    engine_spec("concurrent, threads", "one_by_one", "concurrent"),
    engine_spec("concurrent, async", "one_by_one_async", "concurrent"),
    engine_spec("concurrent, threads, without log lines", "one_by_one", "concurrent", QUIET),
)


def _p50(round: dict[str, Any]) -> float:
    return quantile(round["times_ns"], 0.5) / 1e3


def _p99(round: dict[str, Any]) -> float:
    return quantile(round["times_ns"], 0.99) / 1e3


def measure(plan: Plan, work: Path) -> list[Row]:
    """Measures single calls, one after another, in an otherwise idle process."""
    measured = interleave(SPECS, plan.calls, plan.rounds, work, check_round)
    everybody = list(measured.values())
    p50_x = ratios(everybody, measured[CHAIN], _p50)
    p99_x = ratios(everybody, measured[CHAIN], _p99)
    rows = []
    for name, contender in measured.items():
        row = row_of(
            contender,
            plan.calls,
            {"p50_us": _p50, "p99_us": _p99, "cpu_us": lambda round: round["cpu"] / plan.calls * 1e6},
        )
        if name in p50_x:
            row.figures.update(p50_x=p50_x[name], p99_x=p99_x[name])
        rows.append(row)
    return rows


SECTION = Section(
    key="latency",
    title="One submit().result()",
    note=(
        "Microseconds from the call to the value, one call after another. The bare chain hands a no-op from the user's "
        "thread to a loop, to a worker thread, back to the loop and to a writer that commits one row. The engine also "
        "stores, and shows on standard error, two log lines for each submit, except in the last row. Targets are "
        "multiples of the chain in the same round."
    ),
    columns=(
        Column("p50", "p50_us"),
        Column("p99", "p99_us"),
        Column("p50 x chain", "p50_x", 2, spread=True),
        Column("p99 x chain", "p99_x", 2, spread=True),
        Column("CPU", "cpu_us"),
    ),
    measure=measure,
)
