"""``core-engine deploy``: name a flow so that runs of it can be created for later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from core_engine.cli.execution import load_flow
from core_engine.cli.run import EntrypointArgument, ParameterOption
from core_engine.cli.values import parse_parameters

if TYPE_CHECKING:
    from core_engine.flows import Flow

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def deploy(
    entrypoint: EntrypointArgument,
    name: Annotated[str, typer.Option("--name", "-n", metavar="NAME", help="What to call it.")],
    parameter: ParameterOption = None,
) -> None:
    """Keep where a flow is, under a name, so that runs of it can be created now and executed later.

    A deployment of the same name is replaced. Parameters are those of every run that is not given others.
    """
    from core_engine.client import get_client
    from core_engine.concurrency.waiting import step

    parameters = parse_parameters(parameter or ())
    flow = load_flow(entrypoint, None)
    _check_names(flow, parameters)
    if entrypoint.endswith(".py"):
        entrypoint = f"{entrypoint}:{flow.fn.__name__}"
    try:
        step(get_client().create_deployment(name, flow.name, entrypoint, parameters))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="-p") from error
    typer.echo(f"Deployed {flow.name} as {name}. Create a run of it: core-engine run-later {name}")


def _check_names(flow: Flow[..., Any], parameters: dict[str, Any]) -> None:
    unknown = sorted(parameters.keys() - set(flow.signature.parameter_names))
    if unknown and flow.signature.var_keyword is None:
        known = ", ".join(flow.signature.parameter_names) or "none"
        raise typer.BadParameter(
            f"{flow.name} has no parameter {', '.join(unknown)}; it has: {known}.", param_hint="-p"
        )
