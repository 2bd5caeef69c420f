"""Many flow processes on one file: how long a commit takes when all of them commit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.contenders.flows import CASES
from benchmarks.interleaving import last_line, round_folder
from benchmarks.measuring import quantile, summarise
from benchmarks.plans import Plan
from benchmarks.processes import ContenderError, Spec, Worker
from benchmarks.rows import Column, Row, Section
from benchmarks.verification import check_flow_run, check_rows

TARGETS = {
    "flows": "benchmarks.contenders.engine:EngineCommits",
    "plain commits by hand": "benchmarks.contenders.by_hand:Commits",
}
# All processes have prepared themselves by then.
START_IN_SECONDS = 0.5


def measure(plan: Plan, work: Path) -> list[Row]:
    """Measures two crowds of processes in turn, each crowd on one file."""
    rows = {name: Row(f"{plan.processes} processes, {name}", plan.commits) for name in TARGETS}
    answers: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in TARGETS}
    with ExitStack() as stack:
        crowds = {
            name: [
                stack.enter_context(Worker(Spec(f"{name} {number}", target), work / f"{number}-{target[-7:]}"))
                for number in range(plan.processes)
            ]
            for name, target in TARGETS.items()
        }
        for number in range(-1, plan.rounds):
            for name, crowd in crowds.items():
                crowd_answers, problems = _one_round(crowd, plan.commits, work)
                rows[name].void += [f"{name}: {problem}" for problem in problems]
                if number >= 0 and not problems:
                    answers[name].append(crowd_answers)
    for name, rounds in answers.items():
        if rounds:
            rows[name].figures = {figure: summarise(map(of, rounds)) for figure, of in _FIGURES.items()}
    rows["plain commits by hand"].figures.pop("result_p50_ms", None)
    rows["plain commits by hand"].figures.pop("result_p99_ms", None)
    return list(rows.values())


def _one_round(crowd: list[Worker], commits: int, work: Path) -> tuple[list[dict[str, Any]], list[str]]:
    with round_folder(work) as folder:
        start_at = time.time() + START_IN_SECONDS
        for worker in crowd:
            worker.tell(do="round", size=commits, folder=str(folder), start_at=start_at)
        try:
            answers = list(_answers(crowd))
        except ContenderError as error:
            return [], [last_line(error)]
        if crowd[0].spec.target == TARGETS["flows"]:
            expected = CASES["one_by_one"].expected(commits)
            problems = [problem for answer in answers for problem in check_flow_run(folder, answer, expected)]
        else:
            problems = check_rows(folder, commits * len(crowd))
        for worker in crowd:
            worker.ask(do="close", size=commits, folder=str(folder))
        return answers, problems


def _answers(crowd: list[Worker]) -> Iterator[dict[str, Any]]:
    """Yields what each worker answers; raises what one of them raised after all have answered."""
    failed: ContenderError | None = None
    for worker in crowd:
        try:
            yield worker.answer()
        except ContenderError as error:
            failed = error
    if failed is not None:
        raise failed


def _times(answers: list[dict[str, Any]], key: str) -> list[float]:
    return [nanoseconds / 1e6 for answer in answers for nanoseconds in answer.get(key) or [0]]


_FIGURES = {
    "commit_p50_ms": lambda answers: quantile(_times(answers, "commit_times_ns"), 0.5),
    "commit_p99_ms": lambda answers: quantile(_times(answers, "commit_times_ns"), 0.99),
    "result_p50_ms": lambda answers: quantile(_times(answers, "times_ns"), 0.5),
    "result_p99_ms": lambda answers: quantile(_times(answers, "times_ns"), 0.99),
    "commits_per_second": lambda answers: (
        sum(len(answer["commit_times_ns"]) for answer in answers) / max(answer["durable"] for answer in answers)
    ),
}

SECTION = Section(
    key="shared_file",
    title="Many flow processes on one file",
    note=(
        "All start at once. A flow submits one task after another and takes each result, so that each is a commit of "
        "its own, with the waiting for the file's lock in it; by hand one row is committed after another. "
        "Milliseconds."
    ),
    columns=(
        Column("commit p50", "commit_p50_ms", 2),
        Column("commit p99", "commit_p99_ms", 1, spread=True),
        Column("result p50", "result_p50_ms", 1),
        Column("result p99", "result_p99_ms", 1),
        Column("commits/s", "commits_per_second"),
    ),
    measure=measure,
)
