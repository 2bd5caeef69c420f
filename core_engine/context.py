"""Contexts: what code can learn of the run that it is part of.

Each context is found through a context variable: ``X.get()`` is the innermost one, or None. A context is entered with
``with``, once; ``copy()`` gives one that may be entered again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

from core_engine.exceptions import MissingContextError
from core_engine.option_checks import check_tags
from core_engine.settings import (
    SettingsContext,
    get_settings_context,
    use_profile,
)

if TYPE_CHECKING:
    from core_engine.client.embedded import EmbeddedClient
    from core_engine.engine.active import ActiveFlowRun, ActiveTaskRun
    from core_engine.flows import Flow
    from core_engine.futures import TaskFuture
    from core_engine.results import ResultFactory
    from core_engine.schemas.records import FlowRun, TaskRun
    from core_engine.schemas.states import State
    from core_engine.task_runners import BaseTaskRunner
    from core_engine.tasks import Task

__all__ = [
    "ContextModel",
    "FlowRunContext",
    "ObjectRegistry",
    "SettingsContext",
    "TagsContext",
    "TaskRunContext",
    "get_run_context",
    "get_settings_context",
    "tags",
    "use_profile",
]


class ContextModel:
    """Base of contexts: fields are given by keyword, checked by type, and never change.

    ``_fields`` maps each field to the types it may have (empty: any) and ``_defaults`` those that may be left out.
    """

    __slots__ = ("_log_fields", "_token", "_values")

    _variable: ClassVar[ContextVar[Any]]
    _fields: ClassVar[Mapping[str, tuple[type, ...]]] = {}
    _defaults: ClassVar[Mapping[str, Callable[[], Any]]] = {}

    def __init__(self, **values: Any) -> None:
        unknown = sorted(values.keys() - self._fields.keys())
        if unknown:
            raise ValueError(
                f"{type(self).__name__} has no field {', '.join(unknown)}; its fields: {sorted(self._fields)}."
            )
        for name, types in self._fields.items():
            if name not in values:
                if name not in self._defaults:
                    raise ValueError(f"{type(self).__name__} needs the field {name!r}.")
                values[name] = self._defaults[name]()
            elif types and values[name] is not None and not isinstance(values[name], types):
                accepted = " or ".join(accepted_type.__name__ for accepted_type in types)
                raise ValueError(
                    f"{type(self).__name__}.{name} must be {accepted}, "
                    f"not {type(values[name]).__name__} ({values[name]!r})."
                )
        object.__setattr__(self, "_values", values)
        object.__setattr__(self, "_token", None)

    def __getattr__(self, name: str) -> Any:
        try:
            return object.__getattribute__(self, "_values")[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no field {name!r}.") from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError(f"{type(self).__name__} is immutable; make a copy with copy({name}=...).")

    @classmethod
    def get(cls) -> Self | None:
        """Returns the innermost context of this kind, or None outside of one."""
        found: Self | None = cls._variable.get(None)
        return found

    def copy(self, **changes: Any) -> Self:
        """Returns a context with `changes` that has not been entered."""
        return type(self)(**{**self._values, **changes})

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError(f"This {type(self).__name__} was already entered. Enter a copy() of it.")
        object.__setattr__(self, "_token", self._variable.set(self))
        return self

    def __exit__(self, *exc_info: object) -> None:
        token: Token[Any] | None = self._token
        if token is None:
            raise RuntimeError(f"Asymmetric use: this {type(self).__name__} is left more often than it was entered.")
        object.__setattr__(self, "_token", None)
        self._variable.reset(token)


class FlowRunContext(ContextModel):
    """The context of a flow run's function.

    Fields: flow (Flow), flow_run (FlowRun), task_runner, client, parameters (the live values), result_factory,
    start_time (aware datetime), log_prints (bool). ``task_run_dynamic_keys``, ``task_run_futures``,
    ``flow_run_states`` and ``task_run_results`` read what the flow run has gathered so far.
    """

    __slots__ = ()
    _variable = ContextVar("core_engine_flow_run")
    _fields: ClassVar = {
        "flow": (),
        "flow_run": (),
        "task_runner": (),
        "client": (),
        "parameters": (dict,),
        "result_factory": (),
        "start_time": (datetime,),
        "log_prints": (bool,),
        "run": (),
    }
    _defaults: ClassVar = {
        "parameters": dict,
        "start_time": lambda: datetime.now(UTC),
        "log_prints": lambda: False,
        "run": lambda: None,
        "result_factory": lambda: None,
        "client": lambda: None,
        "task_runner": lambda: None,
        "flow": lambda: None,
        "flow_run": lambda: None,
    }

    if TYPE_CHECKING:
        flow: Flow[..., Any]
        flow_run: FlowRun | None
        task_runner: BaseTaskRunner | None
        client: EmbeddedClient
        parameters: dict[str, Any]
        result_factory: ResultFactory
        start_time: datetime
        log_prints: bool
        run: ActiveFlowRun | None

    @property
    def task_run_dynamic_keys(self) -> dict[str, int]:
        return {} if self.run is None else self.run.dynamic_keys

    @property
    def task_run_futures(self) -> list[TaskFuture[Any]]:
        return [] if self.run is None else self.run.futures()

    @property
    def flow_run_states(self) -> list[State]:
        return [] if self.run is None else list(self.run.subflow_states)

    @property
    def task_run_results(self) -> Mapping[int, Any]:
        return {} if self.run is None else self.run.lineage.links


class TaskRunContext(ContextModel):
    """The context of a task run's function.

    Fields: task (Task), task_run (TaskRun, fresh for each execution), client, parameters (the live values),
    result_factory, start_time (aware datetime), log_prints (bool).
    """

    __slots__ = ("_active", "_start")
    _variable = ContextVar("core_engine_task_run")
    _fields: ClassVar = {
        "task": (),
        "task_run": (),
        "client": (),
        "parameters": (dict,),
        "result_factory": (),
        "start_time": (datetime,),
        "log_prints": (bool,),
    }
    _defaults: ClassVar = {
        "parameters": dict,
        "start_time": lambda: datetime.now(UTC),
        "log_prints": lambda: False,
        "client": lambda: None,
        "result_factory": lambda: None,
    }

    if TYPE_CHECKING:
        task: Task[..., Any]
        task_run: TaskRun
        client: EmbeddedClient
        parameters: dict[str, Any]
        result_factory: ResultFactory
        start_time: datetime
        log_prints: bool

    @classmethod
    def of(
        cls,
        active: ActiveTaskRun,
        task: Task[..., Any],
        client: EmbeddedClient,
        parameters: dict[str, Any],
        result_factory: ResultFactory,
        log_prints: bool,
    ) -> TaskRunContext:
        """Makes the context of a run that is starting; richer fields are made when somebody asks."""
        context = cls.__new__(cls)
        put = object.__setattr__
        put(context, "_token", None)
        put(context, "_active", active)
        put(context, "_start", time.time())
        put(
            context,
            "_values",
            {
                "task": task,
                "client": client,
                "parameters": parameters,
                "result_factory": result_factory,
                "log_prints": log_prints,
            },
        )
        return context

    def __getattr__(self, name: str) -> Any:
        values = object.__getattribute__(self, "_values")
        if name in values:
            return values[name]
        if name == "task_run":
            value: Any = object.__getattribute__(self, "_active").snapshot()
        elif name == "start_time":
            value = datetime.fromtimestamp(object.__getattribute__(self, "_start"), UTC)
        else:
            raise AttributeError(f"TaskRunContext has no field {name!r}.")
        values[name] = value
        return value

    @property
    def active(self) -> ActiveTaskRun | None:
        """The engine's own record of the run; None in a context that was made by hand."""
        try:
            active: ActiveTaskRun = object.__getattribute__(self, "_active")
        except AttributeError:
            return None
        return active


