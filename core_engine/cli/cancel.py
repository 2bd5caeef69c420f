"""``core-engine cancel``: ask the process that executes a flow run to cancel it."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from core_engine.cli.errors import ExitCode
from core_engine.cli.output import RunArgument, short_id

app = typer.Typer(add_completion=False, rich_markup_mode=None)

POLL_SECONDS = 0.05


@app.command()
def cancel(
    run: RunArgument,
    wait: Annotated[
        float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait until the run has ended.")
    ] = 0,
) -> None:
    """Ask the process that executes a flow run to cancel it. It sees the request within a quarter of a second."""
    from core_engine.cli.opening import existing, open_store, read_run

    store = open_store()
    flow_run = read_run(store, run)
    if flow_run.state is not None and flow_run.state.is_final():
        typer.echo(f"{flow_run.name} has already ended: {flow_run.state}", err=True)
        raise typer.Exit(ExitCode.FAILED)
    store.write_request("cancel", flow_run.id, {})
    deadline = time.monotonic() + wait
    while wait and time.monotonic() < deadline:
        flow_run = existing(store, flow_run.id)
        if flow_run.state is not None and flow_run.state.is_final():
            typer.echo(f"{flow_run.name}: {flow_run.state}")
            return
        time.sleep(POLL_SECONDS)
        store.reconcile(time.time())
    typer.echo(
        f"Asked for {flow_run.name} to be cancelled. `core-engine show {short_id(flow_run.id)}` says how it goes."
    )
