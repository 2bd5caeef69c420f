"""``core-engine resume``: have a paused flow run go on."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated
from uuid import UUID

import typer

from core_engine.cli.errors import EXIT_CODES_HELP, ExitCode, exit_code_of
from core_engine.cli.output import RunArgument
from core_engine.schemas.states import SCHEDULED

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog=EXIT_CODES_HELP)
def resume(
    run: RunArgument,
    execute: Annotated[
        bool,
        typer.Option(
            "--execute/--no-execute",
            help="Whether to execute a run that has left its process, in one that this command waits for.",
        ),
    ] = True,
) -> None:
    """Resume a paused flow run: where it waits, or in a new process if it has left its own."""
    from core_engine.cli.opening import existing, open_store, read_run
    from core_engine.engine import resume_flow_run

    store = open_store()
    flow_run = read_run(store, run)
    try:
        resume_flow_run(flow_run.id)
    except RuntimeError as refused:
        typer.echo(f"core-engine: {refused}", err=True)
        raise typer.Exit(ExitCode.FAILED) from refused
    flow_run = existing(store, flow_run.id)
    typer.echo(f"{flow_run.name} was resumed: {flow_run.state}")
    if flow_run.state_type is not SCHEDULED:
        return
    if not execute:
        typer.echo(f"Execute it: python -m core_engine.engine {flow_run.id}")
        return
    _execute(flow_run.id)
    state = existing(store, flow_run.id).state
    typer.echo(f"{flow_run.name}: {state}")
    raise typer.Exit(ExitCode.FAILED if state is None else exit_code_of(state.type))


def _execute(id: UUID) -> None:
    """Executes the run in a process of its own, with the settings of this one."""
    from core_engine.settings import get_settings_context
    from core_engine.settings.sources import PROFILE_VARIABLE

    environment = {**os.environ, PROFILE_VARIABLE: get_settings_context().profile.name}
    subprocess.run([sys.executable, "-m", "core_engine.engine", str(id)], env=environment, check=False)
