"""Setting up logging: which file says how, with which values.

Loggers and handlers of the program around are respected. ``logging.config.dictConfig`` would close all handlers there
are and take those of every logger it names, so only its parts that make handlers and formatters are used.
"""

from __future__ import annotations

import logging
import logging.config
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_engine.exceptions import SettingsError
from core_engine.logging.console import ConsoleHandler
from core_engine.logging.loggers import EXTRA, FLOW_RUNS, TASK_RUNS
from core_engine.settings import get_current_settings

if TYPE_CHECKING:
    from core_engine.settings import Settings

Configuration = dict[str, Any]

PACKAGED_FILE = Path(__file__).with_name("logging.yml")
_VARIABLE_PREFIX = "CORE_ENGINE_LOGGING_"
_SECTIONS = ("formatters", "filters", "handlers", "loggers", "root")
_PLACEHOLDER = re.compile(r"\$\{(CORE_ENGINE_\w+)\}")


class _Installation:
    """What the set-ups of this process have made, to tell it later from what others have."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.handlers: dict[str, logging.Handler] = {}
        self.attached: list[tuple[logging.Logger, logging.Handler]] = []
        self.levels: dict[str, int] = {}
        self.worker_handler: logging.Handler | None = None
        # For which the loggers of a worker were set up last; None: they are to be set up again.
        self.worker_settings: Settings | None = None

    def remove_handlers(self) -> None:
        self.worker_settings = None
        for logger, handler in self.attached:
            logger.removeHandler(handler)
        for handler in self.handlers.values():
            handler.close()
        self.attached, self.handlers = [], {}


# Written under the lock, so that flows that start together set up once.
_installation = _Installation()
_lock = threading.RLock()


def setup_logging(incremental: bool | None = None) -> None:
    """Set up logging by the settings in force here; cheap when they are those of the last set-up.

    Args:
        incremental: Whether to change only levels, and leave handlers and formatters as they are; None: unless this is
            the first set-up.

    Raises:
        SettingsError: the configuration cannot be read, or holds something that cannot be used.
    """
    settings = get_current_settings()
    if incremental is None and _installation.settings is settings:
        return
    with _lock:
        configuration = load_configuration(settings)
        is_full = _installation.settings is None if incremental is None else not incremental
        try:
            if is_full:
                _installation.remove_handlers()
                _make_handlers(configuration)
                _attach_handlers(configuration)
            _set_levels(configuration)
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # what logging raises for a wrong one
            if is_full:
                _installation.remove_handlers()
            message = f"The logging configuration in {_file(settings)} is wrong: {_reasons(error)}."
            raise SettingsError(message) from error
        _serve_extra_loggers(settings.logging_extra_loggers)
        _installation.settings = settings


def setup_worker_logging() -> None:
    """Set up the loggers of runs on a worker: lines go to the sink of their run, and nowhere else.

    One worker serves runs with different settings, so the level is that of the settings in force where a line is
    logged. May be called for each task run.
    """
    settings = get_current_settings()
    if settings is _installation.worker_settings:
        return
    from core_engine.logging.handlers import WorkerLogHandler

    with _lock:
        handler = _installation.worker_handler
        if handler is None:
            handler = _installation.worker_handler = WorkerLogHandler()
            for name in (FLOW_RUNS, TASK_RUNS):
                logger = logging.getLogger(name)
                logger.setLevel(1)
                logger.propagate = False
                logger.addHandler(handler)
        level = logging.getLevelNamesMapping()[settings.logging_level]
        for name in settings.logging_extra_loggers:
            logger = logging.getLogger(name)
            _attach(logger, handler)
            # Open for the flow that wants most; the handler holds back what others do not want.
            _set_level(logger, min(level, _installation.levels.get(name, level)))
        _installation.worker_settings = settings


def load_configuration(settings: Settings) -> Configuration:
    """Return the logging configuration with the values of `settings` and the overrides of the environment in it.

    Raises:
        SettingsError: the file cannot be read, is not YAML, or names a setting that does not exist.
    """
    path = _file(settings)
    configuration: Configuration = _with_settings(_read(path), settings)
    for section in _SECTIONS:
        if not isinstance(configuration.setdefault(section, {}), dict):
            raise SettingsError(f"The logging configuration in {path} is wrong: {section} must hold keys and values.")
    _override_from_environment(configuration)
    return configuration


def _file(settings: Settings) -> Path:
    return settings.logging_settings_path if settings.logging_settings_path.exists() else PACKAGED_FILE


def _read(path: Path) -> Configuration:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the quick one is not on every platform
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"The logging configuration in {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"The logging configuration in {path} holds no keys and values.")
    return content


def _with_settings(value: Any, settings: Settings) -> Any:
    """Replace ${CORE_ENGINE_...} in all texts of `value`; a text that is nothing else becomes the setting's value."""
    if isinstance(value, dict):
        return {key: _with_settings(item, settings) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_settings(item, settings) for item in value]
    if not isinstance(value, str):
        return value
    if whole := _PLACEHOLDER.fullmatch(value):
        return _setting_value(whole, settings)
    return _PLACEHOLDER.sub(lambda match: str(_setting_value(match, settings)), value)


