"""What every task runner must do, as a test class for pytest. A runner proves itself by a subclass:

    from core_engine.testing.conformance import TaskRunnerConformance

    class TestMyTaskRunner(TaskRunnerConformance):
        @pytest.fixture
        def task_runner(self):
            return MyTaskRunner()

The fixture gives an unstarted runner. Calls may run in other processes, but on this host: tests meet in files below
``tmp_path``. Each test names the behaviours that it holds in its attribute ``behaviours``.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import cloudpickle
import pytest

from core_engine import State, allow_failure, flow, get_client, quote, task
from core_engine.states import Completed, Failed
from core_engine.task_runners import BaseTaskRunner, TaskConcurrencyType

__all__ = ["TaskRunnerConformance"]

# Seconds that a test waits for what must happen; only a failing test waits that long.
PATIENCE = 20.0
# Seconds that a time limit under test leaves; a worker may have to be reached first.
LIMIT = 0.5

Test = TypeVar("Test", bound=Callable[..., Any])


def holds(*behaviours: str) -> Callable[[Test], Test]:
    """Names the numbered behaviours that a test holds."""

    def name_them(test: Test) -> Test:
        test.behaviours = behaviours  # type: ignore[attr-defined]
        return test

    return name_them


class MeetingPoint:
    """A folder by which calls in any process of this host learn who has been there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def arrive(self, name: str) -> None:
        (self.folder / name).touch()

    def has_seen(self, name: str) -> bool:
        return (self.folder / name).exists()

    def meet(self, mine: str, other: str) -> str:
        """Blocks until `other` has arrived too. Raises TimeoutError when it does not."""
        self.arrive(mine)
        deadline = time.monotonic() + PATIENCE
        while not self.has_seen(other):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{mine} did not meet {other}")
            time.sleep(0.005)
        return mine

    async def meet_async(self, mine: str, other: str) -> str:
        """Lets other coroutines run until `other` has arrived too. Raises TimeoutError when it does not."""
        self.arrive(mine)
        with anyio.fail_after(PATIENCE):
            while not self.has_seen(other):  # noqa: ASYNC110 a file of another process has no event
                await anyio.sleep(0.005)
        return mine

    def note(self, line: str) -> None:
        with (self.folder / "notes").open("a", encoding="utf-8") as notes:
            notes.write(line + "\n")

    def notes(self) -> list[str]:
        notes = self.folder / "notes"
        return notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []


