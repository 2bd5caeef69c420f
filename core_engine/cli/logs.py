"""``core-engine logs``: what a flow run and its task runs logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from core_engine.cli.output import RunArgument
from core_engine.cli.values import parse_level

if TYPE_CHECKING:
    from core_engine.backend.store import Store, StoredLog
    from core_engine.logging.records import LogEntry
    from core_engine.schemas.records import FlowRun

app = typer.Typer(add_completion=False, rich_markup_mode=None)

POLL_SECONDS = 0.2
CHUNK = 2000
_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red", "DEBUG": "dim"}


@app.command()
def logs(
    run: RunArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    level: Annotated[str, typer.Option("--level", help="Only lines of this level and above.")] = "debug",
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="Only lines of this task, or of this task run.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs, one object a line.")] = False,
) -> None:
    """Show what a flow run and its task runs logged."""
    from core_engine.cli.opening import open_store, read_run

    least = parse_level(level, "--level")
    store = open_store()
    flow_run = read_run(store, run)
    names = _Names(store, flow_run)
    show = _json_line if json else _TextLines().print
    for stored in _lines(store, flow_run.id, least, follow):
        if task is None or names.is_of(stored.entry, task):
            show(stored.entry, names.who(stored.entry))


def _lines(store: Store, flow_run_id: UUID, least: int, follow: bool) -> Iterator[StoredLog]:
    """Gives the lines that there are, and with `follow` those that come, until the run has ended."""
    after: int | None = None
    while True:
        # Read before the lines: what was logged before the run ended is then among them.
        run = store.read_flow_run(flow_run_id)
        ended = run is None or run.state is None or run.state.is_final()
        while True:
            lines = store.read_logs(flow_run_id, min_level=least, after=after, limit=CHUNK)
            yield from lines
            if lines:
                after = lines[-1].cursor
            if len(lines) < CHUNK:
                break
        if not follow or ended:
            return
        time.sleep(POLL_SECONDS)
        store.reconcile(time.time())


class _Names:
    """Names the runs that lines come from."""

    def __init__(self, store: Store, flow_run: FlowRun) -> None:
        self._store = store
        self._flow_run = flow_run
        self._names: dict[UUID, tuple[str, str]] = {}  # task run id: (task name, run name)

    def who(self, entry: LogEntry) -> str:
        """Returns who logged the line, as the console says it."""
        if entry.task_run_id is None:
            return f"Flow run {self._flow_run.name!r}"
        return f"Task run {self._of(entry.task_run_id)[1]!r}"

    def is_of(self, entry: LogEntry, name: str) -> bool:
        """Returns whether the line comes from the task, or the task run, of this name."""
        return entry.task_run_id is not None and name in self._of(entry.task_run_id)

    def _of(self, task_run_id: UUID) -> tuple[str, str]:
        if task_run_id not in self._names:
            run = self._store.read_task_run(task_run_id)
            self._names[task_run_id] = (
                (str(task_run_id), str(task_run_id)) if run is None else (run.task_name, run.name)
            )
        return self._names[task_run_id]


class _TextLines:
    """Prints lines as the console handler writes them: time, level, who, message."""

    def __init__(self) -> None:
        from core_engine.cli.output import console

        self._console = console()

    def print(self, entry: LogEntry, who: str) -> None:
        level = logging.getLevelName(entry.level)
        when = datetime.fromtimestamp(entry.timestamp, UTC).astimezone()
        begin = f"{when:%H:%M:%S}.{when.microsecond // 1000:03d} | "
        if self._console.color_system is None:  # written as it is: many times as fast
            self._console.file.write(f"{begin}{level:<7} | {who} - {entry.message}\n")
            return
        from rich.text import Text

        line = Text(begin)
        line.append(f"{level:<7}", style=_STYLES.get(level, ""))
        line.append(f" | {who} - ", style="dim")
        line.append(entry.message)
        self._console.print(line, soft_wrap=True)


def _json_line(entry: LogEntry, who: str) -> None:
    import json

    typer.echo(
        json.dumps(
            {
                "timestamp": datetime.fromtimestamp(entry.timestamp, UTC).isoformat(),
                "level": logging.getLevelName(entry.level),
                "who": who,
                "logger": entry.name,
                "message": entry.message,
                "flow_run_id": str(entry.flow_run_id),
                "task_run_id": None if entry.task_run_id is None else str(entry.task_run_id),
                "worker": entry.worker,
            },
            ensure_ascii=False,
        )
    )
