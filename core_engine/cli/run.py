"""``core-engine run``: run a flow here and now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from core_engine.cli.errors import EXIT_CODES_HELP
from core_engine.cli.execution import execute, load_flow
from core_engine.cli.output import JsonOption
from core_engine.cli.values import parse_parameters

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EntrypointArgument = Annotated[
    str,
    typer.Argument(
        metavar="ENTRYPOINT", help="The flow: path/to/file.py:flow, package.module:flow, or a file with one flow in it."
    ),
]
RunnerOption = Annotated[
    str | None,
    typer.Option("--runner", metavar="NAME", help="The task runner, such as sequential; by default the flow's own."),
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", metavar="KEY=VALUE", help="A parameter: JSON, else text. May be repeated."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show neither progress nor a summary.")]
ResumableOption = Annotated[
    bool,
    typer.Option(
        "--resumable",
        help="Store results and what they were made of: `core-engine resume` then repeats no task run.",
    ),
]


@app.command(epilog=EXIT_CODES_HELP)
def run(
    entrypoint: EntrypointArgument,
    runner: RunnerOption = None,
    parameter: ParameterOption = None,
    resumable: ResumableOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Run a flow in this process, and show its progress.

    Progress is shown on a terminal only, and goes to stderr as log lines do. With --json a record of the run is
    printed to stdout at the end.
    """
    from core_engine.settings import temporary_settings

    parameters = parse_parameters(parameter or ())

    def load() -> Callable[[], Any]:
        flow = load_flow(entrypoint, runner)
        return lambda: flow(**parameters, return_state=True)

    with temporary_settings({"RESUMABLE": True} if resumable else {}):
        code = execute(load, f"loading {entrypoint}", quiet, json)
    raise typer.Exit(code)
