"""The command ``core-engine``: its global options, and the table of its sub-commands."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from core_engine.cli.errors import EXIT_CODES_HELP, errors_as_lines

# Sub-command to module, in the order of the help. Each module has a typer app called `app`.
_COMMANDS = {
    "run": "run",
    "runs": "runs",
    "show": "show",
    "logs": "logs",
    "why": "why",
    "cancel": "cancel",
    "pause": "pause",
    "resume": "resume",
    "deploy": "deploy",
    "run-later": "run_later",
    "page": "page",
    "settings": "settings",
    "db": "database",
    "version": "version",
}


class _LazyGroup(TyperGroup):
    """Imports the module of a sub-command when it is called or listed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        if cmd_name not in self.commands:
            module = import_module(f"core_engine.cli.{_COMMANDS[cmd_name]}")
            self.commands[cmd_name] = get_command(module.app)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # Suggestions for a misspelt command are made from this dictionary.
        if args and args[0] not in _COMMANDS:
            for name in _COMMANDS:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with errors_as_lines(debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


app = typer.Typer(
    cls=_LazyGroup,
    help="Run flows, and look at what they did.",
    epilog=EXIT_CODES_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        from core_engine.cli.version import versions

        typer.echo(versions()["core-engine"])
        raise typer.Exit


@app.callback()
def _global_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="NAME", help="Use the settings of this profile.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if profile is not None:
        from core_engine.settings import load_process_settings

        load_process_settings(profile)
