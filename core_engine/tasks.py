"""Tasks: functions with a policy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from inspect import signature
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, overload

from core_engine.call_methods import P, R_co
from core_engine.definitions import NOT_SET, Definitions, captures_failure, given, is_async, is_method, register
from core_engine.map_options import MapOptions
from core_engine.option_checks import (
    MOST_RETRY_DELAYS,
    check_callable,
    check_count,
    check_delays,
    check_expiration,
    check_flag,
    check_function,
    check_hooks,
    check_instance,
    check_jitter,
    check_names_of_options,
    check_resources,
    check_result_serializer,
    check_result_storage,
    check_run_name,
    check_seconds,
    check_tags,
    check_text,
    check_timeout,
    check_version,
)
from core_engine.schemas.records import TaskPolicy
from core_engine.task_methods import TaskMethods
from core_engine.utilities.callables import CallSignature, callable_name
from core_engine.utilities.importing import lasting_module_name

if TYPE_CHECKING:
    from pathlib import Path

    from core_engine.context import TaskRunContext
    from core_engine.results import ResultStorage
    from core_engine.serializers import Serializer

Q = ParamSpec("Q")
R = TypeVar("R")

__all__ = ["MapOptions", "Task", "exponential_backoff", "task", "task_input_hash"]

_definitions = Definitions("task", per_module=True)


def task_input_hash(context: TaskRunContext, arguments: dict[str, Any]) -> str | None:
    """A cache key of the task, its code and its arguments; of a method also the object that it is bound to.

    Parameters:
        context: The context of the run.
        arguments: The run's parameters, resolved.

    Returns:
        The key, or None (which means: do not cache) when one of these can be neither written as JSON nor pickled.
    """
    from core_engine.utilities.hashing import bound_objects, function_digest, hash_objects

    fn = context.task.fn
    return hash_objects(context.task.task_key, function_digest(fn), arguments, *bound_objects(fn))


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """Returns what gives, for a number of retries, the delays ``backoff_factor * 1, 2, 4, ...`` in seconds."""
    check_seconds(backoff_factor, "backoff_factor")

    def delays(retries: int) -> list[float]:
        return [backoff_factor * 2**retry for retry in range(min(retries, MOST_RETRY_DELAYS))]

    return delays


class Task(TaskMethods[P, R_co]):
    """A function with a policy; calls of it inside a flow are orchestrated task runs.

    Parameters:
        fn: The function, sync or async.
        name: None: the function's name.
        description: None: its cleaned docstring.
        tags: Tags of every run.
        version: Any text; None: none.
        cache_key_fn: ``f(context, parameters)`` gives the key under which a completed run serves others; None: no
            caching.
        cache_expiration: How long it serves; None: for ever.
        task_run_name: A template over the parameters, or a function without arguments; None: name and call index.
        retries: How often a failed run is tried again; None: the setting TASK_DEFAULT_RETRIES.
        retry_delay_seconds: Seconds before each retry: a number, a list (the last repeats), or a function from the
            number of retries to a list; None: the setting TASK_DEFAULT_RETRY_DELAY_SECONDS.
        retry_jitter_factor: Up to which part of itself a delay is lengthened at random; None: not.
        persist_result: Whether results are kept in storage; None: decided by what the run needs.
        result_storage, result_serializer, result_storage_key: Where and how; None: as the flow's.
        cache_result_in_memory: False gives memory free as soon as a result is persisted.
        timeout_seconds: Limit of one execution; None or 0: none.
        log_prints: Whether ``print`` logs; None: as the flow.
        refresh_cache: True runs although a cached result exists; None: the setting TASKS_REFRESH_CACHE.
        on_completion, on_failure: Hooks ``f(task, task_run, state)``, called in order after the final state.
        viz_return_value: Accepted for the vocabulary's sake; nothing here uses it.
        map_options: How maps and streams of the task are carried out; None: the defaults of MapOptions.
        resources: What each run takes of the worker that runs it, by name, such as ``{"GPU": 1}``; None: nothing in
            particular. On Dask these are resources of workers. On Ray "CPU", "GPU" and "memory" (bytes) are its own,
            other names custom resources. Runners in the flow's process take no notice.

    Raises:
        TypeError: `fn` is no function, or an option has a wrong type.
        ReservedArgumentError: A parameter has a name that calls use themselves.
        ValueError: An option is out of range, such as more than 50 retry delays.
    """

    def __init__(
        self,
        fn: Callable[P, R_co],
        name: str | None = None,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        version: str | None = None,
        cache_key_fn: Callable[[TaskRunContext, dict[str, Any]], str | None] | None = None,
        cache_expiration: timedelta | None = None,
        task_run_name: Callable[[], str] | str | None = None,
        retries: int | None = None,
        retry_delay_seconds: float | list[float] | Callable[[int], list[float]] | None = None,
        retry_jitter_factor: float | None = None,
        persist_result: bool | None = None,
        result_storage: ResultStorage | Path | str | None = None,
        result_storage_key: str | None = None,
        result_serializer: Serializer | str | None = None,
        cache_result_in_memory: bool = True,
        timeout_seconds: float | None = None,
        log_prints: bool | None = None,
        refresh_cache: bool | None = None,
        on_completion: list[Callable[..., Any]] | None = None,
        on_failure: list[Callable[..., Any]] | None = None,
        viz_return_value: Any = None,
        map_options: MapOptions | None = None,
        resources: Mapping[str, float] | None = None,
    ) -> None:
        check_callable(fn, "task")
        check_run_name(task_run_name, "task_run_name")
        self.on_completion = check_hooks(on_completion, "on_completion")
        self.on_failure = check_hooks(on_failure, "on_failure")
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.isasync = is_async(fn)
        self.signature = CallSignature.of(fn)
        self.signature.check_reserved_names()
        self._bound_signature: CallSignature | None = None
        self.name: str = check_text(name, "name") or callable_name(fn)
        self.description = check_text(description, "description") or _docstring(fn)
        self.task_key = _task_key(fn)
        self.tags = check_tags(tags)
        self.version = check_version(version)
        self.cache_key_fn = check_function(cache_key_fn, "cache_key_fn")
        self.cache_expiration = check_expiration(cache_expiration)
        self.task_run_name = task_run_name
        self.retries = check_count(_default(retries, "task_default_retries"), "retries")
        self.retry_delay_seconds = check_delays(
            _default(retry_delay_seconds, "task_default_retry_delay_seconds"), self.retries
        )
        self.retry_jitter_factor = check_jitter(retry_jitter_factor)
        self.persist_result: bool | None = check_flag(persist_result, "persist_result")
        self.result_storage = check_result_storage(result_storage)
        self.result_storage_key = check_text(result_storage_key, "result_storage_key")
        self.result_serializer = check_result_serializer(result_serializer)
        self.cache_result_in_memory: bool = check_flag(cache_result_in_memory, "cache_result_in_memory", False)
        self.timeout_seconds = check_timeout(timeout_seconds)
        self.log_prints: bool | None = check_flag(log_prints, "log_prints")
        self.refresh_cache: bool | None = check_flag(refresh_cache, "refresh_cache")
        self.viz_return_value = viz_return_value
        self.map_options = check_instance(map_options, "map_options", MapOptions, "a MapOptions(...)")
        self.resources = check_resources(resources)
        _definitions.add(self)
        register(self, "task")

    @property
    def policy(self) -> TaskPolicy:
        """What the rules of orchestration need to know."""
        delays = self.retry_delay_seconds
        return _policy(
            self.retries,
            tuple(delays) if isinstance(delays, list) else (delays,),
            self.retry_jitter_factor,
            self.timeout_seconds,
            self._refreshes(),
            None if self.cache_expiration is None else self.cache_expiration.total_seconds(),
        )

    def _refreshes(self) -> bool:
        if self.refresh_cache is not None:
            return self.refresh_cache
        if self.cache_key_fn is None:
            return False
        from core_engine.settings import get_current_settings

        return get_current_settings().tasks_refresh_cache

    def with_options(
        self,
        *,
        name: str | None = NOT_SET,
        description: str | None = NOT_SET,
        tags: Iterable[str] | None = NOT_SET,
        cache_key_fn: Callable[[TaskRunContext, dict[str, Any]], str | None] | None = NOT_SET,
        task_run_name: Callable[[], str] | str | None = NOT_SET,
        cache_expiration: timedelta | None = NOT_SET,
        retries: int | None = NOT_SET,
        retry_delay_seconds: float | list[float] | Callable[[int], list[float]] | None = NOT_SET,
        retry_jitter_factor: float | None = NOT_SET,
        persist_result: bool | None = NOT_SET,
        result_storage: ResultStorage | Path | str | None = NOT_SET,
        result_serializer: Serializer | str | None = NOT_SET,
        result_storage_key: str | None = NOT_SET,
        cache_result_in_memory: bool | None = NOT_SET,
        timeout_seconds: float | None = NOT_SET,
        log_prints: bool | None = NOT_SET,
        refresh_cache: bool | None = NOT_SET,
        on_completion: list[Callable[..., Any]] | None = NOT_SET,
        on_failure: list[Callable[..., Any]] | None = NOT_SET,
        viz_return_value: Any = NOT_SET,
        map_options: MapOptions | None = NOT_SET,
        resources: Mapping[str, float] | None = NOT_SET,
    ) -> Task[P, R_co]:
        """Returns a new task of the same function. Options that are not given keep their value; the parameters are
        those of Task, without the version."""
        return Task(
            self.fn,
            name=given(name, self.name) or self.name,
            description=given(description, self.description) or self.description,
            tags=given(tags, self.tags),
            version=self.version,
            cache_key_fn=given(cache_key_fn, self.cache_key_fn),
            cache_expiration=given(cache_expiration, self.cache_expiration),
            task_run_name=given(task_run_name, self.task_run_name),
            retries=given(retries, self.retries),
            retry_delay_seconds=given(retry_delay_seconds, self.retry_delay_seconds),
            retry_jitter_factor=given(retry_jitter_factor, self.retry_jitter_factor),
            persist_result=given(persist_result, self.persist_result),
            result_storage=given(result_storage, self.result_storage),
            result_storage_key=given(result_storage_key, self.result_storage_key),
            result_serializer=given(result_serializer, self.result_serializer),
            cache_result_in_memory=(
                self.cache_result_in_memory if cache_result_in_memory in (NOT_SET, None) else cache_result_in_memory
            ),
            timeout_seconds=given(timeout_seconds, self.timeout_seconds),
            log_prints=given(log_prints, self.log_prints),
            refresh_cache=given(refresh_cache, self.refresh_cache),
            on_completion=given(on_completion, self.on_completion),
            on_failure=given(on_failure, self.on_failure),
            viz_return_value=given(viz_return_value, self.viz_return_value),
            map_options=given(map_options, self.map_options),
            resources=given(resources, self.resources),
        )

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self: Task[Concatenate[Any, Q], R], instance: object, owner: type | None = None) -> Task[Q, R]: ...

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """A task that is made of a method is bound like one. Others stay as they are where a class has them."""
        if instance is None or not is_method(self.fn):
            return self
        bound: Task[..., Any] = object.__new__(Task)
        bound.__dict__.update(self.__dict__)
        bound.fn = self.fn.__get__(instance, owner)
        if self._bound_signature is None:
            self._bound_signature = CallSignature.of(bound.fn)  # the same for all instances
        bound.signature = self._bound_signature
        return bound

    def _enter(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait_for: Iterable[Any] | None,
        return_type: str,
        mapped: bool = False,
        immediately: bool = False,
    ) -> Any:
        from core_engine.engine.task_calls import enter_task_run_engine, local_task_runner

        return enter_task_run_engine(
            self,
            parameters=self.signature.bind(args, kwargs, defaults=not mapped),
            wait_for=wait_for,
            return_type=return_type,
            task_runner=local_task_runner if immediately else None,
            mapped=mapped,
        )

    def _stream(
        self, iterable: Any, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Iterable[Any] | None
    ) -> Any:
        from core_engine.engine.streams import stream

        return stream(self, iterable, args, kwargs, wait_for)

    def __repr__(self) -> str:
        return f"Task({self.name!r})"


# Equal policies are one object: a flow run keeps the policy of each of its task runs.
_policy = functools.lru_cache(maxsize=1024)(TaskPolicy)


def _default(value: Any, setting: str) -> Any:
    if value is not None:
        return value
    from core_engine.settings import get_current_settings

    return getattr(get_current_settings(), setting)


def _docstring(fn: Any) -> str | None:
    from inspect import getdoc

    return getdoc(fn) if getattr(fn, "__doc__", None) else None


def _task_key(fn: Any) -> str:
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    return f"{lasting_module_name(named.__module__)}.{named.__qualname__}"


_OPTIONS = frozenset(signature(Task.__init__).parameters) - {"self", "fn"}


@overload
def task(__fn: Callable[P, R]) -> Task[P, R]: ...


@overload
def task(
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Iterable[str] | None = None,
    version: str | None = None,
    cache_key_fn: Callable[[TaskRunContext, dict[str, Any]], str | None] | None = None,
    cache_expiration: timedelta | None = None,
    task_run_name: Callable[[], str] | str | None = None,
    retries: int | None = None,
    retry_delay_seconds: float | list[float] | Callable[[int], list[float]] | None = None,
    retry_jitter_factor: float | None = None,
    persist_result: bool | None = None,
    result_storage: ResultStorage | Path | str | None = None,
    result_storage_key: str | None = None,
    result_serializer: Serializer | str | None = None,
    cache_result_in_memory: bool = True,
    timeout_seconds: float | None = None,
    log_prints: bool | None = None,
    refresh_cache: bool | None = None,
    on_completion: list[Callable[..., Any]] | None = None,
    on_failure: list[Callable[..., Any]] | None = None,
    viz_return_value: Any = None,
    map_options: MapOptions | None = None,
    resources: Mapping[str, float] | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(__fn: Any = None, **options: Any) -> Any:
    """Makes a Task of a function: ``@task`` or ``@task(retries=3, ...)``. The options are those of Task."""
    if options:
        check_names_of_options("task", options, _OPTIONS)
    if __fn is None:
        return functools.partial(task, **options)
    try:
        return Task(__fn, **options)
    except Exception as error:
        if not captures_failure(error, __fn):
            raise
        return __fn


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
