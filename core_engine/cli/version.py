"""``core-engine version``."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed_version

import typer

from core_engine.cli.output import JsonOption, print_json

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def versions() -> dict[str, str]:
    """Returns the versions of the engine and of what its behaviour depends on."""
    import sqlite3

    return {
        "core-engine": installed_version("core-engine"),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "platform": platform.platform(terse=True),
    }


@app.command()
def version(json: JsonOption = False) -> None:
    """Show the versions of core-engine, Python and SQLite."""
    if json:
        print_json(versions())
        return
    for name, number in versions().items():
        typer.echo(f"{name:<12} {number}")
