"""Descriptions of parameters, read from the "Args" section of a Google-style docstring."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

_SECTION = re.compile(r"^(Args|Arguments|Parameters|Params):\s*$")
# "name: text", "name (type): text", "*args: text", "**kwargs (type, optional): text"
_ENTRY = re.compile(r"^\*{0,2}(?P<name>\w+)\s*(?:\((?P<type>.*?)\))?\s*:(?:\s+|$)(?P<text>.*)$")


def parameter_descriptions(function: Callable[..., Any]) -> dict[str, str]:
    """Returns the description of each parameter that the function's docstring describes.

    Lines that continue a description are kept as lines of their own, without their indentation.
    """
    docstring = inspect.getdoc(function)
    if not docstring:
        return {}
    descriptions: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in _section_lines(docstring):
        entry = None if line.startswith((" ", "\t")) else _ENTRY.match(line)
        if entry is not None:
            current = descriptions[entry["name"]] = [entry["text"]]
        elif current is not None:
            current.append(line)
    return {name: _joined(lines) for name, lines in descriptions.items() if _joined(lines)}


def _section_lines(docstring: str) -> list[str]:
    """Returns the lines of the section, without the section's own indentation."""
    lines = docstring.splitlines()
    start = next((number for number, line in enumerate(lines) if _SECTION.match(line)), None)
    if start is None:
        return []
    section = []
    for line in lines[start + 1 :]:
        if line.strip() and not line.startswith((" ", "\t")):
            break  # the next section, or the end of the indented block
        section.append(line)
    return textwrap.dedent("\n".join(section)).splitlines()


def _joined(lines: list[str]) -> str:
    first, *others = lines
    return "\n".join([first, *textwrap.dedent("\n".join(others)).splitlines()]).strip()
