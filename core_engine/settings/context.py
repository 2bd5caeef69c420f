"""Which settings are in force: here, in this thread, or in the whole process.

The settings of the process come from environment and profile and are made when first asked for. Code may enter
others; these hold for that context and what is called in it. A thread that was started without a context of its own
sees what the main thread has entered, so that code which merely moves work to a thread keeps its settings.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, NoReturn, Self

from core_engine.exceptions import MissingContextError, SettingsError

if TYPE_CHECKING:
    from core_engine.settings.model import Settings
    from core_engine.settings.profiles import Profile


class SettingsContext:
    """Settings, and the profile they came from, that hold inside a ``with`` block. Immutable.

    Entering makes the home directory if it is missing, unless it was made for the same settings just before; logging is
    not configured anew.
    """

    __slots__ = ("_token", "profile", "settings")

    profile: Profile
    settings: Settings
    _token: Token[SettingsContext | None] | None

    def __init__(self, profile: Profile, settings: Settings) -> None:
        from core_engine.settings.model import Settings
        from core_engine.settings.profiles import Profile

        for value, expected in ((profile, Profile), (settings, Settings)):
            if not isinstance(value, expected):
                raise SettingsError(f"A settings context takes a {expected.__name__} here, not {value!r}.")
        self._fill(profile, settings)

    @classmethod
    def get(cls) -> SettingsContext | None:
        """Return the context in force: the innermost entered, else that of the process.

        None only while the settings of the process are being read: what reads them cannot ask for them.
        """
        return _entered.get() or _seen_by_all_threads or _load_once()

    def copy(self) -> SettingsContext:
        """Return a context with the same content that has not been entered."""
        made = object.__new__(SettingsContext)
        made._fill(self.profile, self.settings)
        return made

    def _fill(self, profile: Profile, settings: Settings) -> None:
        object.__setattr__(self, "profile", profile)
        object.__setattr__(self, "settings", settings)
        object.__setattr__(self, "_token", None)

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("This settings context was already entered; enter a copy() of it instead.")
        if self.settings is not _last_with_home:
            _make_home(self.settings)
        object.__setattr__(self, "_token", _entered.set(self))
        if threading.current_thread() is threading.main_thread():
            _show_to_all_threads((*_entered_by_main_thread, self))
        return self

    def __exit__(self, *error: object) -> None:
        if self._token is None:
            raise RuntimeError("Asymmetric use of a settings context: it was left more often than entered.")
        if self in _entered_by_main_thread:
            # Not always the last: async code of one thread may leave contexts in another order than it entered them.
            _show_to_all_threads(tuple(other for other in _entered_by_main_thread if other is not self))
        _entered.reset(self._token)
        object.__setattr__(self, "_token", None)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"A settings context is immutable: {name} cannot be set. Make another one.")

    def __reduce__(self) -> tuple[type[SettingsContext], tuple[Profile, Settings]]:
        """Pickled, and copied, as one that has not been entered."""
        return SettingsContext, (self.profile, self.settings)

    def __repr__(self) -> str:
        return f"SettingsContext(profile={self.profile.name!r}, settings={self.settings!r})"


_entered: ContextVar[SettingsContext | None] = ContextVar("core_engine_settings", default=None)
# Written under the lock only, and each as a whole, hence read without it. The lock also keeps two threads from
# reading environment and profile at the same time.
_lock = threading.RLock()
_of_process: SettingsContext | None = None
_entered_by_main_thread: tuple[SettingsContext, ...] = ()
_seen_by_all_threads: SettingsContext | None = None  # the last of the latter, else the former
_is_loading = False
# A worker enters the same settings for each block that it is sent.
_last_with_home: Settings | None = None


def get_current_settings() -> Settings:
    """Return the settings in force here.

    Raises:
        SettingsError: they are asked for the first time, and a value in the environment or the profile is unusable.
    """
    context = _entered.get() or _seen_by_all_threads or get_settings_context()
    return context.settings


def get_settings_context() -> SettingsContext:
    """Return the settings context in force here.

    Raises:
        MissingContextError: there is none, because the settings of the process are just being read.
        SettingsError: as `get_current_settings`.
    """
    context = SettingsContext.get()
    if context is None:
        raise MissingContextError("There is no settings context here: the settings of the process are being read.")
    return context


def load_process_settings(profile_name: str | None = None) -> SettingsContext:
    """Read environment and profile anew and make them the settings of the process.

    Settings that are entered just now stay in force until they are left.

    Args:
        profile_name: The profile to use, as named on the command line; None: the one named by CORE_ENGINE_PROFILE,
            else the one that the file of profiles calls active, else the default one.

    Raises:
        SettingsError: a value in the environment or the profile is unusable.
    """
    global _of_process, _is_loading
    from core_engine.settings.sources import load_settings

    with _lock:
        _is_loading = True
        try:
            _of_process = SettingsContext(*load_settings(profile_name))
        finally:
            _is_loading = False
        _show_to_all_threads(_entered_by_main_thread)
        return _of_process


@contextmanager
def temporary_settings(
    updates: Mapping[str, Any] | None = None,
    set_defaults: Mapping[str, Any] | None = None,
    restore_defaults: Iterable[str] | None = None,
) -> Iterator[Settings]:
    """Change settings inside a ``with`` block, which is given the new ones. ``os.environ`` stays as it is.

    Args:
        updates: New values by name, such as ``{"LOGGING_LEVEL": "DEBUG"}``; either case will do.
        set_defaults: Values for those of the settings that nobody has set.
        restore_defaults: Names of settings that go back to their defaults.

    Raises:
        SettingsError: a name is unknown, or a value cannot be used.
    """
    from core_engine.settings.sources import make_settings, setting_name

    current = get_settings_context()
    restored = {setting_name(name) for name in restore_defaults or ()}
    values = {name: value for name, value in current.settings.explicit_values().items() if name not in restored}
    values = {setting_name(name): value for name, value in (set_defaults or {}).items()} | values
    values |= {setting_name(name): value for name, value in (updates or {}).items()}
    with SettingsContext(current.profile, make_settings(values, {})) as context:
        yield context.settings


@contextmanager
def use_profile(
    profile: Profile | str,
    override_environment_variables: bool = False,
    include_current_context: bool = True,
) -> Iterator[SettingsContext]:
    """Put a profile's settings in force inside a ``with`` block, which is given the new context.

    Args:
        profile: A profile, or the name of one in the file of profiles.
        override_environment_variables: Whether the profile also replaces what environment variables set.
        include_current_context: Whether to put the profile on top of the settings in force here; False: on top of
            the defaults.

    Raises:
        SettingsError: there is no such profile, or a value of it cannot be used.
    """
    from core_engine.settings.profiles import read_profiles
    from core_engine.settings.sources import make_settings, profile_origins, profile_values, read_environment

    current = get_settings_context().settings
    if isinstance(profile, str):
        profile = read_profiles(current.profiles_path)[profile]
    environment = {} if override_environment_variables else read_environment()
    below = current.explicit_values() if include_current_context else environment
    values = {name: value for name, value in profile_values(profile).items() if name not in environment}
    with SettingsContext(profile, make_settings(below | values, profile_origins(values, profile))) as context:
        yield context


def _load_once() -> SettingsContext | None:
    with _lock:
        return None if _is_loading else _of_process or load_process_settings()


def _show_to_all_threads(entered_by_main_thread: tuple[SettingsContext, ...]) -> None:
    global _entered_by_main_thread, _seen_by_all_threads
    with _lock:
        _entered_by_main_thread = entered_by_main_thread
        _seen_by_all_threads = entered_by_main_thread[-1] if entered_by_main_thread else _of_process


def _make_home(settings: Settings) -> None:
    global _last_with_home
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        _last_with_home = settings
    except OSError as error:
        warnings.warn(
            f"The home directory {settings.home} cannot be made ({error.strerror}); runs cannot be recorded there. "
            "Set CORE_ENGINE_HOME to a directory that can be written.",
            stacklevel=3,
        )


def _renew_lock() -> None:
    """In a forked child, where whoever held it is not."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)
