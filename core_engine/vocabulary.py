"""Which names of Prefect 2.13 are here, and what to use instead of the others: the table vocabulary.toml, read.

Modules call ``absent`` for a name that they do not have; ``absent_modules`` asks for modules that are not here.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from opcode import opmap
from pathlib import Path
from typing import Any

_PACKAGE = "core_engine"
_LIST = "docs/compatibility.md lists all names."
_IMPORT_FROM = opmap["IMPORT_FROM"]


@dataclass(slots=True)
class VocabularyModule:
    """A module or class of the vocabulary.

    Attributes:
        name: Without the package, such as "flows"; "" for the package itself.
        place: The module or class here, with the package; where it is absent, where it would be.
        here: Names that are here.
        renamed: Names that are here under another, dotted name.
        absent: Names that are not, with what to use instead.
        instead: What to use instead of a module that is not here; None: it is.
    """

    name: str
    place: str
    here: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    instead: str | None = None


@functools.cache
def vocabulary() -> dict[str, VocabularyModule]:
    """Returns the table by place, in its order."""
    import tomllib

    text = Path(__file__).with_name("vocabulary.toml").read_text(encoding="utf-8")
    return {module.place: module for module in _read(tomllib.loads(text))}


def _read(table: dict[str, Any]) -> Iterator[VocabularyModule]:
    for entry in table["module"]:
        name = entry["name"]
        yield VocabularyModule(
            name,
            f"{_PACKAGE}.{entry.get('place', name)}" if name else _PACKAGE,
            entry.get("here", []),
            entry.get("renamed", {}),
            {absent: group["instead"] for group in entry.get("absent", []) for absent in group["names"]},
            entry.get("instead"),
        )


def absent(place: str, name: str) -> Exception:
    """Makes the error for a name that a module or class does not have.

    Called by a module's ``__getattr__`` alone: whether the name is imported or just asked for is seen two frames above.

    Parameters:
        place: The module or class.
        name: What was asked for.

    Returns:
        An ImportError in a ``from ... import``, which would swallow the message of any other; else an AttributeError.
    """
    if name.startswith("__"):  # Python itself asks for these
        return AttributeError(f"{place!r} has no attribute {name!r}")
    text = _text(place, name)
    caller = sys._getframe(2)
    if caller.f_lasti >= 0 and caller.f_code.co_code[caller.f_lasti] == _IMPORT_FROM:
        return ImportError(f"cannot import name {name!r} from {place!r}. {text}", name=place)
    return AttributeError(f"{place!r} has no attribute {name!r}. {text}")


def _text(place: str, name: str) -> str:
    module = vocabulary().get(place)
    whole = vocabulary().get(f"{place}.{name}")
    if module is not None and name in module.renamed:
        return f"Here it is {module.renamed[name]}."
    if module is not None and name in module.absent:
        return f"Instead: {module.absent[name]}. {_LIST}"
    if whole is not None and whole.instead is not None:
        return f"Instead: {whole.instead}. {_LIST}"
    if place == f"{_PACKAGE}.settings" and name.startswith("PREFECT_"):
        return _text_of_setting(name.removeprefix("PREFECT_"))
    from difflib import get_close_matches

    known = [] if module is None else get_close_matches(name, module.here, 1)
    return f"Did you mean {known[0]!r}?" if known else _LIST


def _text_of_setting(name: str) -> str:
    from core_engine.settings import Settings

    if name.lower() in Settings.model_fields:
        return f"Settings are fields: get_current_settings().{name.lower()}, temporary_settings({{{name!r}: ...}})."
    return f"There is no setting {name}. `core-engine settings` lists those that there are."


def text_of_absent_module(fullname: str) -> str | None:
    """Returns what to use instead of a module, or of a name of a package that is looked for as one; None: unknown."""
    parent, _, name = fullname.rpartition(".")
    whole, above = vocabulary().get(fullname), vocabulary().get(parent)
    if above is not None and above.instead is not None:
        return f"Instead: {above.instead}. {_LIST}"
    is_absent_module = whole is not None and whole.instead is not None
    is_absent_name = above is not None and (name in above.absent or name in above.renamed)
    return _text(parent, name) if is_absent_module or is_absent_name else None
