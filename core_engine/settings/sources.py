"""Where settings come from, the later above the earlier: defaults, a profile, the environment, code.

Every value that cannot be used is reported with its place: the variable, the profile or the call that gave it.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import EnvSettingsSource

from core_engine.exceptions import SettingsError
from core_engine.settings.model import ENVIRONMENT_PREFIX, MASK, Settings, shown_value
from core_engine.settings.profiles import DEFAULT_PROFILE, Profile, read_profiles

PROFILE_VARIABLE = ENVIRONMENT_PREFIX + "PROFILE"
# Variables that are no settings: which profile to use, what overrides keys of the logging configuration (by the
# key's path), and what tests and benchmarks define for themselves.
_OTHER_VARIABLES = frozenset({PROFILE_VARIABLE})
_OTHER_PREFIXES = tuple(
    ENVIRONMENT_PREFIX + part
    for part in (
        "_",  # what tests mock of ``core_engine.runtime``, and the run that it is to read
        "LOGGING_FORMATTERS_",
        "LOGGING_FILTERS_",
        "LOGGING_HANDLERS_",
        "LOGGING_LOGGERS_",
        "LOGGING_ROOT_",
        "TEST_",
        "BENCH_",
    )
)


def load_settings(command_line_profile: str | None = None) -> tuple[Profile, Settings]:
    """Read the environment and the profile that is to be used, and return the profile and the settings of both.

    Args:
        command_line_profile: The profile named on the command line, which beats CORE_ENGINE_PROFILE; None if none was.

    Raises:
        SettingsError: a value cannot be used, or the file of profiles cannot.
    """
    environment = read_environment()
    profile = _chosen_profile(command_line_profile, environment)
    values = profile_values(profile)
    origins = profile_origins(values, profile) | environment_origins(environment)
    return profile, make_settings(values | environment, origins)


def read_environment() -> dict[str, Any]:
    """Return the settings in the environment by lower-case name, as text; a variable that is none gives a warning."""
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields} | _OTHER_VARIABLES
    for variable in sorted(os.environ):
        name = variable.upper()
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known and not name.startswith(_OTHER_PREFIXES):
            _warn_of_unknown(f"The environment variable {variable}", name, known)
    return EnvSettingsSource(Settings)()


def environment_origins(names: Iterable[str]) -> dict[str, str]:
    """Return how to name the environment variable of each setting in an error."""
    return {name: f"the environment variable {ENVIRONMENT_PREFIX}{name.upper()}" for name in names}


def profile_origins(names: Iterable[str], profile: Profile) -> dict[str, str]:
    """Return how to name the place of each setting in a profile in an error."""
    return {name: f"{name.upper()} of {profile}" for name in names}


def profile_values(profile: Profile) -> dict[str, Any]:
    """Return a profile's values by lower-case setting name; what is no setting gives a warning and is left out."""
    values = {}
    for key, value in profile.settings.items():
        name = _plain_name(key)
        if name in Settings.model_fields:
            values[name] = value
        else:
            _warn_of_unknown(f"{key} of {profile}", name, Settings.model_fields)
    return values


def setting_name(name: str) -> str:
    """Return the lower-case name of the setting that `name` stands for, in either case, with or without prefix.

    Raises:
        SettingsError: there is no such setting.
    """
    plain = _plain_name(name)
    if plain not in Settings.model_fields:
        raise SettingsError(f"{name} is not a setting.{_suggestion(plain, Settings.model_fields)}")
    return plain


def make_settings(values: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
    """Make settings of `values` by lower-case name.

    Args:
        origins: How to name the place that a value comes from, by setting; by default the setting's name.

    Raises:
        SettingsError: names the origin and the value of each that cannot be used, and what is accepted.
    """
    try:
        return Settings.from_values(values)
    except ValidationError as error:
        # Only what was given can be wrong; a default that is derived from a wrong value is no news.
        faults = [fault for fault in error.errors() if fault["loc"][0] in values]
        lines = [_fault_line(str(fault["loc"][0]), values, origins, fault["msg"]) for fault in faults]
    raise SettingsError("\n".join(lines))


def _fault_line(name: str, values: Mapping[str, Any], origins: Mapping[str, str], reason: str) -> str:
    field = Settings.model_fields[name]
    origin = origins.get(name, f"the setting {name.upper()}")
    is_secret = SecretStr in getattr(field.annotation, "__args__", ())
    value = MASK if is_secret else shown_value(values[name])
    reason = reason.removeprefix("Value error, ").replace("Input ", "it ", 1).rstrip(".")
    return f"{origin[0].upper()}{origin[1:]} cannot be {value!r}: {reason}. ({field.description})"


def _chosen_profile(command_line_profile: str | None, environment: Mapping[str, Any]) -> Profile:
    """The profile named first by command line, environment or file; the default one if that does not exist."""
    place = {name: environment[name] for name in ("home", "profiles_path") if name in environment}
    profiles = read_profiles(make_settings(place, environment_origins(place)).profiles_path)
    named = [
        (command_line_profile, "the command line"),
        (os.environ.get(PROFILE_VARIABLE), f"the environment variable {PROFILE_VARIABLE}"),
        (profiles.active, f"{profiles.path} (active)"),
    ]
    name, source = next(((name, source) for name, source in named if name), (DEFAULT_PROFILE, "default"))
    try:
        return profiles[name]
    except SettingsError:
        sys.stderr.write(
            f"Warning: {source} names the profile {name!r}, which {profiles.path} does not have; "
            f"the profile {DEFAULT_PROFILE!r} is used instead.\n"
        )
        return profiles[DEFAULT_PROFILE]


def _plain_name(name: str) -> str:
    return name.upper().removeprefix(ENVIRONMENT_PREFIX).lower()


def _warn_of_unknown(what: str, name: str, known: Iterable[str]) -> None:
    warnings.warn(f"{what} is not a setting and has no effect.{_suggestion(name, known)}", stacklevel=2)


def _suggestion(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # here: only for a mistake

    closest = get_close_matches(name, list(known), n=1)
    return f" Did you mean {closest[0].upper()}?" if closest else " `core-engine settings` lists them all."
