"""``core-engine why``: what a run waits for, where its value came from, how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from core_engine.cli.output import JsonOption, print_json
from core_engine.exceptions import ObjectNotFound

if TYPE_CHECKING:
    from core_engine.backend.store import Store
    from core_engine.schemas.records import TaskRun

app = typer.Typer(add_completion=False, rich_markup_mode=None)

RunOrTaskRunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A flow run: its id, the unique beginning of one, or its name; or the id of a task run."
    ),
]
TaskRunArgument = Annotated[
    str | None, typer.Argument(metavar="[TASK_RUN]", help="A task run of that flow run, by its name, such as load-3.")
]


@app.command()
def why(run: RunOrTaskRunArgument, task_run: TaskRunArgument = None, json: JsonOption = False) -> None:
    """Say why a run is where it is: what it waits for, where its value came from, how it ended.

    What only the process of the flow run knows is asked of it; it has a second to answer.
    """
    from core_engine.cli.opening import open_store
    from core_engine.client import get_client
    from core_engine.concurrency.waiting import step

    store = open_store()
    explanation = step(get_client().why(_id_of(store, run, task_run)))
    if json:
        print_json(
            {
                "run_id": explanation.run_id,
                "reason": explanation.reason,
                "text": explanation.text,
                "details": explanation.details,
            }
        )
    else:
        typer.echo(explanation.text)


def _id_of(store: Store, run: str, task_run: str | None) -> UUID:
    if task_run is not None:
        return _find_task_run(store, store.resolve_flow_run_id(run), task_run).id
    try:
        return store.resolve_flow_run_id(run)
    except ObjectNotFound:
        try:
            id = UUID(run)
        except ValueError:
            pass
        else:
            return id
        raise


def _find_task_run(store: Store, flow_run_id: UUID, name: str) -> TaskRun:
    # A usual name is the task's with a number; only runs that were named otherwise need a look at all.
    task_name = name.rpartition("-")[0]
    for filters in ({"task_name": task_name}, {}):
        for found in store.read_task_runs(flow_run_id, **filters):  # type: ignore[arg-type]
            if name in (found.name, str(found.id)):
                return found
    raise ObjectNotFound(f"The flow run {flow_run_id} has no task run named {name!r}.")
