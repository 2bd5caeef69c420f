"""``core-engine pause``: have nothing new start in a flow run until it is resumed."""

from __future__ import annotations

from typing import Annotated

import typer

from core_engine.cli.errors import ExitCode
from core_engine.cli.output import RunArgument, short_id

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def pause(
    run: RunArgument,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", min=0, metavar="SECONDS", help="The run fails if it is not resumed within this time."
        ),
    ] = 300,
) -> None:
    """Pause a flow run: task runs that have started go on, no other starts until it is resumed.

    A run with a deployment leaves its process; any other waits where it is.
    """
    from core_engine.cli.opening import existing, open_store, read_run
    from core_engine.engine import pause_flow_run

    store = open_store()
    flow_run = read_run(store, run)
    try:
        pause_flow_run(flow_run_id=flow_run.id, timeout=timeout)
    except RuntimeError as refused:
        typer.echo(f"core-engine: {refused}", err=True)
        raise typer.Exit(ExitCode.FAILED) from refused
    flow_run = existing(store, flow_run.id)
    typer.echo(f"{flow_run.name}: {flow_run.state}. Resume it: core-engine resume {short_id(flow_run.id)}")
