"""Flows and tasks called from several threads, and from deep below: D16 and D17, and async flows of every shape."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from core_engine import flow, task
from core_engine.task_runners import BaseTaskRunner
from tests.behaviours.helpers import ask, read_flow_runs, read_task_runs, until_set, wait_until_set


class CustomError(Exception):
    pass


@task
def double(x: Any) -> Any:
    return 2 * x


@task
async def async_double(x: Any) -> Any:
    return 2 * x


def thread_with_context(function: Callable[..., Any], *args: Any) -> threading.Thread:
    """Returns a thread, not started, that knows the run in which it was made."""
    return threading.Thread(target=contextvars.copy_context().run, args=(function, *args))


@pytest.mark.behaviour("D17")
def test_three_threads_submit_while_the_flows_thread_joins_them(runner: BaseTaskRunner):
    found: dict[int, Any] = {}

    def work(i: int) -> None:
        found[i] = double.submit(i).result(), double(i), async_double.submit(i).result()

    @flow(task_runner=runner)
    def parent():
        threads = [thread_with_context(work, i) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return 1

    parent()

    assert found == {i: (2 * i, 2 * i, 2 * i) for i in range(3)}


@pytest.mark.behaviour("D17", "FLOW-CALL-9")
def test_a_sync_flow_calls_itself_fifty_levels_deep():
    @flow
    def deep(n: int) -> int:
        return double(n) if n == 0 else deep(n - 1) + 1

    assert deep(50) == 50


@pytest.mark.behaviour("D17", "FLOW-CALL-9")
@pytest.mark.anyio
async def test_sync_and_async_flows_call_each_other_fifty_levels_deep():
    @flow
    def deep_sync(n: int) -> int:
        return double(n) if n == 0 else deep_async(n - 1) + 1

    @flow
    async def deep_async(n: int) -> int:
        return double(n) if n == 0 else deep_sync(n - 1) + 1

    assert await deep_async(50) == 50


@pytest.mark.behaviour("D16", "FLOW-SUB-3")
@pytest.mark.anyio
async def test_two_hundred_sync_subflows_at_once_with_a_task_each():
    limiter = anyio.CapacityLimiter(200)
    everybody = threading.Barrier(200)

    @flow
    def child(i: int) -> int:
        everybody.wait(30)
        return double.submit(i).result()

    @flow
    async def parent():
        found = {}

        async def call(i: int) -> None:
            found[i] = await anyio.to_thread.run_sync(child, i, limiter=limiter)

        async with anyio.create_task_group() as group:
            for i in range(200):
                group.start_soon(call, i)
        return found

    assert await parent() == {i: 2 * i for i in range(200)}
    assert len(read_flow_runs(flow_name="child", limit=300)) == 200


@pytest.mark.behaviour("D16", "FLOW-CALL-9")
def test_more_waiting_subflows_than_task_threads_do_not_stop_tasks():
    release = threading.Event()

    @task
    def opens():
        release.set()

    @flow
    def child():
        wait_until_set(release)
        return 1

    @flow
    def parent():
        threads = [thread_with_context(child) for _ in range(140)]
        for thread in threads:
            thread.start()
        opens.submit().wait()
        for thread in threads:
            thread.join(20)
        return 1

    assert parent() == 1


@pytest.mark.behaviour("D16")
def test_a_hundred_and_twenty_eight_sync_tasks_execute_at_once_and_no_more():
    release, begun = threading.Event(), threading.Semaphore(0)

    @task
    def waits(x: int) -> int:
        begun.release()
        wait_until_set(release)
        return x

    @flow
    def parent():
        futures = waits.map(range(150))
        for _ in range(128):
            assert begun.acquire(timeout=20)
        last = ask(lambda client: client.why(futures[-1].task_run_id))
        no_more = not begun.acquire(blocking=False)
        release.set()
        return last.details, no_more, sum(future.result() for future in futures)

    details, no_more, total = parent()

    assert details == {"runner": "concurrent", "ahead": 21, "executing": 128, "most": 128}
    assert no_more
    assert total == sum(range(150))


@pytest.mark.behaviour("TASK-RETRY-1", "TASK-CALL-7", "FLOW-RETRY-4")
@pytest.mark.anyio
async def test_an_async_flow_retries_its_async_tasks_and_itself(runner: BaseTaskRunner):
    calls = []

    @task(retries=1)
    async def fails_first(x):
        calls.append(x)
        if calls.count(x) == 1:
            raise CustomError("once more")
        return x

    executions = []

    @flow(task_runner=runner, retries=1)
    async def parent():
        executions.append(1)
        found = [await fails_first("called"), await (await fails_first.submit("submitted")).result()]
        found += [await future.result() for future in await fails_first.map(["mapped"])]
        if len(executions) == 1:
            raise CustomError("the flow too")
        return found

    assert await parent() == ["called", "submitted", "mapped"]
    assert len(executions) == 2
    assert sorted(calls) == sorted(["called", "submitted", "mapped"] * 2)


@pytest.mark.behaviour("UP-2", "TASK-TIME-1", "TASK-TIME-2", "TASK-CALL-7")
@pytest.mark.anyio
async def test_async_tasks_of_an_async_flow_time_out_and_stop_their_dependants(runner: BaseTaskRunner):
    @task(timeout_seconds=0.1)
    async def slow():
        await anyio.sleep(10)

    @flow(task_runner=runner)
    async def parent():
        late = await slow.submit()
        after = await async_double.submit(late)
        return [(await late.wait()).name, (await after.wait()).name, await async_double(5)]

    assert await parent() == ["TimedOut", "NotReady", 10]


@pytest.mark.behaviour("TASK-MAP-11", "TASK-MAP-14")
@pytest.mark.anyio
async def test_mapped_async_tasks_of_an_async_flow_meet():
    events = [threading.Event() for _ in range(3)]

    @task
    async def meet(i):
        events[i].set()
        await until_set(*events)
        return i

    @flow
    async def parent():
        doubled = await async_double.map(await meet.map(range(3)))
        return [await future.result() for future in doubled]

    assert await parent() == [0, 2, 4]


@pytest.mark.behaviour("FLOW-RET-16", "FLOW-RET-3")
@pytest.mark.anyio
async def test_an_async_flow_that_returns_nothing_is_judged_by_its_tasks():
    @task
    async def fails():
        raise CustomError("no")

    @flow
    async def parent():
        await fails.submit()
        await async_double.submit(1)

    state = await parent(return_state=True)

    assert state.is_failed()
    assert "1/2" in state.message
    assert {run.state_name for run in read_task_runs(state)} == {"Failed", "Completed"}


@pytest.mark.behaviour("FLOW-CALL-1", "D16")
@pytest.mark.anyio
async def test_flows_called_in_many_threads_of_one_program_are_independent():
    @flow
    def own(i: int) -> int:
        return double.submit(i).result()

    found = await asyncio.gather(*[asyncio.to_thread(own, i) for i in range(10)])

    assert found == [2 * i for i in range(10)]
    assert len(read_flow_runs(limit=50)) == 10
