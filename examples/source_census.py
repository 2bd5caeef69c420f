"""A census of Python source: every file of this interpreter's standard library and site-packages.

    core-engine run examples/source_census.py:census -p limit=1000

Thousands of real files, some of which cannot be parsed: the standard library keeps such files for its own tests.

    find_files ── read_and_parse ── measure ── merge, 32 to 1, until one is left ── rank (a subflow)
                  one run a file    one run a file

- A file that cannot be parsed fails its own task run and no other; `measure` takes the failure through `allow_failure`.
- `read_and_parse` is cached by path, size and time of change: a second census reads only what has changed.
- `find_files` is tried again when a file vanishes while it is looking, as one does when a package is being installed.
- When the flow has ended a hook writes a page with a timeline of all task runs, and charts.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import nlargest
from pathlib import Path
from typing import Any, TypedDict

from core_engine import Flow, State, allow_failure, flow, task, unmapped
from core_engine.context import TaskRunContext
from core_engine.schemas.records import FlowRun
from runners.concurrent import ConcurrentTaskRunner

FAN_IN = 32
TOP = 10
BODIES = ("body", "handlers", "orelse", "finalbody", "cases")  # where statements hold statements


@dataclass(frozen=True)
class SourceFile:
    """A file to read. `name` is its path below the root in which it was found."""

    path: str
    name: str
    size: int
    changed_ns: int


class Outline(TypedDict):
    """What is kept of a file: small, and plain enough to be stored as JSON."""

    lines: int
    depth: int
    functions: list[tuple[str, int]]  # name, lines
    imports: list[str]


@dataclass
class Census:
    """Figures of one file or of many; two of them add up to a third."""

    files: int = 0
    lines: int = 0
    functions: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    imports: Counter[str] = field(default_factory=Counter)  # module: files that import it
    packages: Counter[str] = field(default_factory=Counter)  # package: lines
    sizes: Counter[int] = field(default_factory=Counter)  # bits of the number of lines: files
    longest: list[tuple[int, str]] = field(default_factory=list)  # lines, function
    deepest: list[tuple[int, str]] = field(default_factory=list)  # blocks, file


def interpreter_roots() -> list[Path]:
    """Where this interpreter keeps its standard library and what was installed beside it."""
    return [Path(path) for path in dict.fromkeys(map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))]


@task(retries=3, retry_delay_seconds=1)
def find_files(roots: list[Path], limit: int) -> list[SourceFile]:
    """Lists at most `limit` Python files below `roots`."""
    found: list[SourceFile] = []
    for root in roots:
        for path in _python_files(root):
            if len(found) == limit:
                return found
            status = path.stat()  # fails if the file has just vanished: then the task is tried again
            found.append(SourceFile(str(path), str(path.relative_to(root)), status.st_size, status.st_mtime_ns))
    return found


def _python_files(root: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(root):
        # The standard library's folder may hold site-packages, which is a root of its own or another interpreter's.
        subfolders[:] = sorted(name for name in subfolders if name not in ("__pycache__", "site-packages"))
        for name in sorted(files):
            path = Path(folder, name)
            if name.endswith(".py") and path.is_file():  # no broken links
                yield path


def unless_changed(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """The cache key of a file: the same as long as the file is."""
    source: SourceFile = parameters["source"]
    return f"source-census-1:{source.path}:{source.size}:{source.changed_ns}"


@task(cache_key_fn=unless_changed, result_serializer="json")
def read_and_parse(source: SourceFile) -> Outline:
    """Reads and parses one file. Raises SyntaxError or ValueError if it cannot be parsed."""
    content = Path(source.path).read_bytes()
    tree = ast.parse(content, source.path)
    outline = Outline(lines=len(content.splitlines()), depth=0, functions=[], imports=[])
    blocks: list[tuple[ast.AST, int]] = [(tree, 0)]
    while blocks:
        block, depth = blocks.pop()
        outline["depth"] = max(outline["depth"], depth)
        for statement in (child for name in BODIES for child in getattr(block, name, ())):
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (statement.end_lineno or statement.lineno) - statement.lineno + 1
                outline["functions"].append((statement.name, lines))
            elif isinstance(statement, ast.Import):
                outline["imports"] += [alias.name for alias in statement.names]
            elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
                outline["imports"].append(statement.module)
            if hasattr(statement, "body") or hasattr(statement, "cases"):
                is_elif = isinstance(statement, ast.If) and getattr(block, "orelse", None) == [statement]
                blocks.append((statement, depth + (not is_elif)))
    return outline


@task
def measure(source: SourceFile, outline: Outline | Exception) -> Census:
    """Makes figures of one file; of one that could not be parsed, the kind of problem."""
    if isinstance(outline, Exception):
        return Census(files=1, problems=Counter([type(outline).__name__]))
    functions = [(lines, f"{source.name}: {name}") for name, lines in outline["functions"]]
    return Census(
        files=1,
        lines=outline["lines"],
        functions=len(functions),
        imports=Counter({name.partition(".")[0] for name in outline["imports"]}),
        packages=Counter({Path(source.name).parts[0].removesuffix(".py"): outline["lines"]}),
        sizes=Counter([outline["lines"].bit_length()]),
        longest=nlargest(TOP, functions),
        deepest=[(outline["depth"], source.name)],
    )


@task
def merge(parts: list[Census]) -> Census:
    """Adds up the figures of many files."""
    total = Census()
    for part in parts:
        total.files += part.files
        total.lines += part.lines
        total.functions += part.functions
        for name in ("problems", "imports", "packages", "sizes"):
            getattr(total, name).update(getattr(part, name))
        total.longest = nlargest(TOP, total.longest + part.longest)
        total.deepest = nlargest(TOP, total.deepest + part.deepest)
    return total


@task(task_run_name="top-{what}")
def top(what: str, total: Census) -> list[tuple[str, int]]:
    """Ranks one of the census's figures, the greatest first."""
    figures = getattr(total, what)
    return figures.most_common(TOP) if isinstance(figures, Counter) else [(name, number) for number, name in figures]


