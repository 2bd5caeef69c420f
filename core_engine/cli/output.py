"""Tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from core_engine.schemas.states import StateType

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from core_engine.schemas.records import FlowRun
    from core_engine.schemas.states import State

    Rows = list[list[str | Text]]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A flow run: its id, the unique beginning of one, or its name.")
]

RunOrTaskRunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A flow run: its id, the unique beginning of one, or its name; or the id of a task run."
    ),
]
TaskRunArgument = Annotated[
    str | None, typer.Argument(metavar="[TASK_RUN]", help="A task run of that flow run, by its name, such as load-3.")
]

STYLES = {
    StateType.COMPLETED: "green",
    StateType.FAILED: "bold red",
    StateType.CRASHED: "bold red",
    StateType.CANCELLED: "yellow",
    StateType.CANCELLING: "yellow",
    StateType.RUNNING: "cyan",
    StateType.PAUSED: "magenta",
}


def console(stderr: bool = False) -> Console:
    """Returns a console on stdout (or stderr); colours only on a terminal."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False)


def print_json(value: Any) -> None:
    """Prints `value` as JSON: times in ISO format, ids as text."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


def print_table(columns: Sequence[str], rows: Rows, right: Sequence[str] = ()) -> None:
    """Prints rows below the names of their columns; those named in `right` are aligned there.

    Where the output is not a terminal it is as wide as it needs to be, for the sake of grep and awk.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    target = console()
    if not target.is_terminal:
        target.width = 10_000
    target.print(table)


def state_text(type: StateType | None, name: str | None) -> Text:
    """Returns a state's name in its colour."""
    from rich.text import Text

    return Text(name or "-", style=STYLES.get(type, "") if type else "")


def took(run: FlowRun) -> str:
    """Returns how long a flow run took, or has been running; a dash if it did not start."""
    from core_engine.page.format import duration

    if run.start_time is None:
        return "-"
    return duration(((run.end_time or datetime.now(UTC)) - run.start_time).total_seconds())


def command() -> str:
    """Return `core-engine` as this shell finds it: by its name, or by its path where the name is not on the PATH.

    A line that is printed for people to copy begins with it. `make` runs the command without activating its virtual
    environment.
    """
    import shutil
    import sys
    from pathlib import Path

    called = Path(sys.argv[0]) if sys.argv and sys.argv[0] else None
    if called is None or called.name != "core-engine" or shutil.which("core-engine"):
        return "core-engine"
    here = Path.cwd()
    return str(called.relative_to(here) if called.is_relative_to(here) else called)


def short_id(id: UUID) -> str:
    """Returns the beginning of an id by which the commands find it."""
    return str(id)[:8]


def state_json(state: State | None) -> dict[str, Any] | None:
    """Returns a state as JSON says it, without its data."""
    if state is None:
        return None
    return {"type": state.type.value, "name": state.name, "message": state.message, "timestamp": state.timestamp}


def flow_run_json(run: FlowRun) -> dict[str, Any]:
    """Returns a flow run as JSON says it."""
    return {
        "id": run.id,
        "name": run.name,
        "flow_name": run.flow_name,
        "flow_version": run.flow_version,
        "state": state_json(run.state),
        "parameters": run.parameters,
        "tags": run.tags,
        "run_count": run.run_count,
        "created": run.created,
        "start_time": run.start_time,
        "end_time": run.end_time,
        "total_run_time_seconds": run.total_run_time,
        "parent_task_run_id": run.parent_task_run_id,
        "task_runner": run.task_runner,
    }
