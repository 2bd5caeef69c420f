"""What a task runner is handed: calls, one by one or in blocks that its workers take from."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from core_engine import clock
from core_engine.concurrency.interrupts import Interrupt
from core_engine.concurrency.threads import service_threads
from core_engine.concurrency.waiting import step
from core_engine.engine.cancellation import LeftBehind
from core_engine.engine.run_sets import RunSet
from core_engine.engine.signals import is_this_thread_signalled
from core_engine.engine.task_runs import begin_task_run
from core_engine.exceptions import Abort
from core_engine.orchestration.state_names import NOT_READY
from core_engine.schemas.states import PAUSED, SCHEDULED, State

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveTaskRun
    from core_engine.engine.holds import Hold


class TaskCall:
    """One task run to execute: ``begin_task_run`` with its arguments.

    ``run`` executes it in this thread, ``arun`` as part of a task of the running loop; both hand the run's state to
    the engine. Called, it gives an awaitable of the state that executes the run in a thread or on the loop for async
    tasks, whichever loop awaits it: that is all a runner with only the basic members needs.
    """

    __slots__ = ("index", "is_left_behind", "run_record", "run_set", "worker")

    def __init__(self, run_set: RunSet, index: int) -> None:
        self.run_set = run_set
        self.index = index
        self.run_record: ActiveTaskRun | None = None
        self.worker: str | None = None
        # Whether the run was ended from outside: it is overdue, or the loop that this call is on was given up (D19).
        self.is_left_behind = False

    @property
    def name(self) -> str:
        """The name of the task run."""
        group, index = self.run_set.summary.origin(self.index)
        return group.run_name(index)

    async def __call__(self) -> State:
        run_set = self.run_set
        context = run_set.context.copy()
        if run_set.task.isasync:
            assert run_set.flow_run.session is not None
            outcome = run_set.flow_run.session.async_calls().submit(self.begin, context)
        else:
            outcome = service_threads.submit(lambda: context.run(step, self.begin()))
        return await outcome.arrive_result()

    def begin(self) -> Coroutine[Any, Any, State]:
        """Returns the coroutine that executes the run."""
        run_set = self.run_set
        run = self.run_record = run_set.activate(self.index)
        # Before the outcome is looked at, which takes the handles away.
        parameters = run_set.parameters(self.index)
        outcome = run_set.states[self.index]
        if outcome is not None:
            # It was cancelled, or its map closed, since the call was taken or while it waited to be tried again.
            run_set.active.pop(self.index, None)
            return _ended(outcome)
        run.worker = self.worker
        return begin_task_run(
            task=run_set.task,
            task_run=run,
            parameters=parameters,
            wait_for=run_set.wait_for,
            result_factory=run_set.result_factory,
            log_prints=run_set.log_prints,
            settings=run_set.settings,
        )

    def _begin_unless_left(self) -> Coroutine[Any, Any, State]:
        if self.is_left_behind:
            raise Abort("Its loop was given up before it began.")
        return self.begin()

    def run(self, worker: str) -> float | None:
        """Executes the run in this thread.

        Parameters:
            worker: Name of the worker, kept with the run.

        Returns:
            None when the worker is done with it; a time (seconds since the epoch) when the runner, being a sequential
            one, is to run it again.
        """
        self.worker = worker
        try:
            state = self.run_set.context.copy().run(step, self.begin())
        except BaseException as exception:  # the run's own crash was recorded on the way; this is its outcome
            state = self._crashed(exception)
            if not isinstance(exception, (Exception, Interrupt)) and is_this_thread_signalled():
                self.report(state)
                raise  # it is meant for the flow, whose function called this
        return self.report(state)

    async def arun(self, worker: str) -> float | None:
        """Executes the run as part of this task of the running loop; otherwise as ``run``.

        Raises:
            CancelledError: The run was ended from outside meanwhile; whoever did that goes on with it.
        """
        self.worker = worker
        try:
            state = await self._begin_unless_left()
        except BaseException as exception:
            if self.is_left_behind or isinstance(exception, LeftBehind):
                raise asyncio.CancelledError from None
            state = self._crashed(exception)
        if self.is_left_behind:
            raise asyncio.CancelledError
        return self.report(state)

    async def wait_until(self, due: float) -> None:
        """Waits until the run is due again (seconds since the epoch), and not held, or its flow run is being ended."""
        from core_engine.engine.holds import until_due

        await until_due(self.run_set.flow_run, due)

    def block_until(self, due: float) -> None:
        """``wait_until`` for a thread."""
        while (hold := self.run_set.flow_run.hold) is not None and self.run_set.flow_run.stopping is None:
            hold.released.wait()
        clock.current.block_until(due, self.run_set.flow_run.woken)

    def report(self, state: State) -> float | None:
        """Hands the run's state to the engine. Returns as ``run``."""
        if state._type is SCHEDULED and self.run_record is not None:
            if self.run_set.flow_run.stopping is not None:
                from core_engine.engine.crashes import end_unstarted

                end_unstarted(self.run_set, self.index)
                return None
            if self.run_set.closed is not None:
                from core_engine.engine.failure_policy import end_closed

                end_closed(self.run_set, self.index)
                return None
            scheduled = state.state_details.scheduled_time
            due = clock.now() if scheduled is None else scheduled.timestamp()
            if self.run_set.waits_in_place:
                return due
            from core_engine.engine.dispatch import dispatch_again

            dispatch_again(self.run_set, self.index, due)
            return None
        if state._type is PAUSED and state._name == NOT_READY:
            return self._refused(state)
        self.run_set.settle(self.index, state)
        return None

    def again(self) -> TaskCall:
        """Returns a new call of the same run, for one that is left behind before it began."""
        return TaskCall(self.run_set, self.index)

    def as_block(self) -> CallBlock:
        """Returns a block of this call alone."""
        return CallBlock(self.run_set, (self.index,), 1)

    def _refused(self, state: State) -> float | None:
        """The run was to start while its flow run was paused: it waits if that is held, and is left as it is if not."""
        from core_engine.engine.crashes import end_unstarted
        from core_engine.engine.dispatch import hold_back
        from core_engine.engine.holds import may_try_again

        if self.run_set.flow_run.stopping is not None:
            end_unstarted(self.run_set, self.index)
        elif not may_try_again(self.run_set.flow_run):
            self.run_set.settle(self.index, state)
        elif self.run_set.waits_in_place:
            return clock.now()
        else:
            hold_back(self.run_set, self.index)
        return None

    def _crashed(self, exception: BaseException) -> State:
        from core_engine.engine.crashes import crashed_task_state

        return crashed_task_state(self.run_set, self.index, self.run_record, exception)


