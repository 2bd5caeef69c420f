"""Puts the page together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from core_engine.page.format import count, escape
from core_engine.page.model import RunPage
from core_engine.page.tables import render_failures, render_head, render_tasks
from core_engine.page.timeline import render_timeline

if TYPE_CHECKING:
    from core_engine.backend.store import Store

_ASSETS = Path(__file__).parent / "assets"
# The page itself says that it loads nothing from anywhere; browsers hold it to that.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def render_run_page(store: Store, flow_run_id: UUID, extra_sections: Sequence[tuple[str, str]] = ()) -> str:
    """Returns one self-contained HTML page about a flow run.

    Parameters:
        store: Where the run is recorded.
        flow_run_id: The run. It may still be running; the page then shows it as it is now.
        extra_sections: Sections of your own, as (title, HTML), shown above those of the engine. The title is escaped,
            the HTML is not.

    Raises:
        ObjectNotFound: The store holds no such flow run.
    """
    from core_engine.page.reading import read_run_page

    return render_page(read_run_page(store, flow_run_id), extra_sections)


def write_run_page(path: str | Path, flow_run_id: UUID, extra_sections: Sequence[tuple[str, str]] = ()) -> Path:
    """Writes the page about a flow run that is recorded on this machine.

    Parameters:
        path: The file to write; its folder is made if it is missing.
        flow_run_id, extra_sections: As in ``render_run_page``.

    Returns:
        The file, as an absolute path.

    Raises:
        ObjectNotFound: There is no such flow run in the database of the settings in force.
        OSError: The file cannot be written.
    """
    from core_engine.backend import open_backend

    target = Path(path).absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(render_run_page(open_backend().store, flow_run_id, extra_sections), encoding="utf-8")
    return target


def render_page(page: RunPage, extra_sections: Sequence[tuple[str, str]] = ()) -> str:
    """Returns the HTML of `page`, with sections as in ``render_run_page``."""
    sections = [*extra_sections]
    if page.timeline.tasks:
        sections.append(("Timeline", render_timeline(page.timeline)))
        sections.append(("Tasks", render_tasks(page.tasks, page.timeline)))
    if page.failures:
        failed = page.count("failed")
        sections.append((f"Failures ({count(failed)})", render_failures(page.failures, failed)))
    body = "".join(f"<section><h2>{escape(title)}</h2>{html}</section>" for title, html in sections)
    title = escape(f"{page.facts.flow_name} · {page.facts.run_name}")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{title}</title>\n'
        f"<style>\n{_asset('page.css')}</style>\n</head>\n<body>\n<main>\n{render_head(page)}\n{body}\n</main>\n"
        f"<script>\n{_asset('timeline.js')}</script>\n</body>\n</html>\n"
    )


@cache
def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
