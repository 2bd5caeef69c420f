"""How errors end a command: one clear line and an exit code; the traceback only on request."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from core_engine.exceptions import (
    CoreEngineError,
    MissingFlowError,
    ObjectNotFound,
    ParameterBindError,
    SettingsError,
    TaskRunnerNotInstalled,
    UnknownTaskRunner,
    UnspecifiedFlowError,
)
from core_engine.schemas.states import CANCELLED, COMPLETED, CRASHED, FAILED, PAUSED, StateType


class ExitCode(IntEnum):
    """What a command's exit code says."""

    COMPLETED = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    PAUSED = 4
    UNFINISHED = 5
    INTERRUPTED = 130
    TERMINATED = 143


EXIT_CODES_HELP = (
    "Exit codes: 0 completed, 1 failed or crashed (also: the command could not do its work), 2 wrong usage, "
    "3 cancelled, 4 paused, 5 otherwise unfinished, 130 interrupted by Ctrl-C, 143 terminated."
)

# What the user named does not exist or cannot be used as given: nothing was started.
_USAGE_ERRORS = (
    MissingFlowError,
    UnspecifiedFlowError,
    ObjectNotFound,
    ParameterBindError,
    SettingsError,
    UnknownTaskRunner,
    TaskRunnerNotInstalled,
)
_CODES = {
    COMPLETED: ExitCode.COMPLETED,
    FAILED: ExitCode.FAILED,
    CRASHED: ExitCode.FAILED,
    CANCELLED: ExitCode.CANCELLED,
    PAUSED: ExitCode.PAUSED,
}


def exit_code_of(type: StateType) -> ExitCode:
    """Returns the exit code that tells how a flow run ended."""
    return _CODES.get(type, ExitCode.UNFINISHED)


@contextmanager
def errors_as_lines(debug: bool) -> Iterator[None]:
    """Turns an error inside the block into a line on stderr and an exit code; with `debug` it is left as it is.

    Raises:
        typer.Exit: There was an error.
    """
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if debug or not _is_reportable(error):
            raise
        sys.stderr.write(f"core-engine: {_text(error)}\n")
        code = ExitCode.USAGE if isinstance(error, _USAGE_ERRORS) else ExitCode.FAILED
        raise typer.Exit(code) from error


def _is_reportable(error: Exception) -> bool:
    """Whether a line says it all. Errors in the use of the command line are typer's to report, a broken pipe too."""
    if isinstance(error, CoreEngineError):
        return True
    if isinstance(error, BrokenPipeError):
        return False
    return not hasattr(error, "exit_code")


def _text(error: Exception) -> str:
    if isinstance(error, CoreEngineError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}. `core-engine --debug` shows where it comes from."
