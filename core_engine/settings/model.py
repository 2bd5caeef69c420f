"""Every setting: its type, its default, what it means. Loaded with the first settings that are made."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENVIRONMENT_PREFIX = "CORE_ENGINE_"
MASK = "********"
_URL_PASSWORD = re.compile(r"(?<=://)([^/@:]*):[^/@]*@")


def _absolute(path: Path) -> Path:
    """Absolute, because workers and child processes have working directories of their own."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise ValueError("the user's home directory is not known; give an absolute path")
    return Path(os.path.abspath(expanded))


def _in_home(name: str) -> Callable[[dict[str, Any]], Path]:
    """The default of a path. Where the home itself is wrong pydantic before 2.12 asks for it all the same."""
    return lambda data: data.get("home", Path()) / name


def _level_name(value: object) -> object:
    """Accepts a level's name in either case, or its number."""
    names = logging.getLevelNamesMapping()
    text = str(value).strip().upper()
    if text in names:
        return text
    if text.isdecimal() and int(text) in names.values():
        return logging.getLevelName(int(text))
    raise ValueError(f"the levels are {', '.join(names)}, or their numbers")


def _split_at_commas(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Location = Annotated[Path, AfterValidator(_absolute)]
Level = Annotated[str, BeforeValidator(_level_name)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_at_commas)]
Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=0)]


class Settings(BaseSettings):
    """The settings of a process, a flow run, or a stretch of code: immutable, comparable, picklable.

    ``Settings()`` takes its values from the environment; what is in force is `get_current_settings`. Pickled are only
    the values that were set: defaults, such as the home directory, are those of the machine that unpickles.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", str_strip_whitespace=True
    )

    home: Location = Field(
        default_factory=lambda: _absolute(Path("~/.core_engine")),
        description="The directory of everything that core_engine keeps on this machine.",
    )
    profiles_path: Location = Field(
        default_factory=_in_home("profiles.toml"),
        description="The TOML file of profiles; by default profiles.toml in the home.",
    )
    allow_network_home: bool = Field(
        default=False,
        description="Whether the embedded database may lie on a network file system, where SQLite can lose data.",
    )
    api_url: str | None = Field(
        default=None, description="The address of a server; none means that runs are kept in the embedded database."
    )
    api_key: SecretStr | None = Field(default=None, description="The key that the server asks for.")
    database_path: Location = Field(
        default_factory=_in_home("core_engine.db"),
        description="The embedded database; by default core_engine.db in the home.",
    )
    database_synchronous: Literal["normal", "full"] = Field(
        default="normal",
        description="What a commit survives: 'normal' a killed process, 'full' also a loss of power.",
    )
    runs_retention_days: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Runs that ended longer ago are deleted once a day while flows run; none means that they are kept.",
    )
    debug_mode: bool = Field(default=False, description="Whether to log in detail what the engine does.")
    grace_seconds: Seconds = Field(
        default=10.0, description="How long runs may take to end in order after Ctrl-C or SIGTERM."
    )
    flow_default_retries: Count = Field(default=0, description="How often a flow that does not say so is retried.")
    flow_default_retry_delay_seconds: Seconds = Field(
        default=0.0, description="How long a flow that does not say so waits before a retry, in seconds."
    )
    task_default_retries: Count = Field(default=0, description="How often a task that does not say so is retried.")
    task_default_retry_delay_seconds: Seconds = Field(
        default=0.0, description="How long a task that does not say so waits before a retry, in seconds."
    )
    tasks_refresh_cache: bool = Field(
        default=False, description="Whether tasks run although their result is cached, and replace it."
    )
    task_runner_default: str = Field(
        default="concurrent", min_length=1, description="The name of the task runner of flows that choose none."
    )
    task_runner_max_workers: PositiveCount | None = Field(
        default=None, description="How many threads a runner uses that was given no number; none: as it sees fit."
    )
    results_persist_by_default: bool = Field(
        default=False, description="Whether the results of runs that do not say so are written to storage."
    )
    resumable: bool = Field(
        default=False,
        description="Whether results are stored, and what they were made of, so that a resume repeats no task run.",
    )
    results_default_serializer: str = Field(
        default="pickle", min_length=1, description="The serializer of results for which none is chosen."
    )
    results_fetch_limit_bytes: Bytes = Field(
        default=1_000_000_000,
        description="How many bytes of results are fetched from a cluster before its runner stops.",
    )
    results_return_limit_bytes: Bytes = Field(
        default=100_000_000,
        description="The most bytes of a result that the flow's process stores for a worker that cannot.",
    )
    local_storage_path: Location = Field(
        default_factory=_in_home("storage"),
        description="The directory of persisted results; by default storage in the home.",
    )
    async_fetch_state_result: bool = Field(
        default=False, description="Whether State.result() in async code fetches the value without fetch=True."
    )
    logging_level: Level = Field(
        default_factory=lambda data: "DEBUG" if data.get("debug_mode") else "INFO",
        description="The level of core_engine's loggers; by default INFO, in debug mode DEBUG.",
    )
    logging_settings_path: Location = Field(
        default_factory=_in_home("logging.yml"),
        description="A logging configuration that replaces the one in the package, if the file exists.",
    )
    logging_log_prints: bool = Field(
        default=False, description="Whether print() in flows that do not say so is logged instead."
    )
    logging_extra_loggers: Names = Field(
        default=(), description="Other loggers whose lines are stored with the run, separated by commas."
    )
    logging_colors: bool = Field(default=True, description="Whether lines on a terminal are coloured.")
    logging_markup: bool = Field(
        default=False, description="Whether [red]markup[/red] in messages is turned into colours on a terminal."
    )
    logging_to_api_enabled: bool = Field(default=True, description="Whether the lines of runs are stored.")
    logging_to_api_when_missing_flow: Literal["warn", "error", "ignore"] = Field(
        default="warn", description="What happens when a run logger is used outside of a run."
    )
    logging_to_api_max_log_size: Bytes = Field(
        default=1_000_000, description="The most bytes of one log line; a longer one is not stored."
    )

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Make settings of `values`, by lower-case name, and defaults alone: the environment is not read.

        Raises:
            pydantic.ValidationError: a name is unknown or a value unusable.
        """
        settings = cls.__new__(cls)
        BaseModel.__init__(settings, **values)
        return settings

    def explicit_values(self) -> dict[str, Any]:
        """Return the values that were set, by lower-case name, whether or not they differ from the default."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set)}

    def shown_values(self) -> dict[str, Any]:
        """Return all values by lower-case name in a form for people and JSON: paths as text, secrets masked."""
        return {name: shown_value(getattr(self, name)) for name in type(self).model_fields}

    @cached_property
    def digest(self) -> str:
        """A text that is the same for equal settings and differs for others."""
        values = (f"{name}={_revealed(getattr(self, name))!r}" for name in type(self).model_fields)
        return sha256("\n".join(values).encode()).hexdigest()[:32]

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Settings) and self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_values, (self.explicit_values(),)

    def __repr_args__(self) -> Any:
        return [(name, shown_value(value)) for name, value in self.explicit_values().items()]


def shown_value(value: Any) -> Any:
    """Return a setting's `value` as it may be shown: secrets and passwords in addresses masked, paths as text."""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        return _URL_PASSWORD.sub(rf"\1:{MASK}@", value)
    return value


def _revealed(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value
