"""``core-engine page``: one flow run as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core_engine.cli.output import RunArgument

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def page(
    run: RunArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write it; by default NAME.html here."),
    ] = None,
) -> None:
    """Write a flow run as one self-contained HTML page: a timeline of its task runs, and how they ended."""
    from core_engine.cli.opening import open_store, read_run
    from core_engine.page import render_run_page

    store = open_store()
    flow_run = read_run(store, run)
    html = render_run_page(store, flow_run.id)
    target = output or Path(f"{flow_run.name.replace('/', '-')}.html")
    target.write_text(html, encoding="utf-8")
    typer.echo(target)