class TagsContext(ContextModel):
    """The tags that runs created here get. Field: current_tags (a set of text)."""

    __slots__ = ()
    _variable = ContextVar("core_engine_tags")
    _fields: ClassVar = {"current_tags": (set, frozenset)}
    _defaults: ClassVar = {"current_tags": set}

    if TYPE_CHECKING:
        current_tags: set[str]

    @classmethod
    def get(cls) -> TagsContext:
        """Returns the innermost context; one without tags where there is none."""
        found: TagsContext | None = cls._variable.get(None)
        return found or cls()


@contextmanager
def tags(*new_tags: str) -> Generator[set[str]]:
    """Adds tags to every flow run and task run created inside; yields the full set."""
    current = TagsContext.get().current_tags
    everything = set(current) | check_tags(new_tags)
    with TagsContext(current_tags=everything):
        yield everything


class ObjectRegistry(ContextModel):
    """Records the flows and tasks that are made while it is active.

    Fields: capture_failures (construction errors are stored in ``failures`` instead of raised), block_code_execution
    (flow calls do nothing). Gathered: ``flows``, ``tasks``, ``failures``.
    """

    __slots__ = ("failures", "flows", "tasks")
    _variable = ContextVar("core_engine_registry")
    _fields: ClassVar = {"capture_failures": (bool,), "block_code_execution": (bool,)}
    _defaults: ClassVar = {"capture_failures": lambda: False, "block_code_execution": lambda: False}

    if TYPE_CHECKING:
        capture_failures: bool
        block_code_execution: bool

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        object.__setattr__(self, "flows", [])
        object.__setattr__(self, "tasks", [])
        object.__setattr__(self, "failures", [])

    flows: list[Flow[..., Any]]
    tasks: list[Task[..., Any]]
    failures: list[tuple[BaseException, Any]]


def get_run_context() -> TaskRunContext | FlowRunContext:
    """Returns the context of the task run that this code is part of, else that of the flow run.

    Raises:
        MissingContextError: The code is part of no run.
    """
    context = TaskRunContext.get() or FlowRunContext.get()
    if context is None:
        raise MissingContextError("There is no run here: this can be used only inside a flow or a task.")
    return context


def in_async_code() -> bool:
    """Returns whether the caller is async code: a loop runs in this thread, and the run here, if any, is async."""
    if asyncio._get_running_loop() is None:
        return False
    task_context = TaskRunContext.get()
    if task_context is not None:
        return bool(task_context.task.isasync)
    flow_context = FlowRunContext.get()
    return flow_context is None or bool(flow_context.flow.isasync)


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
