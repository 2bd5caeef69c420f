"""Whether, where and how results are kept: options of flow and task, the flow around them, and settings.

persistence     explicit option; else a feature that needs it (retries of the flow, a cache key, nothing held in
                memory); else the settings RESULTS_PERSIST_BY_DEFAULT and RESUMABLE. The parent's is not inherited.
serializer      own option; else that of the flow around; else the setting RESULTS_DEFAULT_SERIALIZER
storage         own option; else that of the flow around; else the directory LOCAL_STORAGE_PATH
held in memory  own option only
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from core_engine.exceptions import MissingContextError
from core_engine.results.factory import ResultFactory
from core_engine.results.keys import KeyTemplate, random_key
from core_engine.results.storage import ResultStorage, remember_storage, resolve_storage
from core_engine.serializers import Serializer, resolve_serializer

if TYPE_CHECKING:
    from pathlib import Path

    from core_engine.settings import Settings


class ResultOptions(Protocol):
    """What a flow and a task both say of their results; None means nothing said."""

    @property
    def persist_result(self) -> bool | None: ...
    @property
    def result_storage(self) -> ResultStorage | Path | str | None: ...
    @property
    def result_serializer(self) -> Serializer | str | None: ...
    @property
    def cache_result_in_memory(self) -> bool: ...


class FlowOptions(ResultOptions, Protocol):
    """What the policy asks of a flow."""

    @property
    def retries(self) -> int | None: ...


class TaskOptions(ResultOptions, Protocol):
    """What the policy asks of a task."""

    @property
    def cache_key_fn(self) -> Any: ...
    @property
    def result_storage_key(self) -> Any: ...


class FlowRunAround(Protocol):
    """What the policy asks of the context of the flow run around."""

    @property
    def flow(self) -> FlowOptions | None: ...
    @property
    def result_factory(self) -> ResultFactory | None: ...


def flow_factory(
    flow: FlowOptions, parent: FlowRunAround | None = None, settings: Settings | None = None
) -> ResultFactory:
    """Returns the factory of a flow run.

    Parameters:
        flow: The flow.
        parent: Context of the flow run that calls it; None for a root flow.
        settings: None uses the settings in force.

    Raises:
        TypeError: The option for storage or serializer is nothing that can be one.
        ValueError: It names one that is not known.
    """
    settings = settings or _settings_in_force()
    needed = not flow.cache_result_in_memory or (parent is not None and _retries(parent.flow))
    return _factory(flow, needed, None if parent is None else parent.result_factory, random_key, settings)


def task_factory(
    task: TaskOptions, around: FlowRunAround | None = None, settings: Settings | None = None
) -> ResultFactory:
    """Returns the factory of a task's runs.

    Parameters:
        task: The task.
        around: Context of the flow run that calls it; None takes the one in force.
        settings: None uses the settings in force.

    Raises:
        MissingContextError: There is no flow run around.
        TypeError, ValueError: As `flow_factory`.
    """
    if around is None:
        from core_engine.context import FlowRunContext

        around = FlowRunContext.get()
        if around is None:
            raise MissingContextError(
                "Results of a task are kept as the flow around it says, and there is no flow run here."
            )
    settings = settings or _settings_in_force()
    needed = not task.cache_result_in_memory or task.cache_key_fn is not None or _retries(around.flow)
    return _factory(task, needed, around.result_factory, _key_function(task.result_storage_key), settings)


def default_factory(settings: Settings | None = None, **fields: Any) -> ResultFactory:
    """Returns the factory that the settings alone give; see ``ResultFactory.default_factory``."""
    settings = settings or _settings_in_force()
    unknown = sorted(fields.keys() - ResultFactory.__dataclass_fields__.keys())
    if unknown:
        raise TypeError(
            f"A result factory has no field {', '.join(unknown)}; it has: {', '.join(ResultFactory.__slots__)}."
        )
    persist, keep = fields.get("persist_result"), fields.get("cache_result_in_memory")
    return _made(
        _persists_by_default(settings) if persist is None else persist,
        True if keep is None else keep,
        _serializer(fields.get("serializer"), None, settings),
        _storage(fields.get("storage"), None, settings),
        fields.get("storage_key_fn") or random_key,
    )


def _factory(
    options: ResultOptions,
    needed: bool,
    around: ResultFactory | None,
    make_key: Callable[[], str],
    settings: Settings,
) -> ResultFactory:
    persist = options.persist_result
    if persist is None:
        persist = needed or _persists_by_default(settings)
    return _made(
        persist,
        options.cache_result_in_memory,
        _serializer(options.result_serializer, around, settings),
        _storage(options.result_storage, around, settings),
        make_key,
    )


def _persists_by_default(settings: Settings) -> bool:
    return settings.results_persist_by_default or settings.resumable


def _made(
    persist: bool, keep: bool, serializer: Serializer, storage: ResultStorage, make_key: Callable[[], str]
) -> ResultFactory:
    if persist:
        remember_storage(storage)
    return ResultFactory(persist, keep, serializer, storage, make_key)


def _serializer(own: object, around: ResultFactory | None, settings: Settings) -> Serializer:
    if own is not None:
        return resolve_serializer(own)
    return resolve_serializer(settings.results_default_serializer) if around is None else around.serializer


def _storage(own: object, around: ResultFactory | None, settings: Settings) -> ResultStorage:
    if own is not None:
        return resolve_storage(own)
    return resolve_storage(settings.local_storage_path) if around is None else around.storage


def _key_function(chosen: Any) -> Callable[[], str]:
    """Returns what makes the keys for a ``result_storage_key``: a text, a template, a function or None."""
    if chosen is None:
        return random_key
    if isinstance(chosen, str):
        return KeyTemplate(chosen)
    if callable(chosen):
        return chosen  # type: ignore[no-any-return]  # what it gives is checked for each key
    raise TypeError(f"result_storage_key must be a text, not {type(chosen).__name__}: {chosen!r}.")


def _retries(flow: FlowOptions | None) -> bool:
    return flow is not None and bool(flow.retries)


def _settings_in_force() -> Settings:
    from core_engine.settings import get_current_settings

    return get_current_settings()
