"""Executing a flow in a command: its progress, the signals that end it, and what is said at the end."""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import typer

from core_engine.cli.errors import ExitCode, exit_code_of
from core_engine.cli.output import command, flow_run_json, print_json, short_id, took
from core_engine.exceptions import MissingFlowError, TerminationSignal

if TYPE_CHECKING:
    from core_engine.cli.bars import Bar
    from core_engine.cli.progress import LiveProgress
    from core_engine.flows import Flow
    from core_engine.schemas.records import FlowRun


def execute(load: Callable[[], Callable[[], Any]], loading: str, quiet: bool, json: bool) -> ExitCode:
    """Loads and calls a flow, and shows what comes of it.

    Parameters:
        load: Returns what calls the flow: it gives a state, or an awaitable of one.
        loading: What to show while it loads.
        quiet: Whether to show neither progress nor a summary.
        json: Whether to print a record of the run to stdout at the end.

    Returns:
        The exit code that tells how the run ended.
    """
    outcome = Outcome()
    if quiet:
        _call(load(), outcome)
        _read_back(outcome, None)
    else:
        from core_engine.cli.progress import LiveProgress

        with LiveProgress(loading) as progress:
            try:
                call = load()
                progress.watch()
                _call(call, outcome)
            finally:
                outcome.id = outcome.id or progress.root
                _read_back(outcome, progress)
        _print_summary(outcome)
    if json:
        _print_json(outcome)
    return outcome.code


class Outcome:
    """How the run went: ``id`` is None while no run was made, ``record`` what the store says of it at the end."""

    def __init__(self) -> None:
        self.id: UUID | None = None
        self.record: FlowRun | None = None
        self.bars: list[Bar] = []
        self.signal: ExitCode | None = None

    @property
    def code(self) -> ExitCode:
        if self.signal is not None:
            return self.signal
        state = None if self.record is None else self.record.state
        return ExitCode.FAILED if state is None else exit_code_of(state.type)


def load_flow(entrypoint: str, runner: str | None) -> Flow[..., Any]:
    """Returns the flow that is meant, with the runner that is wanted.

    Raises:
        MissingFlowError, UnspecifiedFlowError, ScriptError: There is no such flow, or its file cannot be executed.
        UnknownTaskRunner, TaskRunnerNotInstalled: There is no such runner.
    """
    from core_engine.flows import load_flow_from_entrypoint, load_flow_from_script
    from core_engine.task_runners import get_task_runner

    place = entrypoint if entrypoint.endswith(".py") else entrypoint.rpartition(":")[0]
    if place.endswith(".py") and not Path(place).is_file():
        raise MissingFlowError(f"There is no file {place!r}, seen from {Path.cwd()}.")
    flow = (
        load_flow_from_script(place) if place == entrypoint else _from_entrypoint(load_flow_from_entrypoint, entrypoint)
    )
    if runner is not None:
        wanted = get_task_runner(runner)
        # A flow that asks for this kind of runner itself keeps the options that it gave it.
        if type(flow.task_runner) is not wanted:
            flow = flow.with_options(task_runner=wanted)
    return flow


def _from_entrypoint(load: Callable[[str], Flow[..., Any]], entrypoint: str) -> Flow[..., Any]:
    # As `python -m` does: modules of the working directory can be named.
    sys.path.insert(0, os.getcwd())
    try:
        return load(entrypoint)
    except ModuleNotFoundError as error:
        module = entrypoint.rpartition(":")[0]
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise MissingFlowError(f"There is no module {module!r}, seen from {Path.cwd()}.") from error


def _call(call: Callable[[], Any], outcome: Outcome) -> None:
    """Runs the flow in this thread, so that signals reach it. Its failure is its state, not an exception."""
    # The engine ends the run in order and then hands the signal on: to this, so that the outcome is still reported.
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        state = call()
        if inspect.isawaitable(state):
            state = _await(state)
    except KeyboardInterrupt:
        outcome.signal = ExitCode.INTERRUPTED
    except TerminationSignal:
        outcome.signal = ExitCode.TERMINATED
    else:
        outcome.id = state.state_details.flow_run_id
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise TerminationSignal(number)


def _await(awaitable: Any) -> Any:
    import asyncio

    async def wait() -> Any:
        return await awaitable

    return asyncio.run(wait())


def _read_back(outcome: Outcome, progress: LiveProgress | None) -> None:
    """Reads from the store how the run ended; what is shown and returned is what is recorded."""
    if outcome.id is None:
        return
    from core_engine.cli.opening import open_store
    from core_engine.cli.progress import recorded_bars

    store = open_store()
    outcome.record = store.read_flow_run(outcome.id)
    outcome.bars = recorded_bars(store, outcome.id) if progress is None else progress.finish(store, outcome.id)


def _print_summary(outcome: Outcome) -> None:
    """Says in a line on stderr how the run ended, in a second one why if it did not complete."""

    run = outcome.record
    if run is None or run.state is None:
        return
    total = sum(bar.total for bar in outcome.bars)
    counts = [(sum(getattr(bar, kind) for bar in outcome.bars), kind) for kind in ("failed", "cached", "cancelled")]
    told = "".join(f", {number:,} {kind}" for number, kind in counts if number)
    ended = f"{run.state.name} in {took(run)}" if run.start_time else run.state.name
    typer.echo(
        f"{run.flow_name} {run.name}: {ended}, {total:,} task run{'' if total == 1 else 's'}{told}. "
        f"Look at it: {command()} show {short_id(run.id)}",
        err=True,
    )
    if outcome.code is not ExitCode.COMPLETED and run.state.message:
        typer.echo(run.state.message, err=True)


def _print_json(outcome: Outcome) -> None:
    if outcome.record is None:
        return
    shown = flow_run_json(outcome.record)
    shown["task_runs"] = [
        {
            "task": bar.label.strip(),
            "total": bar.total,
            "completed": bar.completed,
            "cached": bar.cached,
            "failed": bar.failed,
            "cancelled": bar.cancelled,
        }
        for bar in outcome.bars
    ]
    print_json(shown)
