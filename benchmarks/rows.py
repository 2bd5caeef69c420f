"""What sections hand out: rows of figures, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.budgets import budgets_of
from benchmarks.interleaving import Measured
from benchmarks.measuring import Summary, summarise
from benchmarks.plans import Plan


@dataclass(slots=True)
class Row:
    """The figures of one contender.

    Attributes:
        name: What was measured.
        size: How many of it; None where that means nothing.
        figures: By name.
        void: What was wrong with rounds that do not count.
    """

    name: str
    size: int | None
    figures: dict[str, Summary] = field(default_factory=dict)
    void: list[str] = field(default_factory=list)

    def to_json(self, section: str) -> dict[str, Any]:
        budgets = [
            {
                "figure": budget.figure,
                "floor": budget.floor,
                "target": budget.target,
                "unacceptable": budget.unacceptable,
                "verdict": budget.verdict(self.figures[budget.figure].median),
            }
            for budget in budgets_of(section, self.name, self.size)
            if budget.figure in self.figures
        ]
        return {
            "name": self.name,
            "size": self.size,
            "figures": {name: figure.to_json() for name, figure in self.figures.items()},
            "budgets": budgets,
            "void": self.void,
        }


@dataclass(slots=True, frozen=True)
class Column:
    """A column of a section's table.

    Attributes:
        header: What stands above it.
        figure: The figure it shows.
        digits: After the decimal point.
        spread: Whether to show the lowest and the highest round as well.
    """

    header: str
    figure: str
    digits: int = 0
    spread: bool = False


@dataclass(slots=True, frozen=True)
class Section:
    """A part of the benchmark.

    Attributes:
        key: Its name on the command line and in the results.
        title, note: For people.
        columns: Of its table, beside the row's name and size.
        measure: Does it, in an empty folder.
    """

    key: str
    title: str
    note: str
    columns: tuple[Column, ...]
    measure: Callable[[Plan, Path], list[Row]]


def row_of(measured: Measured, size: int | None, figures: dict[str, Callable[[dict[str, Any]], float]]) -> Row:
    """Makes a row: each figure is computed for each round that counts, and summarised.

    A contender without such a round gets no figures.
    """
    row = Row(measured.spec.name, size, void=list(measured.void))
    if measured.valid:
        row.figures = {name: summarise(map(figure, measured.valid)) for name, figure in figures.items()}
    return row


def ratios(rows: Sequence[Measured], base: Measured, figure: Callable[[dict[str, Any]], float]) -> dict[str, Summary]:
    """Returns, for each contender, its figure as a multiple of the base's, taken within each round."""
    found: dict[str, Summary] = {}
    for measured in rows:
        pairs = zip(measured.rounds, base.rounds, strict=True)
        values = [figure(own) / figure(other) for own, other in pairs if own is not None and other is not None]
        if values:
            found[measured.spec.name] = summarise(values)
    return found
