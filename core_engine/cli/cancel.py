"""``core-engine cancel``: end a flow run or a task run before its time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from core_engine.cli.errors import ExitCode
from core_engine.cli.output import RunOrTaskRunArgument, TaskRunArgument, short_id
from core_engine.exceptions import ObjectNotFound

if TYPE_CHECKING:
    from uuid import UUID

    from core_engine.backend.store import Store
    from core_engine.schemas.records import FlowRun, TaskRun

app = typer.Typer(add_completion=False, rich_markup_mode=None)

POLL_SECONDS = 0.05


@app.command()
def cancel(
    run: RunOrTaskRunArgument,
    task_run: TaskRunArgument = None,
    wait: Annotated[
        float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait until the run has ended.")
    ] = 0,
) -> None:
    """Cancel a flow run, or one task run: at once if no process executes it, else its process is asked, and sees it
    within a second."""
    from core_engine.cli.opening import open_store, read_run_id
    from core_engine.client import get_client
    from core_engine.concurrency.waiting import step
    from core_engine.schemas.records import FlowRun

    store = open_store()
    found = _read(store, read_run_id(store, run, task_run))
    if _has_ended(found):
        typer.echo(f"{found.name} has already ended: {found.state}", err=True)
        raise typer.Exit(ExitCode.FAILED)
    client = get_client()
    is_flow_run = isinstance(found, FlowRun)
    step(client.cancel_flow_run(found.id) if is_flow_run else client.cancel_task_run(found.id))
    if _ends_within(store, found.id, wait):
        typer.echo(f"{found.name}: {_read(store, found.id).state}")
        return
    flow_run_id = found.id if isinstance(found, FlowRun) else found.flow_run_id
    typer.echo(f"Asked for {found.name} to be cancelled. `core-engine show {short_id(flow_run_id)}` says how it goes.")


def _read(store: Store, id: UUID) -> FlowRun | TaskRun:
    found = store.read_flow_run(id) or store.read_task_run(id)
    if found is None:
        raise ObjectNotFound(f"There is no run {id} in {store.path}.")
    return found


def _has_ended(run: FlowRun | TaskRun) -> bool:
    return run.state is not None and run.state.is_final()


def _ends_within(store: Store, id: UUID, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not _has_ended(_read(store, id)):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
        store.reconcile(time.time())
    return True
