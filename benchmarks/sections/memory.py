"""What a mapped task takes in the flow's process, pending and finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.contenders.flows import completed
from benchmarks.interleaving import round_folder
from benchmarks.measuring import summarise
from benchmarks.plans import Plan
from benchmarks.processes import Spec, Worker
from benchmarks.rows import Column, Row, Section
from benchmarks.verification import check_flow_run

MOMENTS = {
    "pending, futures held": "pending",
    "finished, futures held": "finished",
    "finished, futures dropped": "dropped",
}


def measure(plan: Plan, work: Path) -> list[Row]:
    """Measures each moment by both meters, each round in a process of its own."""
    rows = {name: Row(name, plan.memory_tasks) for name in MOMENTS}
    for meter, traced, size in (
        ("resident_bytes", False, plan.memory_tasks),
        ("traced_bytes", True, plan.traced_tasks),
    ):
        values: dict[str, list[float]] = {name: [] for name in MOMENTS}
        for _ in range(plan.rounds):
            for name, moment in MOMENTS.items():
                answer, problems = _one_process(moment, traced, size, work)
                if problems:
                    rows[name].void += [f"{name}: {problem}" for problem in problems]
                else:
                    values[name].append(answer["bytes_per_task"])
        for name, found in values.items():
            if found:
                rows[name].figures[meter] = summarise(found)
    return list(rows.values())


def _one_process(moment: str, traced: bool, size: int, work: Path) -> tuple[dict[str, Any], list[str]]:
    spec = Spec(moment, "benchmarks.contenders.engine:EngineMemory", {"moment": moment, "traced": traced})
    with round_folder(work) as folder, Worker(spec, folder / "worker") as worker:
        answer = worker.ask(do="round", size=size, folder=str(folder))
        # The upstream that opens the gate was submitted, and says so in a line.
        problems = check_flow_run(folder, answer, completed(size + 1, lines=1))
        worker.ask(do="close", size=size, folder=str(folder))
    return answer, problems


SECTION = Section(
    key="memory",
    title="Memory of a mapped task",
    note=(
        "Bytes per task by which the flow's process grew. *Resident*: as the system counts. *Traced*: what Python "
        "allocated and still held, by `tracemalloc`, with fewer tasks. No parameter takes memory (a `range` is mapped)."
    ),
    columns=(
        Column("resident", "resident_bytes", spread=True),
        Column("traced", "traced_bytes", spread=True),
    ),
    measure=measure,
)
