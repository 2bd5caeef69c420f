"""``core-engine cancel``: end a flow run before its time."""

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
    """Cancel a flow run: at once if no process executes it, else its process is asked, and sees it within a second."""
    from core_engine.cli.opening import existing, open_store, read_run
    from core_engine.client import get_client
    from core_engine.concurrency.waiting import step

    store = open_store()
    flow_run = read_run(store, run)
    if flow_run.state is not None and flow_run.state.is_final():
        typer.echo(f"{flow_run.name} has already ended: {flow_run.state}", err=True)
        raise typer.Exit(ExitCode.FAILED)
    step(get_client().cancel_flow_run(flow_run.id))
    flow_run = existing(store, flow_run.id)
    if flow_run.state is not None and flow_run.state.is_final():
        typer.echo(f"{flow_run.name}: {flow_run.state}")
        return
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
