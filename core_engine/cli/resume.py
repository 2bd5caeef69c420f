"""``core-engine resume``: have a paused flow run go on."""

from __future__ import annotations

import typer

from core_engine.cli.errors import ExitCode
from core_engine.cli.output import RunArgument

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def resume(run: RunArgument) -> None:
    """Resume a paused flow run. It goes on in the process where it waits."""
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