def leave_behind(call: TaskCall, holder: ActiveTaskRun) -> float | None:
    """Ends the run of a call that had begun on a loop which is given up because of `holder`, or that is overdue: then
    it is the `holder` itself. Returns as ``run``."""
    from core_engine.engine.held_loops import end_bystander, end_holder

    run, run_set = call.run_record, call.run_set
    assert run is not None
    context = run_set.context.copy()
    try:
        if run is holder:
            state = context.run(end_holder, run, run_set.task, run_set.result_factory)
        else:
            state = context.run(end_bystander, run, holder)
    except Exception as error:  # a store that fails, or a timeout that cannot be stored: the run ends all the same
        state = call._crashed(error)
    return call.report(state)


async def _ended(outcome: State) -> State:
    return outcome


class CallBlock:
    """Calls of one run set that may be taken by any number of threads.

    Attributes:
        run_set: Whose calls.
        asynchronous: Whether the task's function is a coroutine function, to be run on an event loop.
        in_caller: Whether calls may run in the thread that submits the block, which waits for them (a sync flow).
        goes_first: Whether its calls run before those that wait: a retry that is due, or what a worker gave back.
    """

    __slots__ = ("_held_by", "_indices", "asynchronous", "goes_first", "in_caller", "run_set", "size")

    def __init__(
        self, run_set: RunSet, indices: Iterable[int], size: int, in_caller: bool = False, goes_first: bool = False
    ) -> None:
        self.run_set = run_set
        self.size = size
        self.asynchronous = run_set.task.isasync
        self.in_caller = in_caller
        self.goes_first = goes_first
        self._held_by: Hold | None = None
        # The next() of a range's iterator is one bytecode of C: no two threads get the same index.
        self._indices: Iterator[int] = iter(indices)

    def take(self) -> TaskCall | None:
        """Returns the next call that nobody has taken, None when there is none left, or the flow run is held. Any
        thread."""
        run_set = self.run_set
        hold = run_set.flow_run.hold
        if hold is not None and not run_set.waits_in_place and run_set.flow_run.stopping is None:
            self._come_again(hold)
            return None
        for index in self._indices:
            if run_set.states[index] is None:
                is_ending = run_set.flow_run.stopping is not None or run_set.closed is not None
                if is_ending and run_set.ends_instead(index):
                    continue
                run_set.waiting.discard(index)
                return TaskCall(run_set, index)
        return None

    def line_up(self, blocks: deque[CallBlock]) -> None:
        """Takes its place among blocks whose calls are taken from the left."""
        if self.goes_first:
            blocks.appendleft(self)
        else:
            blocks.append(self)

    def rest(self) -> Iterator[int]:
        """Returns the indices of the calls that nobody has taken."""
        return self._indices

    def _come_again(self, hold: Hold) -> None:
        """Has the rest of the block handed to the runner again when the flow run goes on."""
        from core_engine.engine.dispatch import submit_again

        if self._held_by is hold:
            return
        # Of two threads that come here at once both may pass; a block that is handed over twice is taken from once.
        self._held_by = hold
        hold.when_released(lambda: submit_again(self))
