"""What can be configured, and which settings are in force here.

    context.py   get_current_settings, SettingsContext, temporary_settings, use_profile
    model.py     Settings: every setting with its type, default and meaning
    sources.py   where values come from: environment, profile; errors that name the culprit
    profiles.py  the file of profiles

In Python a setting is an attribute in lower case, ``get_current_settings().logging_level``; in the environment it
is ``CORE_ENGINE_LOGGING_LEVEL``. Importing this package is cheap: pydantic is loaded with the first settings made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from core_engine.settings.context import (
    SettingsContext,
    get_current_settings,
    get_settings_context,
    load_process_settings,
    temporary_settings,
    use_profile,
)

if TYPE_CHECKING:
    from core_engine.settings.model import Settings
    from core_engine.settings.profiles import Profile, read_profiles

__all__ = [
    "Profile",
    "Settings",
    "SettingsContext",
    "get_current_settings",
    "get_settings_context",
    "load_process_settings",
    "read_profiles",
    "temporary_settings",
    "use_profile",
]


_LOADED_WHEN_ASKED_FOR = {"Settings": "model", "Profile": "profiles", "read_profiles": "profiles"}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_WHEN_ASKED_FOR:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
    value = getattr(import_module(f"{__name__}.{_LOADED_WHEN_ASKED_FOR[name]}"), name)
    globals()[name] = value
    return value
