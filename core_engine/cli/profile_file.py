"""Changes to the file of profiles. What people wrote in it, comments too, stays as it is."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core_engine.exceptions import SettingsError

_TABLE = re.compile(r"^\s*\[")
_BARE_KEY = re.compile(r"^[A-Za-z0-9_-]+$")


def change_profile(path: Path, profile: str, values: Mapping[str, Any], unset: frozenset[str] = frozenset()) -> None:
    """Sets and unsets keys of one profile, which is made if it is missing.

    Parameters:
        path: The file; made with its folder if it is missing.
        profile: The profile's name.
        values: What to set, by key as it is to stand in the file.
        unset: Which keys to take out.

    Raises:
        SettingsError: The file cannot be read or written.
    """
    text = _read(path)
    expected = _parse(text, path)
    table = expected.setdefault("profiles", {}).setdefault(profile, {})
    for key in unset | values.keys():
        table.pop(key, None)
    table.update(values)
    _write(path, _checked(_with_profile(text, profile, values, unset), expected))


def use_profile(path: Path, profile: str) -> None:
    """Makes a profile the active one.

    Raises:
        SettingsError: The file cannot be read or written.
    """
    text = _read(path)
    expected = _parse(text, path) | {"active": profile}
    lines = text.splitlines()
    end = next((number for number, line in enumerate(lines) if _TABLE.match(line)), len(lines))
    active = f"active = {json.dumps(profile, ensure_ascii=False)}"
    for number in range(end):
        if _key_of(lines[number]) == "active":
            lines[number] = active
            break
    else:
        lines[0:0] = [active, ""] if lines else [active]
    _write(path, _checked("\n".join(lines) + "\n", expected))


def _with_profile(text: str, profile: str, values: Mapping[str, Any], unset: frozenset[str]) -> str:
    """Returns the file's text with the lines of one table changed."""
    lines = text.splitlines()
    header = f"[profiles.{profile if _BARE_KEY.match(profile) else json.dumps(profile, ensure_ascii=False)}]"
    start = next((number for number, line in enumerate(lines) if _without_comment(line) == header), None)
    if start is None:
        lines += ["", header] if lines else [header]
        start = len(lines) - 1
    end = next((number for number in range(start + 1, len(lines)) if _TABLE.match(lines[number])), len(lines))
    left = dict(values)
    table = []
    for line in lines[start + 1 : end]:
        key = _key_of(line)
        if key in left:
            table.append(f"{key} = {_toml(left.pop(key))}")
        elif key not in unset:
            table.append(line)
    while table and not table[-1].strip():
        table.pop()
    table += [f"{key} = {_toml(value)}" for key, value in left.items()]
    rest = ["", *lines[end:]] if lines[end:] else []
    return "\n".join([*lines[: start + 1], *table, *rest]) + "\n"


def _checked(text: str, expected: dict[str, Any]) -> str:
    """Returns the text if it says what it should, else the bare content: values over several lines are not edited."""
    try:
        if tomllib.loads(text) == expected:
            return text
    except tomllib.TOMLDecodeError:
        pass  # said again below in a form that can be read
    lines = [f"{key} = {_toml(value)}" for key, value in expected.items() if key != "profiles"]
    for name, table in expected.get("profiles", {}).items():
        lines += ["", f"[profiles.{json.dumps(name, ensure_ascii=False)}]"]
        lines += [f"{json.dumps(key, ensure_ascii=False)} = {_toml(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """Returns a value as TOML says it: strings, numbers and lists are written as in JSON."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _key_of(line: str) -> str | None:
    key, separator, _ = line.partition("=")
    return key.strip().strip('"') if separator and not key.lstrip().startswith("#") else None


def _without_comment(line: str) -> str:
    return line.partition("#")[0].strip()


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not a valid TOML file: {error}. Correct it, or move it away.") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The profiles in {path} cannot be read: {error}.") from error


def _write(path: Path, text: str) -> None:
    """Replaces the file in one step. Others cannot read it: profiles may hold keys."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        beside.chmod(0o600)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise SettingsError(f"The profiles cannot be written to {path}: {error.strerror}.") from error
