"""Where calls run: the contract of task runners, and how one is found by name.

A runner with only the four basic members (``duplicate``, ``start``, ``submit``, ``wait``) works. One that says so by
its capabilities gets calls in blocks, or may keep values on its workers.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from enum import Enum
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Self

from core_engine.concurrency.call_threads import CallThreads
from core_engine.concurrency.loops import LoopThread
from core_engine.concurrency.threads import run_in_thread
from core_engine.concurrency.waiting import Outcome, drives_loop, run_blocking, step
from core_engine.engine.task_loops import AsyncCalls
from core_engine.exceptions import TaskRunnerNotInstalled, UnknownTaskRunner
from core_engine.option_checks import check_count
from core_engine.schemas.states import State
from core_engine.states import exception_to_crashed_state

if TYPE_CHECKING:
    from core_engine.engine.calls import CallBlock, TaskCall
    from core_engine.tasks import Task

__all__ = [
    "AsyncCalls",
    "BaseTaskRunner",
    "CallBlock",
    "CallThreads",
    "LoopThread",
    "Outcome",
    "TaskCall",
    "TaskConcurrencyType",
    "check_count",
    "drives_loop",
    "exception_to_crashed_state",
    "get_task_runner",
    "run_blocking",
    "run_in_thread",
    "step",
]

ENTRY_POINT_GROUP = "core_engine.task_runners"


class TaskConcurrencyType(Enum):
    """What a runner does with submitted calls: one after another, overlapping in one process, or in many processes."""

    SEQUENTIAL = "SEQUENTIAL"
    CONCURRENT = "CONCURRENT"
    PARALLEL = "PARALLEL"


class BaseTaskRunner(ABC):
    """Where calls run.

    Capabilities, asked by the engine instead of types:
        shares_memory: Calls run in the flow's process.
        takes_blocks: ``submit_batch`` takes a block of calls at once. It may be called in any thread.
        keeps_values: Values may stay on the workers.
    """

    shares_memory: ClassVar[bool] = False
    takes_blocks: ClassVar[bool] = False
    keeps_values: ClassVar[bool] = False

    def __init__(self) -> None:
        self.logger = logging.getLogger(f"core_engine.task_runner.{self.name}")
        self._started = False

    @property
    @abstractmethod
    def concurrency_type(self) -> TaskConcurrencyType:
        """What the runner does with submitted calls."""

    @property
    def name(self) -> str:
        """The class's name in lower case, without "taskrunner"."""
        return type(self).__name__.lower().replace("taskrunner", "")

    def duplicate(self) -> Self:
        """Returns a new, unstarted runner with the same options; NotImplemented where a runner cannot."""
        cannot: Self = NotImplemented
        return cannot

    @abstractmethod
    async def submit(self, key: Any, call: Callable[[], Awaitable[State]]) -> None:
        """Schedules ``call()`` under a unique key and returns at once (a sequential runner: when it has ended).

        Raises:
            RuntimeError: The runner was not started.
        """

    @abstractmethod
    async def wait(self, key: Any, timeout: float | None = None) -> State | None:
        """Waits for the call of `key`.

        Parameters:
            key: What ``submit`` was given.
            timeout: Seconds; None waits without a limit.

        Returns:
            The state that the call returned, a Crashed state where it raised instead, or None at the timeout.
        """

    async def submit_batch(self, block: CallBlock) -> None:
        """Takes a block of calls; only asked of a runner whose ``takes_blocks`` is true."""
        raise NotImplementedError(f"{type(self).__name__} says that it takes blocks of calls, but has no submit_batch.")

    def most_at_once(self, asynchronous: bool) -> int | None:
        """Returns how many calls of one flow run the started runner executes at once, of async tasks or of sync ones.

        None means that they are not counted apart, or that nobody here knows. ``core-engine why`` asks.
        """
        return None

    def preflight(self, task: Task[..., Any], parameters: Mapping[str, Any]) -> None:  # noqa: B027 - few have to check
        """Checks what is about to be called, before anything of it is recorded. Not asked if the runner shares memory.

        Parameters:
            task: The task.
            parameters: Those of the call, or of the first run of a map; futures and states are still in them.

        Raises:
            Exception: It cannot be executed; this is raised where the user calls.
        """

    @asynccontextmanager
    async def start(self) -> AsyncIterator[Self]:
        """Sets the runner up, and whatever happens inside, tears it down again.

        Raises:
            RuntimeError: The runner is started already.
        """
        if self._started:
            raise RuntimeError(f"This {type(self).__name__} is started already. Start a duplicate() of it.")
        async with AsyncExitStack() as stack:
            self._started = True
            stack.callback(setattr, self, "_started", False)
            self.logger.debug("Starting task runner")
            await self._start(stack)
            yield self
            self.logger.debug("Stopping task runner")

    async def _start(self, exit_stack: AsyncExitStack) -> None:  # noqa: B027 - not every runner needs something
        """Sets up what the runner needs; what must be torn down is pushed onto `exit_stack`."""

    def _check_started(self) -> None:
        if not self._started:
            raise RuntimeError(
                f"This {type(self).__name__} takes no work before it is started (`async with runner.start()`)."
            )

    def _options(self) -> dict[str, Any]:
        """The options by which runners are compared, shown and pickled: public attributes."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "logger"}

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self._options() == other._options()

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._options().items() if value is not None)
        return f"{type(self).__name__}({options})"

    def __getstate__(self) -> dict[str, Any]:
        """A started runner that is pickled arrives as an unstarted description of itself."""
        return self._options()

    def __setstate__(self, options: dict[str, Any]) -> None:
        BaseTaskRunner.__init__(self)
        vars(self).update(options)


def get_task_runner(name: str) -> type[BaseTaskRunner]:
    """Returns the runner class that is registered under `name` in the entry points ``core_engine.task_runners``.

    Raises:
        UnknownTaskRunner: No runner has this name.
        TaskRunnerNotInstalled: The runner is known, but what it needs is not installed.
    """
    found = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in found:
        raise UnknownTaskRunner(f"There is no task runner named {name!r}. Registered: {', '.join(sorted(found))}.")
    return _load(found[name])


def _load(entry: EntryPoint) -> type[BaseTaskRunner]:
    from core_engine.engine.runner_import import explain_import_error

    try:
        runner: type[BaseTaskRunner] = entry.load()
    except ImportError as error:
        raise TaskRunnerNotInstalled(explain_import_error(entry.name, entry.module, error)) from error
    return runner


def __getattr__(name: str) -> Any:
    if name in ("CallBlock", "TaskCall"):
        from core_engine.engine import calls

        return getattr(calls, name)
    if name in ("ConcurrentTaskRunner", "SequentialTaskRunner"):
        return get_task_runner(name.removesuffix("TaskRunner").lower())
    from core_engine.vocabulary import absent

    raise absent(__name__, name)