def _setting_value(placeholder: re.Match[str], settings: Settings) -> Any:
    from core_engine.settings.sources import setting_name

    return getattr(settings, setting_name(placeholder[1]))


def _override_from_environment(configuration: Configuration) -> None:
    prefixes = tuple(f"{_VARIABLE_PREFIX}{section.upper()}_" for section in _SECTIONS)
    variables = [name for name in os.environ if name.startswith(prefixes)]
    if not variables:
        return
    import yaml

    keys = {name: (table, key) for name, table, key in _variable_names(configuration, _VARIABLE_PREFIX[:-1])}
    for variable in variables:
        if variable in keys:
            table, key = keys[variable]
            is_text = isinstance(table[key], str)
            table[key] = os.environ[variable] if is_text else yaml.safe_load(os.environ[variable])
        else:
            warnings.warn(f"{variable} has no effect: no key of the logging configuration has this path.", stacklevel=2)


def _variable_names(table: Configuration, prefix: str) -> Iterator[tuple[str, Configuration, str]]:
    """Give for each key below `table` that holds a value: its environment variable, its table, itself."""
    for key, value in table.items():
        name = f"{prefix}_{re.sub(r'[^A-Z0-9]', '_', str(key).upper())}"
        if isinstance(value, dict):
            yield from _variable_names(value, name)
        else:
            yield name, table, key


def _make_handlers(configuration: Configuration) -> None:
    # The order, and the replacing of descriptions by what they describe, is what the configurator counts on.
    maker = logging.config.DictConfigurator(configuration)
    tables: Any = maker.config
    for name, description in tables["formatters"].items():
        tables["formatters"][name] = maker.configure_formatter(description)
    for name, description in tables["filters"].items():
        tables["filters"][name] = maker.configure_filter(description)
    descriptions = tables["handlers"]
    for name in sorted(descriptions, key=lambda name: "target" in descriptions[name]):  # a target is another handler
        descriptions[name] = _installation.handlers[name] = maker.configure_handler(descriptions[name])
    for name, description in (*tables["loggers"].items(), ("", tables["root"])):
        maker.add_filters(logging.getLogger(name), description.get("filters", ()))


def _attach_handlers(configuration: Configuration) -> None:
    root = logging.getLogger()
    if not root.handlers:
        _attach_listed(root, configuration["root"])
    for name in sorted(configuration["loggers"]):  # parents first: what they handle need not be handled again
        logger = logging.getLogger(name)
        logger.propagate = configuration["loggers"][name].get("propagate", logger.propagate)
        _attach_listed(logger, configuration["loggers"][name])


def _attach_listed(logger: logging.Logger, description: Configuration) -> None:
    for name in description.get("handlers", ()):
        if name not in _installation.handlers:
            raise ValueError(f"the logger {logger.name} has the handler {name!r}, which is not described")
        _attach(logger, _installation.handlers[name])


def _attach(logger: logging.Logger, handler: logging.Handler) -> None:
    """Give `logger` a handler that its lines do not reach yet; nor does the console need a second one."""
    reached = list(_handlers_reached_by(logger))
    shows_twice = isinstance(handler, ConsoleHandler) and any(_writes_to_console(other) for other in reached)
    if handler not in reached and not shows_twice:
        logger.addHandler(handler)
        _installation.attached.append((logger, handler))


def _handlers_reached_by(logger: logging.Logger) -> Iterator[logging.Handler]:
    current: logging.Logger | None = logger
    while current is not None:
        yield from current.handlers
        current = current.parent if current.propagate else None


def _writes_to_console(handler: logging.Handler) -> bool:
    stream = getattr(handler, "stream", None) or getattr(getattr(handler, "console", None), "file", None)
    return stream is not None and stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)


def _set_levels(configuration: Configuration) -> None:
    for name, handler in _installation.handlers.items():
        handler.setLevel(configuration["handlers"].get(name, {}).get("level", handler.level))
    for name, description in configuration["loggers"].items():
        _set_level(logging.getLogger(name), description.get("level", logging.NOTSET))
    root = logging.getLogger()
    if any(handler in _installation.handlers.values() for handler in root.handlers):
        root.setLevel(configuration["root"].get("level", root.level))


def _set_level(logger: logging.Logger, level: int | str) -> None:
    """Set a level, unless somebody else has chosen another one."""
    if logger.level in (logging.NOTSET, _installation.levels.get(logger.name)):
        logger.setLevel(level)
        _installation.levels[logger.name] = logger.level


def _serve_extra_loggers(names: tuple[str, ...]) -> None:
    extra = logging.getLogger(EXTRA)
    for name in sorted(names):
        logger = logging.getLogger(name)
        for handler in extra.handlers:
            _attach(logger, handler)
        _set_level(logger, extra.level)


def _reasons(error: BaseException) -> str:
    """What an error says, and what its causes say: logging names the part in one and the reason in the other."""
    return f"{error}: {_reasons(error.__cause__)}" if error.__cause__ is not None else str(error)


def _renew_lock() -> None:
    """In a forked child, where whoever held it is not."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
