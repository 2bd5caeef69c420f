"""Profiles: named sets of settings in one TOML file.

active = "work"

[profiles.work]
LOGGING_LEVEL = "DEBUG"
TASK_DEFAULT_RETRIES = 2
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from core_engine.exceptions import SettingsError

DEFAULT_PROFILE = "default"


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of settings.

    Attributes:
        name: Its name in the file.
        settings: Values by setting name, in either case, with or without CORE_ENGINE_.
        path: The file it was read from; None if it was made in Python.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))

    def __hash__(self) -> int:
        return hash((self.name, self.path))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, dict(self.settings), self.path)

    def __str__(self) -> str:
        return f"profile {self.name!r} in {self.path}" if self.path else f"profile {self.name!r}"


@dataclass(frozen=True, slots=True)
class Profiles:
    """What a file of profiles holds: its profiles by name, and the name of the active one (None: it names none)."""

    profiles: Mapping[str, Profile]
    active: str | None
    path: Path

    def __getitem__(self, name: str) -> Profile:
        """Return the profile called `name`; the default one is empty where the file has none.

        Raises:
            SettingsError: there is no such profile.
        """
        if name in self.profiles:
            return self.profiles[name]
        if name == DEFAULT_PROFILE:
            return Profile(DEFAULT_PROFILE)
        known = ", ".join(self.profiles) or "no profile"
        raise SettingsError(f"There is no profile {name!r}: {self.path} has {known}. Name one of these, or add it.")


def read_profiles(path: Path) -> Profiles:
    """Read the file of profiles at `path`; one that does not exist holds none.

    Raises:
        SettingsError: the file cannot be read, is not TOML, or is not made as described above.
    """
    try:
        with path.open("rb") as file:
            content = _parse(file.read(), path)
    except (FileNotFoundError, NotADirectoryError):
        content = {}
    except OSError as error:
        raise SettingsError(f"The profiles in {path} cannot be read: {error.strerror}.") from error
    tables, active = content.get("profiles", {}), content.get("active")
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise SettingsError(f"In {path} every profile must be a table of its own, such as [profiles.work].")
    if not isinstance(active, str | None):
        raise SettingsError(f"In {path} active must be the name of a profile, not {active!r}.")
    return Profiles({name: Profile(name, table, path) for name, table in tables.items()}, active, path)


def _parse(content: bytes, path: Path) -> dict[str, Any]:
    import tomllib  # here: few processes have a file of profiles

    try:
        return tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not a valid TOML file: {error}. Correct it, or move it away.") from error