def block_in_python() -> None:
    """Blocks in code that an injected exception interrupts at once."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(0.005)


def call_returning(value: Any) -> Callable[[], Awaitable[State]]:
    """Returns a call as the engine makes them: awaited, it returns a state."""

    async def call() -> State:
        return Completed(data=value)

    return call


def call_raising(exception: BaseException) -> Callable[[], Awaitable[State]]:
    """Returns a call that does what calls of the engine never do: it raises."""

    async def call() -> State:
        raise exception

    return call


@pytest.mark.filterwarnings("ignore:.*is defined already:UserWarning")
class TaskRunnerConformance:
    """Every behaviour that the engine relies upon and that users of any runner see."""

    @pytest.fixture
    def task_runner(self) -> BaseTaskRunner:
        """Returns an unstarted runner; each subclass has its own."""
        raise NotImplementedError("Give the subclass a fixture `task_runner` that returns an unstarted runner.")

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def meeting_point(self, tmp_path: Path) -> MeetingPoint:
        return MeetingPoint(tmp_path)

    # The protocol

    @holds("RUN-1")
    def test_a_runner_has_the_members_of_the_protocol(self, task_runner: BaseTaskRunner) -> None:
        assert isinstance(task_runner, BaseTaskRunner)
        assert isinstance(task_runner.concurrency_type, TaskConcurrencyType)
        assert isinstance(task_runner.name, str)
        assert task_runner.name
        assert task_runner.logger.name.startswith("core_engine")
        for capability in ("shares_memory", "takes_blocks", "keeps_values"):
            assert isinstance(getattr(task_runner, capability), bool)

    @holds("RUN-2")
    def test_a_duplicate_is_equal_and_another_object(self, task_runner: BaseTaskRunner) -> None:
        duplicate = task_runner.duplicate()

        assert duplicate is not task_runner
        assert type(duplicate) is type(task_runner)
        assert duplicate == task_runner

    @holds("RUN-2")
    def test_runners_of_another_type_or_with_other_options_are_not_equal(self, task_runner: BaseTaskRunner) -> None:
        class Other(type(task_runner)):  # type: ignore[misc]
            pass

        changed = task_runner.duplicate()
        changed.an_option = "of its own"  # type: ignore[attr-defined]

        assert task_runner != object()
        assert task_runner != changed
        other = Other.__new__(Other)
        other.__dict__.update(vars(task_runner))
        assert task_runner != other

    @holds("RUN-2")
    @pytest.mark.anyio
    async def test_a_duplicate_of_a_started_runner_is_not_started(self, task_runner: BaseTaskRunner) -> None:
        async with task_runner.start():
            duplicate = task_runner.duplicate()
            assert duplicate == task_runner
            with pytest.raises(RuntimeError):
                await duplicate.submit("key", call_returning(1))

    @holds("RUN-3")
    @pytest.mark.anyio
    async def test_a_started_runner_cannot_be_started_again(self, task_runner: BaseTaskRunner) -> None:
        async with task_runner.start():
            with pytest.raises(RuntimeError):
                async with task_runner.start():
                    pass  # pragma: no cover

    @holds("RUN-3")
    @pytest.mark.anyio
    async def test_a_runner_takes_no_work_before_its_start_and_after_its_end(self, task_runner: BaseTaskRunner) -> None:
        with pytest.raises(RuntimeError):
            await task_runner.submit("before", call_returning(1))
        async with task_runner.start():
            pass
        with pytest.raises(RuntimeError):
            await task_runner.submit("after", call_returning(1))

    @holds("RUN-8")
    @pytest.mark.anyio
    async def test_wait_returns_the_state_that_the_call_returned(self, task_runner: BaseTaskRunner) -> None:
        async with task_runner.start():
            await task_runner.submit("one", call_returning("first"))
            await task_runner.submit("two", call_returning("second"))
            two, one = await task_runner.wait("two", PATIENCE), await task_runner.wait("one", PATIENCE)

            assert one is not None
            assert two is not None
            assert await one.result(fetch=True) == "first"
            assert await two.result(fetch=True) == "second"

    @holds("RUN-8")
    @pytest.mark.anyio
    async def test_wait_past_its_timeout_returns_none(
        self, task_runner: BaseTaskRunner, meeting_point: MeetingPoint
    ) -> None:
        if task_runner.concurrency_type is TaskConcurrencyType.SEQUENTIAL:
            pytest.skip("A sequential runner has ended the call when submit returns")

        async def call() -> State:
            await meeting_point.meet_async("call", "waiter")
            return Completed(data=1)

        async with task_runner.start():
            await task_runner.submit("key", call)
            assert await task_runner.wait("key", 0.1) is None
            meeting_point.arrive("waiter")
            state = await task_runner.wait("key", PATIENCE)
            assert state is not None
            assert state.is_completed()

    @holds("RUN-8")
    @pytest.mark.anyio
    async def test_a_sequential_runner_has_the_state_when_submit_returns(self, task_runner: BaseTaskRunner) -> None:
        if task_runner.concurrency_type is not TaskConcurrencyType.SEQUENTIAL:
            pytest.skip("Only a sequential runner ends the call in submit")
        async with task_runner.start():
            await task_runner.submit("key", call_returning(1))
            assert await task_runner.wait("key", 0) is not None

    @holds("RUN-9")
    @pytest.mark.anyio
    async def test_a_call_that_raises_gives_a_crashed_state(self, task_runner: BaseTaskRunner) -> None:
        async with task_runner.start():
            await task_runner.submit("key", call_raising(ValueError("not a state")))
            state = await task_runner.wait("key", PATIENCE)

        assert state is not None
        assert state.is_crashed()
        with pytest.raises(ValueError, match="not a state"):
            await state.result(fetch=True)

    @holds("RUN-9")
    @pytest.mark.anyio
    async def test_an_interrupted_call_in_another_process_gives_a_crashed_state(
        self, task_runner: BaseTaskRunner
    ) -> None:
        if task_runner.concurrency_type is not TaskConcurrencyType.PARALLEL:
            pytest.skip("An interrupt in the flow's process is that process's own")
        async with task_runner.start():
            await task_runner.submit("key", call_raising(KeyboardInterrupt()))
            state = await task_runner.wait("key", PATIENCE)

        assert state is not None
        assert state.is_crashed()

    @holds("RUN-11")
    @pytest.mark.anyio
    async def test_a_started_runner_travels_as_an_unstarted_description(self, task_runner: BaseTaskRunner) -> None:
        async with task_runner.start():
            arrived = pickle.loads(cloudpickle.dumps(task_runner))
            assert type(arrived) is type(task_runner)
            assert arrived == task_runner
            with pytest.raises(RuntimeError):
                await arrived.submit("key", call_returning(1))

    @holds("RUN-13")
    @pytest.mark.anyio
    async def test_nothing_goes_on_after_the_runner_has_ended(
        self, task_runner: BaseTaskRunner, meeting_point: MeetingPoint
    ) -> None:
        async def call() -> State:
            meeting_point.arrive("call")
            for _ in range(20):
                meeting_point.note("still going")
                await anyio.sleep(0.01)
            return Completed(data=1)

        async with task_runner.start():
            await task_runner.submit("key", call)
            await meeting_point.meet_async("waiter", "call")
        at_the_end = meeting_point.notes()
        await anyio.sleep(0.1)

        assert meeting_point.notes() == at_the_end

    @holds("RUN-13")
    @pytest.mark.anyio
    async def test_an_exception_inside_its_start_ends_the_runner(self, task_runner: BaseTaskRunner) -> None:
        with pytest.raises(ZeroDivisionError):
            async with task_runner.start():
                raise ZeroDivisionError
        with pytest.raises(RuntimeError):
            await task_runner.submit("key", call_returning(1))

    # Flows

    @holds("RUN-4")
    def test_values_pass_between_tasks_by_call_and_by_future(self, task_runner: BaseTaskRunner) -> None:
        @task
        def start() -> int:
            return 1

        @task
        def add(x: Any, y: Any) -> int:
            return int(x + y)

        @flow(task_runner=task_runner)
        def calculation() -> tuple[int, int, list[int]]:
            a = start()
            b = start.submit()
            c = add.submit(a, b)
            return a, add.submit(c, b).result(), [future.result() for future in add.map([a, b, c], 10)]

        assert calculation() == (1, 3, [11, 11, 12])

    @holds("RUN-4", "TASK-CALL-7")
    @pytest.mark.anyio
    async def test_values_pass_between_async_tasks(self, task_runner: BaseTaskRunner) -> None:
        @task
        async def start() -> int:
            return 1

        @task
        async def add(x: Any, y: Any) -> int:
            return int(x + y)

        @flow(task_runner=task_runner)
        async def calculation() -> tuple[int, int]:
            a = await start()
            b = await start.submit()
            c = await add.submit(a, b)
            # The future of an async task in an async flow is awaited; types cannot say so.
            last: Any = await add.submit(c, b)
            return a, await last.result()

        assert await calculation() == (1, 3)

    @holds("RUN-5", "UP-2", "UP-3")
    def test_failures_stop_their_dependants_and_fail_the_flow(self, task_runner: BaseTaskRunner) -> None:
        @task
        def a() -> None:
            raise RuntimeError("this task fails")

        @task
        def b() -> None:
            raise ValueError("this task fails too")

        @task
        def depends(x: Any) -> None:
            raise AssertionError("a task ran whose upstream had failed")

        @flow(task_runner=task_runner)
        def fails() -> list[Any]:
            first, second = a.submit(), b.submit()
            third = depends.submit(second)
            return [first, second, third, depends.submit(third)]

        state = fails(return_state=True)
        a_state, b_state, c_state, d_state = state.result(raise_on_failure=False)

        assert state.is_failed()
        with pytest.raises(RuntimeError, match="this task fails"):
            a_state.result()
        with pytest.raises(ValueError, match="this task fails too"):
            b_state.result()
        for dependant, upstream in ((c_state, b_state), (d_state, c_state)):
            assert dependant.is_pending()
            assert dependant.name == "NotReady"
            assert str(upstream.state_details.task_run_id) in dependant.message

    @holds("RUN-6")
    def test_submitted_sync_tasks_overlap_unless_sequential(
        self, task_runner: BaseTaskRunner, meeting_point: MeetingPoint
    ) -> None:
        sequential = task_runner.concurrency_type is TaskConcurrencyType.SEQUENTIAL

        @task
        def work(mine: str, other: str) -> str:
            meeting_point.note(f"{mine} starts")
            if not sequential:
                meeting_point.meet(mine, other)
            meeting_point.note(f"{mine} ends")
            return mine

        @flow(task_runner=task_runner)
        def pair() -> list[str]:
            return [future.result() for future in (work.submit("a", "b"), work.submit("b", "a"))]

        assert pair() == ["a", "b"]
        self.check_order(meeting_point.notes(), sequential)

    @holds("RUN-6")
    def test_submitted_async_tasks_overlap_unless_sequential(
        self, task_runner: BaseTaskRunner, meeting_point: MeetingPoint
    ) -> None:
        sequential = task_runner.concurrency_type is TaskConcurrencyType.SEQUENTIAL

        @task
        async def work(mine: str, other: str) -> str:
            meeting_point.note(f"{mine} starts")
            if not sequential:
                await meeting_point.meet_async(mine, other)
            meeting_point.note(f"{mine} ends")
            return mine

        @flow(task_runner=task_runner)
        def pair() -> list[str]:
            # In a sync flow the future of an async task is a plain one; types cannot say so.
            futures: Any = [work.submit("a", "b"), work.submit("b", "a")]
            return [future.result() for future in futures]

        assert pair() == ["a", "b"]
        self.check_order(meeting_point.notes(), sequential)

    @staticmethod
    def check_order(notes: list[str], sequential: bool) -> None:
        in_order = ["a starts", "a ends", "b starts", "b ends"]
        assert sorted(notes) == sorted(in_order)
        if sequential:
            assert notes == in_order
        else:
            assert {notes[0], notes[1]} == {"a starts", "b starts"}

    @holds("RUN-7")
    @pytest.mark.anyio
    async def test_async_tasks_called_from_a_task_group_overlap(
        self, task_runner: BaseTaskRunner, meeting_point: MeetingPoint
    ) -> None:
        @task
        async def meet(mine: str, other: str) -> str:
            return await meeting_point.meet_async(mine, other)

        @flow(task_runner=task_runner)
        async def pair() -> list[str]:
            return list(await asyncio.gather(meet("a", "b"), meet("b", "a")))

        assert await pair() == ["a", "b"]

    @holds("RUN-7")
    @pytest.mark.anyio
    async def test_async_subflows_called_from_a_task_group_overlap(
        self, task_runner: BaseTaskRunner, meeting_point: MeetingPoint
    ) -> None:
        @flow(task_runner=task_runner)
        async def meet(mine: str, other: str) -> str:
            return await meeting_point.meet_async(mine, other)

        @flow(task_runner=task_runner)
        async def pair() -> list[str]:
            return list(await asyncio.gather(meet("a", "b"), meet("b", "a")))

        assert await pair() == ["a", "b"]

    @holds("RUN-7")
    def test_subflows_called_in_order_run_in_order(
        self, task_runner: BaseTaskRunner, meeting_point: MeetingPoint
    ) -> None:
        @task
        def note(line: str) -> None:
            meeting_point.note(line)

        @flow(task_runner=task_runner)
        def child(name: str) -> int:
            note.submit(f"{name} starts").wait()
            note.submit(f"{name} ends")
            return 1

        @flow(task_runner=task_runner)
        def parent() -> int:
            return child("a") + child("b")

        assert parent() == 2
        assert meeting_point.notes() == ["a starts", "a ends", "b starts", "b ends"]

    @holds("RUN-10", "TASK-TIME-1", "TASK-TIME-2")
    @pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
    def test_a_task_over_its_limit_is_timed_out(self, task_runner: BaseTaskRunner, is_async: bool) -> None:
        @task(timeout_seconds=LIMIT)
        def slow() -> None:
            block_in_python()

        @task(timeout_seconds=LIMIT)
        async def slow_async() -> None:
            await anyio.sleep(PATIENCE)

        @task
        def give(x: Any) -> Any:
            return x

        @flow(task_runner=task_runner)
        def late() -> list[Any]:
            future = slow_async.submit() if is_async else slow.submit()
            return [future, give.submit(future), give.submit(1)]

        started = time.monotonic()
        state = late(return_state=True)
        states = state.result(raise_on_failure=False)

        assert [one.name for one in states] == ["TimedOut", "NotReady", "Completed"]
        assert states[0].is_failed()
        assert state.is_failed()
        assert time.monotonic() - started < PATIENCE
        with pytest.raises(TimeoutError):
            states[0].result()

    @holds("RUN-12", "ANN-2")
    def test_an_allowed_failure_lets_later_tasks_run(self, task_runner: BaseTaskRunner) -> None:
        @task
        def fails() -> None:
            raise ValueError("no")

        @task
        def kind(x: Any) -> str:
            return type(x).__name__

        @flow(task_runner=task_runner)
        def goes_on() -> tuple[str, str]:
            after = kind.submit("text", wait_for=[allow_failure(fails.submit())])
            exception = kind.submit(allow_failure(fails.submit()))
            return kind.submit([after]).result(), exception.result()

        assert goes_on() == ("list", "ValueError")

    @holds("RUN-12")
    def test_a_quoted_state_is_a_result_like_any_other(self, task_runner: BaseTaskRunner) -> None:
        @task
        def gives() -> Any:
            return quote(Failed(message="only data"))

        @flow(task_runner=task_runner)
        def quoted() -> Any:
            state = gives.submit(return_state=True)
            assert state.is_completed()
            return state.result()

        result = quoted()

        assert isinstance(result, quote)
        assert result.unquote().is_failed()

    @holds("RUN-4", "TASK-MAP-1")
    def test_a_map_keeps_its_order_and_every_child_its_state(self, task_runner: BaseTaskRunner) -> None:
        @task
        def halve(x: int) -> float:
            if x % 10 == 7:
                raise ValueError(f"not {x}")
            return x / 2

        @flow(task_runner=task_runner)
        def mapped() -> list[Any]:
            return halve.map(range(100), return_state=True)

        states = mapped(return_state=True).result(raise_on_failure=False)

        assert [state.name for state in states] == ["Failed" if x % 10 == 7 else "Completed" for x in range(100)]
        assert [state.result() for state in states[:5]] == [0, 0.5, 1, 1.5, 2]

    @holds("RUN-4", "TASK-RETRY-1", "TASK-RETRY-2")
    def test_a_failing_task_is_retried(self, task_runner: BaseTaskRunner, meeting_point: MeetingPoint) -> None:
        @task(retries=2)
        def fails_twice() -> str:
            meeting_point.note("tried")
            if len(meeting_point.notes()) < 3:
                raise ValueError("once more")
            return "done"

        @flow(task_runner=task_runner)
        def retried() -> list[Any]:
            return [fails_twice.submit()]

        (state,) = retried(return_state=True).result()

        assert state.result() == "done"
        assert self.history(state) == ["Pending", "Running", *["AwaitingRetry", "Retrying"] * 2, "Completed"]

    @staticmethod
    def history(state: State) -> list[str]:
        async def read() -> list[str]:
            run_id = state.state_details.task_run_id
            assert run_id is not None
            async with get_client() as client:
                return [one.name for one in await client.read_states(run_id)]

        return anyio.run(read)
