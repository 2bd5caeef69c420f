#!/usr/bin/env python3
"""Print number -> test -> result for the behaviours that the tests name, and check those that are due.

Reads docs/behaviours.txt (all numbers), docs/behaviours_expected.toml (which are due now) and the reports that
`make test` and `make test-faults` leave in .reports/. With --check the exit code is 1 when a line that is due has no
passing test, when a test that names a line failed, or when a number is unknown.
"""

import argparse
import json
import signal
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IDS_FILE = ROOT / "docs" / "behaviours.txt"
EXPECTED_FILE = ROOT / "docs" / "behaviours_expected.toml"
REPORTS_FOLDER = ROOT / ".reports"


@dataclass
class Line:
    """One numbered line, what the tests say about it, and whether it is due."""

    id: str
    kind: str
    due: bool = False
    deferred: str | None = None
    outcomes: dict[str, str] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The id without its number."""
        return self.id.rstrip("0123456789").removesuffix("-")

    @property
    def result(self) -> str:
        """One word for all tests of the line."""
        return worst(self.outcomes.values()) or "no test"


def worst(outcomes: Iterable[str]) -> str | None:
    """Return the outcome that counts: a failure outweighs everything, a pass outweighs a skip; None of nothing."""
    found = set(outcomes)
    return next((word for word in ("failed", "passed", "skipped") if word in found), None)


class InputError(Exception):
    """A file that the table is made of is missing or says something that cannot be."""


def read_lines(ids_file: Path) -> dict[str, Line]:
    """Return all numbered lines, in the file's order."""
    texts = (text.split() for text in ids_file.read_text(encoding="utf-8").splitlines())
    return {words[0]: Line(id=words[0], kind=words[1]) for words in texts if words and words[0] != "#"}


def mark_due(lines: dict[str, Line], expected_file: Path) -> None:
    """Set `due` and `deferred` as the expectations say.

    Raises:
        InputError: An entry names no line, so that it would ask for nothing.
    """
    expected = tomllib.loads(expected_file.read_text(encoding="utf-8"))
    for kind in ("core", "edge"):
        for pattern in expected["due"][kind]:
            matching = [line for line in lines.values() if fnmatchcase(line.group, pattern)]
            if not matching:
                raise InputError(f"{expected_file.name}: no line belongs to the group {pattern!r}")
            for line in matching:
                line.due = line.due or line.kind == kind
    deferred = {entry["id"]: entry["reason"] for entry in expected.get("not_yet", [])}
    for unknown in [name for name in [*expected["due"]["ids"], *deferred] if name not in lines]:
        raise InputError(f"{expected_file.name} names {unknown!r}, which {IDS_FILE.name} does not list")
    for name in expected["due"]["ids"]:
        lines[name].due = True
    for name, reason in deferred.items():
        lines[name].due, lines[name].deferred = False, reason


def add_outcomes(lines: dict[str, Line], reports: list[Path]) -> dict[str, int]:
    """Enter the reports' outcomes and return how many tests passed, failed and were skipped.

    Raises:
        InputError: There is no report, or a test names an unknown line.
    """
    if not reports:
        raise InputError(f"there is no report in {REPORTS_FOLDER}: run `make test` first")
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for report in reports:
        for test in json.loads(report.read_text(encoding="utf-8"))["tests"]:
            counts[test["outcome"]] += 1
            for name in test["behaviours"]:
                if name not in lines:
                    raise InputError(f"{test['test']} names {name!r}, which {IDS_FILE.name} does not list")
                lines[name].outcomes[test["test"]] = test["outcome"]
    return counts


def print_table(lines: list[Line]) -> None:
    """Print a row for each test of each line, what failed first; the cases of a parametrised test share one."""
    for line in lines:
        need = "due" if line.due else "later" if line.deferred else ""
        rows = [*test_rows(line)] or [("no test", line.deferred or "-")]
        for number, (result, test) in enumerate(rows):
            head = f"{line.id:<14} {line.kind:<9} {need:<5}" if number == 0 else " " * 30
            print(f"{head} {result:<8} {test}")


def test_rows(line: Line) -> list[tuple[str, str]]:
    """Return outcome and name of each test of a line, with the number of its cases."""
    cases: dict[str, list[str]] = {}
    for test, outcome in line.outcomes.items():
        cases.setdefault(test.partition("[")[0], []).append(outcome)
    rows = []
    for test, outcomes in cases.items():
        failed = f"{outcomes.count('failed')} of " if "failed" in outcomes else ""
        rows.append((worst(outcomes) or "", test if len(outcomes) == 1 else f"{test} ({failed}{len(outcomes)} cases)"))
    return sorted(rows, key=lambda row: (row[0] != "failed", row[0] != "passed", row[1]))


def print_summary(lines: list[Line], counts: dict[str, int]) -> None:
    """Print how many of the lines that are due hold, by group, and the number of tests."""
    print(f"\n{'group':<14} {'lines':>5} {'tested':>6} {'due':>4} {'hold':>4}")
    for group in dict.fromkeys(line.group for line in lines):
        members = [line for line in lines if line.group == group]
        due = [line for line in members if line.due]
        tested = sum(1 for line in members if line.outcomes)
        held = sum(1 for line in due if line.result == "passed")
        print(f"{group:<14} {len(members):>5} {tested:>6} {len(due):>4} {held:>4}{'' if held == len(due) else '  <--'}")
    print("\n" + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))


def problems_of(lines: list[Line]) -> list[str]:
    """Return what --check complains about, one text a line of the table."""
    found = []
    for line in lines:
        failing = [test for test, outcome in line.outcomes.items() if outcome == "failed"]
        if failing:
            found.append(f"{line.id}: failed in {', '.join(failing)}")
        elif line.due and line.result == "skipped":
            found.append(f"{line.id}: is due, but every test of it was skipped")
        elif line.due and not line.outcomes:
            found.append(f"{line.id}: is due, but no test names it")
    return found


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when a line that is due does not hold")
    parser.add_argument("--missing", action="store_true", help="only show lines that are due and do not hold")
    parser.add_argument("--group", help="only show the lines of this group; * stands for any ending")
    parser.add_argument("reports", nargs="*", type=Path, help="reports to read (default: .reports/behaviours-*.json)")
    options = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it in silence
    try:
        lines = read_lines(IDS_FILE)
        mark_due(lines, EXPECTED_FILE)
        counts = add_outcomes(lines, options.reports or sorted(REPORTS_FOLDER.glob("behaviours-*.json")))
    except InputError as error:
        print(f"behaviours: {error}", file=sys.stderr)
        return 2
    shown = [line for line in lines.values() if fnmatchcase(line.group, options.group or "*")]
    if options.missing:
        shown = [line for line in shown if line.due and line.result != "passed"]
    print_table(shown)
    print_summary(shown, counts)
    problems = problems_of(list(lines.values())) if options.check else []
    for problem in problems:
        print(f"behaviours: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
