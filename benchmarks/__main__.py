"""``python -m benchmarks``: measures, checks, and writes results/<plan>.json and the table of README.md."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import report, tables
from benchmarks.machine import describe
from benchmarks.plans import PLANS, Plan
from benchmarks.processes import WorkerError
from benchmarks.rows import Section
from benchmarks.sections import SECTIONS

# Above this, somebody else is using the machine.
BUSY_LOAD = 0.5


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code: 1 when a round was void or a figure is unacceptable."""
    options = _parse(arguments)
    plan = PLANS[options.plan]
    output = options.output or report.RESULTS / f"{plan.name}.json"
    keys = options.only or [section.key for section in SECTIONS]
    document = run(plan, keys, options.work)
    if earlier := report.read(output):
        # What was not measured now: sections that were not asked for, and other engines.
        document["sections"] = _in_order(report.merged(earlier["sections"], document["sections"]))
    report.write(document, output)
    text = tables.markdown(document)
    print(text)
    print(f"\nwritten to {output}")
    if options.readme or (plan.name == "full" and options.output is None):
        tables.put_into_readme("results", text)
    return _judge(document)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--plan", choices=PLANS, default="full", help="how much to measure (full: about half an hour)")
    parser.add_argument("--quick", dest="plan", action="store_const", const="quick", help="some minutes")
    parser.add_argument(
        "--only", action="append", choices=[section.key for section in SECTIONS], help="only this section; repeatable"
    )
    parser.add_argument("--output", type=Path, help="the JSON file; by default results/<plan>.json")
    parser.add_argument("--readme", action="store_true", help="put the table into README.md (a full run always does)")
    parser.add_argument("--work", type=Path, default=report.WORK, help="where homes are made and removed")
    return parser.parse_args(arguments)


def run(plan: Plan, keys: list[str], work: Path) -> dict[str, Any]:
    """Measures the sections named by `keys`, in an own folder below `work`, and returns the document of results.

    Raises:
        WorkerError: A contender could not be measured at all.
    """
    with _own_folder(work) as folder:
        facts = describe(Path(folder))
        load = facts["machine"]["load_at_start"]
        if load > BUSY_LOAD:
            print(f"The machine is busy (load {load:g}): figures will vary.", file=sys.stderr)
        document = report.new_document(plan.name, plan.rounds, datetime.now(UTC), facts)
        for section in SECTIONS:
            if section.key in keys:
                document["sections"].append(_measure(section, plan, Path(folder) / section.key, facts))
    return document


def _measure(section: Section, plan: Plan, folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    started, start = datetime.now(UTC), time.perf_counter()
    print(f"{started:%H:%M:%S}  {section.title}", file=sys.stderr, flush=True)
    folder.mkdir()
    rows = section.measure(plan, folder)
    return report.section_to_json(section, rows, started, time.perf_counter() - start, facts)


def _own_folder(work: Path) -> AbstractContextManager[str]:
    work.mkdir(parents=True, exist_ok=True)
    return TemporaryDirectory(prefix="run-", dir=work)


def _in_order(sections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the sections in the order of ``SECTIONS``, others after them."""
    order = [section.key for section in SECTIONS]
    return sorted(sections, key=lambda part: order.index(part["key"]) if part["key"] in order else len(order))


def _judge(document: dict[str, Any]) -> int:
    problems = [f"void round: {text}" for text in report.void_rounds(document)]
    problems += [f"unacceptable: {text}" for text in report.unacceptable(document)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WorkerError as error:
        sys.exit(f"{error}")
