"""``core-engine resume``: have a paused flow run go on, or one that ended execute what is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from core_engine.cli.errors import EXIT_CODES_HELP, ExitCode, exit_code_of
from core_engine.cli.execution import execute, load_flow
from core_engine.cli.output import JsonOption, RunArgument
from core_engine.cli.run import ParameterOption, QuietOption, RunnerOption
from core_engine.cli.values import parse_parameters
from core_engine.schemas.states import SCHEDULED

if TYPE_CHECKING:
    from core_engine.backend.store import Store
    from core_engine.engine.resuming import Resume
    from core_engine.schemas.records import FlowRun

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog=EXIT_CODES_HELP)
def resume(
    run: RunArgument,
    runner: RunnerOption = None,
    parameter: ParameterOption = None,
    entrypoint: Annotated[
        str | None,
        typer.Option("--entrypoint", metavar="ENTRYPOINT", help="Where the flow is now, if not where it was."),
    ] = None,
    execute_it: Annotated[
        bool,
        typer.Option(
            "--execute/--no-execute",
            help="Whether to execute a paused run that has left its process, in one that this command waits for.",
        ),
    ] = True,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Have a flow run go on.

    A paused one goes on where it waits, or in a new process if it has left its own. One that failed, crashed, was
    cancelled, or whose process died is executed again in this process: task runs whose results are stored are used
    again if neither their code nor their inputs have changed (see `core-engine run --resumable`).
    """
    from core_engine.cli.opening import open_store, read_run

    store = open_store()
    flow_run = read_run(store, run)
    if flow_run.state is not None and flow_run.state.is_final():
        parameters = parse_parameters(parameter or ())
        raise typer.Exit(_execute_again(store, flow_run, entrypoint, runner, parameters, quiet, json))
    _resume_paused(store, flow_run, execute_it)


# Paused ---------------------------------------------------------------------------------------------------------------


def _resume_paused(store: Store, flow_run: FlowRun, execute_it: bool) -> None:
    from core_engine.cli.opening import existing
    from core_engine.engine import resume_flow_run

    try:
        resume_flow_run(flow_run.id)
    except RuntimeError as refused:
        typer.echo(f"core-engine: {refused}", err=True)
        raise typer.Exit(ExitCode.FAILED) from refused
    flow_run = existing(store, flow_run.id)
    typer.echo(f"{flow_run.name} was resumed: {flow_run.state}")
    if flow_run.state_type is not SCHEDULED:
        return
    if not execute_it:
        typer.echo(f"Execute it: python -m core_engine.engine {flow_run.id}")
        return
    _execute_elsewhere(flow_run.id)
    state = existing(store, flow_run.id).state
    typer.echo(f"{flow_run.name}: {state}")
    raise typer.Exit(ExitCode.FAILED if state is None else exit_code_of(state.type))


def _execute_elsewhere(id: UUID) -> None:
    """Executes the run in a process of its own, with the settings of this one."""
    from core_engine.settings import get_settings_context
    from core_engine.settings.sources import PROFILE_VARIABLE

    environment = {**os.environ, PROFILE_VARIABLE: get_settings_context().profile.name}
    subprocess.run([sys.executable, "-m", "core_engine.engine", str(id)], env=environment, check=False)


# Ended ----------------------------------------------------------------------------------------------------------------


def _execute_again(
    store: Store,
    flow_run: FlowRun,
    entrypoint: str | None,
    runner: str | None,
    parameters: dict[str, Any],
    quiet: bool,
    json: bool,
) -> ExitCode:
    from core_engine.concurrency.waiting import step
    from core_engine.engine.resuming import check_can_resume, count_stored_results, take_up

    try:
        check_can_resume(flow_run)
    except RuntimeError as refused:
        typer.echo(f"core-engine: {refused}", err=True)
        return ExitCode.FAILED
    place = entrypoint or _entrypoint_of(store, flow_run)
    if place is None:
        raise typer.BadParameter(
            f"{flow_run.name} does not say where its flow is: it was defined inside a function, or in an interactive "
            "session. Give --entrypoint path/to/file.py:flow, or call flow.resume(id).",
            param_hint="--entrypoint",
        )
    stored, completed = count_stored_results(store, flow_run.id)
    typer.echo(f"{flow_run.name}: {stored:,} of {completed:,} completed task runs have a stored result.", err=json)
    taken_up: list[Resume] = []

    def load() -> Callable[[], Any]:
        taken_up.append(step(take_up(load_flow(place, runner), flow_run.id, parameters)))
        return lambda: taken_up[0].begin("state")

    code = execute(load, f"loading {place}", quiet, json)
    for line in taken_up[0].totals.lines():
        typer.echo(line, err=json)
    return code


def _entrypoint_of(store: Store, flow_run: FlowRun) -> str | None:
    if flow_run.entrypoint is not None or flow_run.deployment_id is None:
        return flow_run.entrypoint
    deployment = store.read_deployment(flow_run.deployment_id)
    return None if deployment is None else deployment.entrypoint
