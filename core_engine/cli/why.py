"""``core-engine why``: what a run waits for, where its value came from, how it ended."""

from __future__ import annotations

import typer

from core_engine.cli.output import JsonOption, RunOrTaskRunArgument, TaskRunArgument, print_json

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def why(run: RunOrTaskRunArgument, task_run: TaskRunArgument = None, json: JsonOption = False) -> None:
    """Say why a run is where it is: what it waits for, where its value came from, how it ended.

    What only the process of the flow run knows is asked of it; it has a second to answer.
    """
    from core_engine.cli.opening import open_store, read_run_id
    from core_engine.client import get_client
    from core_engine.concurrency.waiting import step

    store = open_store()
    explanation = step(get_client().why(read_run_id(store, run, task_run)))
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
