"""Rounds of several contenders in turn, so that what slows the machine down slows all of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.processes import ContenderError, Spec, Worker

# Given a spec, the size, the folder and the worker's answer, returns what is wrong with the round.
Check = Callable[[Spec, int, Path, dict[str, Any]], list[str]]


@dataclass(slots=True)
class Measured:
    """The rounds of one contender.

    Attributes:
        rounds: What the worker answered, with ``disk_bytes`` added, in the order of rounds; void ones are None.
        void: What was wrong with the others.
    """

    spec: Spec
    rounds: list[dict[str, Any] | None] = field(default_factory=list)
    void: list[str] = field(default_factory=list)

    @property
    def valid(self) -> list[dict[str, Any]]:
        return [answer for answer in self.rounds if answer is not None]


def interleave(
    specs: Sequence[Spec],
    size: int,
    rounds: int,
    work: Path,
    check: Check,
    warm_up_size: int | None = None,
) -> dict[str, Measured]:
    """Runs `rounds` rounds of each contender, after one that does not count.

    The order turns by one from round to round, so that nobody always follows the same neighbour.

    Parameters:
        size: Of each round.
        work: A folder for what is recorded; emptied after each round.
        check: Finds what makes a round void.
        warm_up_size: Of the round that does not count; None: the same size.
    """
    measured = {spec.name: Measured(spec) for spec in specs}
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(spec, work / f"worker-{number}")) for number, spec in enumerate(specs)]
        for number in range(-1, rounds):
            for place in range(len(workers)):
                worker = workers[(place + number + 1) % len(workers)]
                round_size = size if number >= 0 else min(size, warm_up_size or size)
                answer, problems = _one_round(worker, round_size, work, check)
                if number >= 0:
                    _keep(measured[worker.spec.name], answer, problems)
    return measured


def _one_round(worker: Worker, size: int, work: Path, check: Check) -> tuple[dict[str, Any], list[str]]:
    with round_folder(work) as folder:
        try:
            answer = worker.ask(do="round", size=size, folder=str(folder))
        except ContenderError as error:
            return {}, [last_line(error)]
        problems = check(worker.spec, size, folder, answer)
        worker.ask(do="close", size=size, folder=str(folder))
        answer["disk_bytes"] = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        return answer, problems


def last_line(error: Exception) -> str:
    """Returns the last line of an error's text, which names the exception."""
    return str(error).strip().splitlines()[-1]


_numbers = count()


@contextmanager
def round_folder(work: Path) -> Iterator[Path]:
    """Makes a folder for one round and removes it afterwards.

    Its name is never used again: a process holds its lease on a home for as long as it lives.
    """
    folder = work / f"round-{next(_numbers)}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _keep(measured: Measured, answer: dict[str, Any], problems: list[str]) -> None:
    if problems:
        text = f"{measured.spec.name}: {'; '.join(problems)}"
        print(f"  a round is void: {text}", file=sys.stderr)
        measured.void.append(text)
        measured.rounds.append(None)
    else:
        measured.rounds.append(answer)
