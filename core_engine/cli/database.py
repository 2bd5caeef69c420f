"""``core-engine db``: where the database is, and its care."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core_engine.cli.output import JsonOption, print_json
from core_engine.exceptions import StoreUnavailable

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="The embedded database: where it is, and its care.",
)


@app.command()
def path(json: JsonOption = False) -> None:
    """Show where the database is. It is made when the first flow runs."""
    from core_engine.settings import get_current_settings

    database = get_current_settings().database_path
    if json:
        exists = database.exists()
        print_json({"path": database, "exists": exists, "size_bytes": database.stat().st_size if exists else None})
    else:
        typer.echo(database)


@app.command()
def migrate() -> None:
    """Bring the database to the version of this installation, or make it. Other commands do so by themselves."""
    from core_engine.cli.opening import open_store

    store = open_store()
    typer.echo(f"{store.path} is up to date.")


@app.command()
def reset(yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Delete the database with every run, log line and cache entry in it."""
    from core_engine.settings import get_current_settings

    settings = get_current_settings()
    database = settings.database_path
    files = [file for end in ("", "-wal", "-shm") if (file := database.with_name(database.name + end)).exists()]
    if not files:
        typer.echo(f"There is no database at {database}.")
        return
    users = _processes_using(settings.home)
    if users:
        raise StoreUnavailable(f"{database} is in use by {', '.join(users)}. End these processes first.")
    if not yes:
        typer.confirm(f"Delete {database} with all runs in it?", abort=True, err=True)
    for file in files:
        file.unlink()
    typer.echo(f"Deleted {database}.")


def _processes_using(home: Path) -> list[str]:
    """Returns the names of the leases in `home` that living processes hold. This one has none: it opened nothing."""
    from core_engine.backend.leases import is_free

    folder = home / "leases"
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if not name.startswith(".") and not is_free(home, name))
