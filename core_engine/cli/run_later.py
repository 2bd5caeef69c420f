"""``core-engine run-later``: create a run of a deployment, for another process to execute."""

from __future__ import annotations

from typing import Annotated

import typer

from core_engine.cli.output import JsonOption, flow_run_json, print_json
from core_engine.cli.run import ParameterOption
from core_engine.cli.values import parse_duration, parse_parameters

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def run_later(
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Name of the deployment.")],
    parameter: ParameterOption = None,
    delay: Annotated[
        str | None,
        typer.Option("--in", metavar="DURATION", help="Not before so much time has passed, such as 90s, 15m or 2h."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Create a run of a deployment. `python -m core_engine.engine RUN_ID` executes it, waiting until it is due."""
    from datetime import UTC, datetime, timedelta

    from core_engine.client import get_client
    from core_engine.concurrency.waiting import step
    from core_engine.states import Scheduled

    parameters = parse_parameters(parameter or ())
    seconds = 0.0 if delay is None else parse_duration(delay, "--in")
    client = get_client()
    found = step(client.read_deployment_by_name(deployment))
    state = Scheduled(datetime.now(UTC) + timedelta(seconds=seconds))
    try:
        run = step(client.create_flow_run_from_deployment(found.id, parameters=parameters, state=state))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="-p") from error
    if json:
        print_json(flow_run_json(run))
    else:
        typer.echo(f"Created {run.name}. Execute it: python -m core_engine.engine {run.id}")
