"""Flows: functions that are orchestrated as a whole, and what finds them in files."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast, overload
from uuid import UUID

from core_engine.call_methods import CallMethods, P, R_co
from core_engine.definitions import NOT_SET, Definitions, captures_failure, given, is_async, is_method, register
from core_engine.option_checks import (
    check_callable,
    check_count,
    check_flag,
    check_hooks,
    check_id,
    check_name,
    check_names_of_options,
    check_result_serializer,
    check_result_storage,
    check_run_name,
    check_seconds,
    check_text,
    check_timeout,
    check_version,
)
from core_engine.utilities.callables import CallSignature, callable_name

if TYPE_CHECKING:
    from core_engine.results import ResultStorage
    from core_engine.serializers import Serializer
    from core_engine.task_runners import BaseTaskRunner

Q = ParamSpec("Q")
R = TypeVar("R")

__all__ = ["Flow", "flow", "load_flow_from_entrypoint", "load_flow_from_script", "load_flows_from_script"]

_definitions = Definitions("flow")


class Flow(CallMethods[P, R_co]):
    """A function that is orchestrated as a whole: each call is a flow run.

    Parameters:
        fn: The function, sync or async.
        name: None: the function's name, with dashes for underscores.
        version: Any text; None: a hash of the file that defines the function, None where there is none.
        flow_run_name: A template over the parameters, or a function without arguments; None: two random words.
        retries: How often a failed run is tried again; None: the setting FLOW_DEFAULT_RETRIES.
        retry_delay_seconds: Seconds before each retry; None: the setting FLOW_DEFAULT_RETRY_DELAY_SECONDS.
        task_runner: Where submitted tasks run: a runner, its class, or a registered name; None: concurrent.
        description: None: the function's cleaned docstring.
        timeout_seconds: Limit of one execution of the function; None or 0: none.
        validate_parameters: Whether arguments are coerced to the annotations.
        persist_result, result_storage, result_serializer, cache_result_in_memory: Where results are kept; None:
            decided by settings and by what the run needs.
        log_prints: Whether ``print`` logs; None: as the parent, or the setting LOGGING_LOG_PRINTS.
        on_completion, on_failure, on_cancellation, on_crashed: Hooks ``f(flow, flow_run, state)``, called in order.

    Raises:
        TypeError: `fn` is no function, or an option has a wrong type.
        InvalidNameError: The explicit name holds one of ``/ % & > <``.
        ReservedArgumentError: A parameter has a name that calls use themselves.
        ValueError: An option is out of range, or the parameters cannot be validated.
    """

    def __init__(
        self,
        fn: Callable[P, R_co],
        name: str | None = None,
        version: str | None = None,
        flow_run_name: Callable[[], str] | str | None = None,
        retries: int | None = None,
        retry_delay_seconds: float | None = None,
        task_runner: type[BaseTaskRunner] | BaseTaskRunner | str | None = None,
        description: str | None = None,
        timeout_seconds: float | None = None,
        validate_parameters: bool = True,
        persist_result: bool | None = None,
        result_storage: ResultStorage | Path | str | None = None,
        result_serializer: Serializer | str | None = None,
        cache_result_in_memory: bool = True,
        log_prints: bool | None = None,
        on_completion: list[Callable[..., Any]] | None = None,
        on_failure: list[Callable[..., Any]] | None = None,
        on_cancellation: list[Callable[..., Any]] | None = None,
        on_crashed: list[Callable[..., Any]] | None = None,
    ) -> None:
        if name is not None:
            check_name(name, "flow")
        check_callable(fn, "flow")
        check_run_name(flow_run_name, "flow_run_name")
        self.on_completion = check_hooks(on_completion, "on_completion")
        self.on_failure = check_hooks(on_failure, "on_failure")
        self.on_cancellation = check_hooks(on_cancellation, "on_cancellation")
        self.on_crashed = check_hooks(on_crashed, "on_crashed")
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.isasync = is_async(fn)
        self.signature = CallSignature.of(fn)
        self.signature.check_reserved_names()
        self._given_name = name
        self.name: str = name or callable_name(fn).replace("_", "-")
        self.flow_run_name = flow_run_name
        self.version = check_version(version) or _file_version(fn)
        self.description = check_text(description, "description") or (
            inspect.getdoc(fn) if getattr(fn, "__doc__", None) else None
        )
        self.timeout_seconds = check_timeout(timeout_seconds)
        self.task_runner = _runner(task_runner)
        self.should_validate_parameters: bool = check_flag(validate_parameters, "validate_parameters", False)
        self.persist_result: bool | None = check_flag(persist_result, "persist_result")
        self.result_storage = check_result_storage(result_storage)
        self.result_serializer = check_result_serializer(result_serializer)
        self.cache_result_in_memory: bool = check_flag(cache_result_in_memory, "cache_result_in_memory", False)
        self.log_prints: bool | None = check_flag(log_prints, "log_prints")
        self.retries = check_count(_default(retries, "flow_default_retries"), "retries")
        self.retry_delay_seconds = check_seconds(
            _default(retry_delay_seconds, "flow_default_retry_delay_seconds"), "retry_delay_seconds"
        )
        self._check_signature()
        _definitions.add(self)
        register(self, "flow")

    def _check_signature(self) -> None:
        if self.should_validate_parameters and (
            self.signature.is_annotated or any(name.startswith("v__") for name in self.signature.parameter_names)
        ):
            from core_engine.utilities.parameters import check_signature_is_validatable

            check_signature_is_validatable(self.fn)

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON schema of the parameters."""
        from core_engine.utilities.schemas import parameter_schema

        return parameter_schema(self.fn)

    def validate_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Returns the parameters coerced to the function's annotations.

        Raises:
            ParameterTypeError: A value does not fit; the message has one entry for each.
            SignatureMismatchError: The names do not fit.
        """
        from core_engine.utilities.parameters import validate_parameters

        return validate_parameters(self.fn, parameters)

    def serialize_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Returns the parameters as they are stored: JSON, with a placeholder for what JSON cannot say."""
        from core_engine.engine.stored_parameters import stored_parameters

        return stored_parameters(parameters)

    def with_options(
        self,
        *,
        name: str | None = NOT_SET,
        version: str | None = NOT_SET,
        retries: int | None = NOT_SET,
        retry_delay_seconds: float | None = NOT_SET,
        description: str | None = NOT_SET,
        flow_run_name: Callable[[], str] | str | None = NOT_SET,
        task_runner: type[BaseTaskRunner] | BaseTaskRunner | str | None = NOT_SET,
        timeout_seconds: float | None = NOT_SET,
        validate_parameters: bool | None = NOT_SET,
        persist_result: bool | None = NOT_SET,
        result_storage: ResultStorage | Path | str | None = NOT_SET,
        result_serializer: Serializer | str | None = NOT_SET,
        cache_result_in_memory: bool | None = NOT_SET,
        log_prints: bool | None = NOT_SET,
        on_completion: list[Callable[..., Any]] | None = NOT_SET,
        on_failure: list[Callable[..., Any]] | None = NOT_SET,
        on_cancellation: list[Callable[..., Any]] | None = NOT_SET,
        on_crashed: list[Callable[..., Any]] | None = NOT_SET,
    ) -> Flow[P, R_co]:
        """Returns a new flow of the same function. Options that are not given keep their value."""
        return Flow(
            self.fn,
            name=given(name, self._given_name) or self._given_name,
            version=given(version, self.version),
            flow_run_name=given(flow_run_name, self.flow_run_name),
            retries=given(retries, self.retries),
            retry_delay_seconds=given(retry_delay_seconds, self.retry_delay_seconds),
            task_runner=given(task_runner, self.task_runner) or self.task_runner,
            description=given(description, self.description),
            timeout_seconds=given(timeout_seconds, self.timeout_seconds),
            validate_parameters=(
                self.should_validate_parameters if validate_parameters in (NOT_SET, None) else validate_parameters
            ),
            persist_result=given(persist_result, self.persist_result),
            result_storage=given(result_storage, self.result_storage),
            result_serializer=given(result_serializer, self.result_serializer),
            cache_result_in_memory=(
                self.cache_result_in_memory if cache_result_in_memory in (NOT_SET, None) else cache_result_in_memory
            ),
            log_prints=given(log_prints, self.log_prints),
            on_completion=given(on_completion, self.on_completion),
            on_failure=given(on_failure, self.on_failure),
            on_cancellation=given(on_cancellation, self.on_cancellation),
            on_crashed=given(on_crashed, self.on_crashed),
        )

    def _call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Iterable[Any] | None, return_type: str
    ) -> Any:
        from core_engine.engine.flow_calls import enter_flow_run_engine_from_flow_call

        return enter_flow_run_engine_from_flow_call(
            self, self.signature.bind(args, kwargs), wait_for=wait_for, return_type=return_type
        )

    def resume(
        self, flow_run_id: UUID | str, parameters: dict[str, Any] | None = None, *, return_state: bool = False
    ) -> Any:
        """Executes a run of this flow again that has ended without completing, or whose process died.

        Task runs that completed are not executed again if their results are stored, and neither their code nor their
        inputs have changed since; that is recorded while the setting RESUMABLE is on. Log lines say how many stored
        results there are, and at the end which were used, and why others were not.

        Parameters:
            flow_run_id: The run. It stays the same run, in its next execution.
            parameters: Those that its record does not hold, such as secrets, or that are to be others; None: none.
            return_state: Returns the final state instead of the result.

        Returns:
            The flow's result, or its state; an awaitable of it if the flow is async.

        Raises:
            RuntimeError: In a flow or task; the run has not ended, has completed, or is a subflow's.
            ParameterBindError: A parameter's value is not in the record, and is not given.
            ObjectNotFound: There is no such flow run.
        """
        from core_engine.engine.resuming import enter_flow_run_engine_from_resume

        return_type = "state" if return_state else "result"
        return enter_flow_run_engine_from_resume(self, check_id(flow_run_id, "flow_run_id"), parameters, return_type)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self: Flow[Concatenate[Any, Q], R], instance: object, owner: type | None = None) -> Flow[Q, R]: ...

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """A flow that is made of a method is bound like one. Others stay as they are where a class has them."""
        if instance is None or not is_method(self.fn):
            return self
        return _with_function(self, self.fn.__get__(instance, owner))

    def __repr__(self) -> str:
        return f"Flow({self.name!r})"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            from core_engine.vocabulary import absent

            raise absent("core_engine.flows.Flow", name)


