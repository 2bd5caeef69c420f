"""Results as tables for people, and their place in README.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

README = Path(__file__).parent / "README.md"


def markdown(document: dict[str, Any]) -> str:
    """Returns a document of results as Markdown."""
    parts = [_heading(document)]
    for part in document["sections"]:
        parts.append(section(part))
        if part["commit"] != document["engine"]["commit"]:
            parts.append(f"This section was measured {_when(part)}, at commit {part['commit']}.")
    return "\n\n".join(parts)


def _heading(document: dict[str, Any]) -> str:
    machine, engine = document["machine"], document["engine"]
    return (
        f"Measured {_when(document)}, plan *{document['plan']}*: medians of {document['rounds']} rounds, "
        "(lowest–highest); "
        f"{sum(part['seconds'] for part in document['sections']) / 60:.1f} minutes in all. "
        f"{machine['cores']} cores ({machine['processor']}), {machine['system']}, {machine['python']}, "
        f"SQLite {machine['sqlite']} on {machine['file_system']}; load at start {machine['load_at_start']:g}. "
        f"core_engine {engine['version']}, commit {engine['commit']}; `synchronous={engine['synchronous'].upper()}`; "
        f"the journal commits as soon as the commit before is done, after at most {engine['flush_window_ms']:g} ms, "
        f"at most {engine['largest_batch']:,} entries at once."
    )


def _when(document: dict[str, Any]) -> str:
    return f"{document['started'][:16].replace('T', ' ')} UTC"


def section(section: dict[str, Any]) -> str:
    """Returns the results of one section as Markdown."""
    columns = section["columns"]
    has_sizes = any(row["size"] is not None for row in section["rows"])
    has_budgets = any(row["budgets"] for row in section["rows"])
    headers = ["", *(["number"] if has_sizes else []), *(column["header"] for column in columns)]
    if has_budgets:
        headers += ["target", "unacceptable above", "verdict"]
    lines = ["| " + " | ".join(headers) + " |", "| --- |" + " ---: |" * (len(headers) - 1)]
    for row in section["rows"]:
        cells = [row["name"]]
        if has_sizes:
            cells.append("" if row["size"] is None else f"{row['size']:,}")
        cells += [_figure(row, column) for column in columns]
        if has_budgets:
            cells += _budget_cells(row)
        lines.append("| " + " | ".join(cells) + " |")
    void = [f"Void: {text}" for row in section["rows"] for text in row["void"]]
    return "\n\n".join([f"### {section['title']}", section["note"], "\n".join(lines), *void])


def _figure(row: dict[str, Any], column: dict[str, Any]) -> str:
    figure = row["figures"].get(column["figure"])
    if figure is None:
        return ""
    digits = column["digits"]
    text = f"{figure['median']:,.{digits}f}"
    if column["spread"]:
        text += f" ({figure['low']:,.{digits}f}–{figure['high']:,.{digits}f})"
    return text


def _budget_cells(row: dict[str, Any]) -> list[str]:
    budgets = row["budgets"]
    return [
        " / ".join(dict.fromkeys(f"{budget['target']:g}" for budget in budgets)),
        " / ".join(dict.fromkeys(f"{budget['unacceptable']:g}" for budget in budgets)),
        " / ".join(budget["verdict"] for budget in budgets),
    ]


def put_into_readme(part: str, text: str, readme: Path = README) -> None:
    """Puts `text` between the markers of `part`.

    Raises:
        ValueError: The file does not have the markers.
    """
    begin, end = f"<!-- begin {part} -->", f"<!-- end {part} -->"
    whole = readme.read_text(encoding="utf-8")
    before, found_begin, rest = whole.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"{readme} lacks the markers {begin} and {end}, between which the results are put.")
    readme.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
