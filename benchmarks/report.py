"""The results: one JSON document for each kind of run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, Section

RESULTS = Path(__file__).parent / "results"
# In the checkout, so that everything lies on a real disk: temporary folders may be in memory.
WORK = Path(__file__).parent / ".work"
SCHEMA = 1


def new_document(plan: str, rounds: int, started: datetime, facts: dict[str, Any]) -> dict[str, Any]:
    """Returns a document without sections; `facts` are those of ``machine.describe``."""
    return {
        "schema": SCHEMA,
        "plan": plan,
        "rounds": rounds,
        "started": started.isoformat(timespec="seconds"),
        **facts,
        "sections": [],
    }


def section_to_json(
    section: Section, rows: Iterable[Row], started: datetime, seconds: float, facts: dict[str, Any]
) -> dict[str, Any]:
    """Returns a section's results, with when and of what they were taken, and what a table of them needs."""
    return {
        "key": section.key,
        "title": section.title,
        "note": section.note,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "commit": facts["engine"]["commit"],
        "columns": [
            {"header": column.header, "figure": column.figure, "digits": column.digits, "spread": column.spread}
            for column in section.columns
        ],
        "rows": [row.to_json(section.key) for row in rows],
    }


def merged(earlier: list[dict[str, Any]], later: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the sections of both, the later ones in place of earlier ones of the same key."""
    by_key = {section["key"]: section for section in [*earlier, *later]}
    return list(by_key.values())


def void_rounds(document: dict[str, Any]) -> list[str]:
    """Returns what was wrong with rounds that do not count, over all sections."""
    return [text for section in document["sections"] for row in section["rows"] for text in row["void"]]


def unacceptable(document: dict[str, Any]) -> list[str]:
    """Returns the figures that lie above what is acceptable."""
    return [
        f"{section['title']}: {row['name']}: {budget['figure']} {row['figures'][budget['figure']]['median']:g} "
        f"(target {budget['target']:g}, unacceptable above {budget['unacceptable']:g})"
        for section in document["sections"]
        for row in section["rows"]
        for budget in row["budgets"]
        if budget["verdict"].startswith("UNACCEPTABLE")
    ]


def write(document: dict[str, Any], path: Path) -> None:
    """Writes the document, replacing an earlier one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any] | None:
    """Returns the document at `path`, None when there is none."""
    if not path.exists():
        return None
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