def _with_function(flow: Flow[..., Any], fn: Callable[..., Any]) -> Flow[..., Any]:
    clone: Flow[..., Any] = object.__new__(Flow)
    clone.__dict__.update(flow.__dict__)
    clone.fn = fn
    clone.signature = CallSignature.of(fn)
    return clone


def _default(value: Any, setting: str) -> Any:
    if value is not None:
        return value
    from core_engine.settings import get_current_settings

    return getattr(get_current_settings(), setting)


def _file_version(fn: Any) -> str | None:
    from core_engine.utilities.hashing import file_hash

    try:
        path = inspect.getsourcefile(fn)
        return file_hash(path) if path else None
    except (TypeError, OSError):
        return None


def _runner(runner: Any) -> BaseTaskRunner:
    from core_engine.settings import get_current_settings
    from core_engine.task_runners import BaseTaskRunner, get_task_runner

    if runner is None:
        return get_task_runner(get_current_settings().task_runner_default)()
    if isinstance(runner, str):
        return get_task_runner(runner)()
    if isinstance(runner, type) and issubclass(runner, BaseTaskRunner):
        return runner()
    if not isinstance(runner, BaseTaskRunner) and not all(
        hasattr(runner, name) for name in ("start", "submit", "wait")
    ):
        raise TypeError(f"task_runner must be a task runner, its class, or a registered name, not {runner!r}.")
    return cast(BaseTaskRunner, runner)