@flow
def rank(total: Census) -> dict[str, list[tuple[str, int]]]:
    """Makes all rankings, side by side."""
    rankings = ["packages", "imports", "longest", "deepest", "problems"]
    return {what: ranking.result() for what, ranking in zip(rankings, top.map(rankings, unmapped(total)), strict=True)}


def write_page(flow: Flow[..., Any], flow_run: FlowRun, state: State) -> None:
    """Called when the flow has completed and all of it is recorded: writes the page."""
    from core_engine.page import write_run_page

    total, rankings = state.result()
    path = write_run_page(flow_run.parameters["output"], flow_run.id, [("Census", charts(total, rankings))])
    print(f"\nTimeline and charts: {path}")


# Parsing holds the interpreter's lock: more threads than these would only wait for each other.
@flow(task_runner=ConcurrentTaskRunner(max_workers=8), on_completion=[write_page])
def census(
    limit: int = 5000, roots: list[Path] | None = None, output: Path = Path(".core_engine/source_census.html")
) -> tuple[Census, dict[str, list[tuple[str, int]]]]:
    """Counts at most `limit` files below `roots` (None: those of this interpreter), and writes a page to `output`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the parser thinks of other people's code
        sources = find_files(interpreter_roots() if roots is None else roots, limit)
        outlines = read_and_parse.map(sources)
        parts = measure.map(sources, allow_failure(outlines))
        while len(parts) > 1:
            parts = merge.map([parts[start : start + FAN_IN] for start in range(0, len(parts), FAN_IN)])
        total = parts[0].result() if parts else Census()
    rankings = rank(total)
    print_tables(total, rankings)
    return total, rankings


TITLES = {
    "packages": ("Largest packages", "lines"),
    "imports": ("Most imported modules", "importing files"),
    "longest": ("Longest functions", "lines"),
    "deepest": ("Deepest nesting", "blocks"),
    "problems": ("Cannot be parsed", "files"),
}


def print_tables(total: Census, rankings: dict[str, list[tuple[str, int]]]) -> None:
    """Prints the result as tables side by side."""
    from rich.columns import Columns
    from rich.console import Console
    from rich.table import Table

    tables = []
    for what, ranking in rankings.items():
        title, unit = TITLES[what]
        table = Table("", unit, title=title, title_justify="left", title_style="bold", box=None, width=38)
        table.columns[0].no_wrap = True
        table.columns[1].justify = "right"
        for name, number in ranking[:5]:
            table.add_row(name if len(name) < 28 else "…" + name[-26:], f"{number:,}")
        if ranking:
            tables.append(table)
    console = Console()
    console.print(f"\n{total.files:,} files, {total.lines:,} lines, {total.functions:,} functions\n", highlight=False)
    console.print(Columns(tables, padding=(1, 2)))


def charts(total: Census, rankings: dict[str, list[tuple[str, int]]]) -> str:
    """The census as charts for the page."""
    from core_engine.page.charts import bar_chart, chart, histogram

    bits = range(max(total.sizes, default=0) + 1)
    sizes = histogram([(f"{1 << size >> 1:,}" if size % 2 else "", total.sizes[size]) for size in bits], colour=3)
    drawn = [chart("Lines in a file", f"{total.files:,} files, {total.lines:,} lines", sizes)]
    for colour, (what, ranking) in enumerate(rankings.items()):
        if ranking:
            drawn.append(chart(*TITLES[what], bar_chart(ranking, colour=colour)))
    return f'<div class="charts">{"".join(drawn)}</div>'


if __name__ == "__main__":
    census()
