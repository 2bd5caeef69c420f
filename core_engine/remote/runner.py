"""The base of runners whose calls run in other processes: what is left to each is its cluster and the road to it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from core_engine.concurrency.waiting import Outcome, run_blocking
from core_engine.remote.calls import outcome_of, pickle_call
from core_engine.remote.preflight import Preflight
from core_engine.remote.roads import Road
from core_engine.remote.session import RemoteSession
from core_engine.schemas.states import State
from core_engine.settings import get_current_settings
from core_engine.states import exception_to_crashed_state
from core_engine.task_runners import BaseTaskRunner, CallBlock, TaskConcurrencyType

if TYPE_CHECKING:
    from core_engine.tasks import Task


class RemoteTaskRunner(BaseTaskRunner):
    """Runs calls on the workers of a cluster, to which ``_connect`` gives the road."""

    takes_blocks = True
    keeps_values = True

    def __init__(self) -> None:
        super().__init__()
        self._preflight = Preflight()
        self._forget()

    def _forget(self) -> None:
        self._session: RemoteSession | None = None
        self._road: Road | None = None
        self._outcomes: dict[Any, Outcome[State]] = {}

    @property
    def concurrency_type(self) -> TaskConcurrencyType:
        return TaskConcurrencyType.PARALLEL

    @abstractmethod
    async def _connect(self, exit_stack: AsyncExitStack) -> Road:
        """Starts or finds the cluster and returns the road to it; what must be torn down goes onto `exit_stack`."""

    def _lost_retries(self, annotations: Any) -> int:
        """How often a run with these annotations is executed again that was lost with its worker."""
        return 0

    def _annotations(self, resources: Mapping[str, float]) -> Any:
        """What is in force, where runs are handed over, that their blocks are to be given.

        Parameters:
            resources: What the runs' task takes of a worker.
        """
        return None

    def preflight(self, task: Task[..., Any], parameters: Mapping[str, Any]) -> None:
        self._preflight.check(task, parameters)

    async def submit(self, key: Any, call: Callable[[], Awaitable[State]]) -> None:
        self._check_started()
        assert self._road is not None
        outcome = self._outcomes[key] = Outcome()
        try:
            content = await run_blocking(pickle_call, call)
        except Exception as error:
            outcome.give(exception_to_crashed_state(error))
            return

        def done(content: bytes | None, error: BaseException | None) -> None:
            if error is not None:
                outcome.give(exception_to_crashed_state(error))
            else:
                outcome.run(outcome_of, content or b"")

        self._road.call(f"call-{uuid4().hex}", content, done)

    async def wait(self, key: Any, timeout: float | None = None) -> State | None:
        outcome = self._outcomes[key]
        if not await outcome.arrive(timeout):
            return None
        try:
            return outcome.peek()
        except Exception as error:  # the state that came back could not be unpickled
            return exception_to_crashed_state(error)

    async def submit_batch(self, block: CallBlock) -> None:
        self._check_started()
        assert self._session is not None
        self._session.add(block)

    async def _start(self, exit_stack: AsyncExitStack) -> None:
        exit_stack.callback(self._forget)
        self._road = road = await self._connect(exit_stack)
        self._session = session = RemoteSession(road, self._lost_retries, self._annotations)
        exit_stack.push_async_callback(self._tear_down)
        road.listen(session.receive)
        road.on_workers(session)

    async def _tear_down(self) -> None:
        assert self._session is not None
        for outcome in list(self._outcomes.values()):
            await outcome
        await run_blocking(self._session.stop, get_current_settings().results_fetch_limit_bytes)

    def __setstate__(self, options: dict[str, Any]) -> None:
        super().__setstate__(options)
        self._preflight = Preflight()
        self._forget()