_OPTIONS = frozenset(inspect.signature(Flow.__init__).parameters) - {"self", "fn"}


@overload
def flow(__fn: Callable[P, R]) -> Flow[P, R]: ...


@overload
def flow(
    *,
    name: str | None = None,
    version: str | None = None,
    flow_run_name: Callable[[], str] | str | None = None,
    retries: int | None = None,
    retry_delay_seconds: float | None = None,
    task_runner: type[BaseTaskRunner] | BaseTaskRunner | str | None = None,
    description: str | None = None,
    timeout_seconds: float | None = None,
    validate_parameters: bool = True,
    persist_result: bool | None = None,
    result_storage: ResultStorage | Path | str | None = None,
    result_serializer: Serializer | str | None = None,
    cache_result_in_memory: bool = True,
    log_prints: bool | None = None,
    on_completion: list[Callable[..., Any]] | None = None,
    on_failure: list[Callable[..., Any]] | None = None,
    on_cancellation: list[Callable[..., Any]] | None = None,
    on_crashed: list[Callable[..., Any]] | None = None,
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...


def flow(__fn: Any = None, **options: Any) -> Any:
    """Makes a Flow of a function: ``@flow`` or ``@flow(retries=1, ...)``. The options are those of Flow."""
    if options:
        check_names_of_options("flow", options, _OPTIONS)
    if __fn is None:
        return functools.partial(flow, **options)
    try:
        return Flow(__fn, **options)
    except Exception as error:
        if not captures_failure(error, __fn):
            raise
        return __fn


def load_flow_from_entrypoint(entrypoint: str) -> Flow[..., Any]:
    """Returns the flow at ``path/to/file.py:name`` or ``package.module:name``. Flow calls in the file do nothing.

    Raises:
        MissingFlowError: There is nothing of that name, or it is no flow.
        ScriptError: The file raised when it was executed.
    """
    from core_engine.engine.loading import load_flow_from_entrypoint

    return load_flow_from_entrypoint(entrypoint)


def load_flows_from_script(path: str | Path) -> list[Flow[..., Any]]:
    """Returns all flows that a script defines."""
    from core_engine.engine.loading import load_flows_from_script

    return load_flows_from_script(path)


def load_flow_from_script(path: str | Path, flow_name: str | None = None) -> Flow[..., Any]:
    """Returns the flow of a script: the one named `flow_name`, or the only one.

    Raises:
        MissingFlowError: The script has none, or none of that name.
        UnspecifiedFlowError: It has several and none was named.
    """
    from core_engine.engine.loading import load_flow_from_script

    return load_flow_from_script(path, flow_name)


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
