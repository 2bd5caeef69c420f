"""Graphs of every shape end, wherever a flow is called from: long, wide, deep, and mixed of sync and async."""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from core_engine import flow, task
from core_engine.task_runners import BaseTaskRunner
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner
from tests.behaviours.helpers import setting


@task
def add(x: int, y: int = 1) -> int:
    return x + y


@task
async def add_async(x: int, y: int = 1) -> int:
    return x + y


@task
def total(parts: Any) -> int:
    return sum(parts["all"]) + sum(parts["more"][0])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sequential", "concurrent", "one-worker"])
def runner(request: pytest.FixtureRequest) -> BaseTaskRunner:
    if request.param == "sequential":
        return SequentialTaskRunner()
    return ConcurrentTaskRunner(max_workers=None if request.param == "concurrent" else 1)


@pytest.mark.parametrize("link", [add, add_async], ids=["sync", "async"])
def test_a_chain_of_ten_thousand_links_comes_to_its_end(runner: BaseTaskRunner, link: Any) -> None:
    @flow(task_runner=runner)
    def chain() -> int:
        future = link.submit(0)
        for _ in range(9_999):
            future = link.submit(future)
        return future.result()

    with setting(LOGGING_LEVEL="WARNING"):
        assert chain() == 10_000


def test_diamonds_as_wide_as_two_thousand_runs_meet_again(runner: BaseTaskRunner) -> None:
    @flow(task_runner=runner)
    def diamonds() -> int:
        tip: Any = add.submit(0, 0)
        for _ in range(3):  # each makes 2 x + 1 of x
            sides = [(add_async if x % 2 else add).submit(tip, 0 if x else 1) for x in range(2_000)]
            tip = total.submit({"all": sides[:1], "more": [sides[1:2], sides]})
        return tip.result()

    with setting(LOGGING_LEVEL="WARNING"):
        assert diamonds() == 7


@pytest.mark.behaviour("FLOW-CALL-9", "FLOW-SUB-3")
def test_sync_and_async_flows_and_tasks_nest_in_any_order(runner: BaseTaskRunner) -> None:
    @flow(task_runner=runner)
    def sync_inner(x: int) -> int:
        return add(x) + add_async(add.submit(x))

    @flow(task_runner=runner)
    async def async_middle(x: int) -> int:
        below = sync_inner(x)
        return below + await add_async(below) + await (await add_async.submit(x)).result()

    @flow(task_runner=runner)
    def sync_outer(x: int) -> int:
        return async_middle(x) + sum(future.result() for future in add_async.map([async_middle(x), add.submit(x)]))

    @flow(task_runner=runner)
    async def async_outer(x: int) -> int:
        first, second = await asyncio.gather(async_middle(x), async_middle(x))
        return first + second + sync_outer(x)

    inner = 2 * 1 + 3
    middle = 2 * inner + 1 + 2
    outer = 2 * middle + 1 + 3
    assert sync_outer(1) == outer
    assert asyncio.run(async_outer(1)) == 2 * middle + outer


@flow
def sync_flow(x: int) -> int:
    return add.submit(add_async.submit(x)).result()


@flow
async def async_flow(x: int) -> int:
    return await (await add_async.submit(add.submit(x))).result()


@pytest.mark.behaviour("FLOW-CALL-1")
def test_a_flow_may_be_called_in_a_callback_of_a_running_loop() -> None:
    async def program() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        called: asyncio.Future[int] = loop.create_future()
        loop.call_soon(lambda: called.set_result(sync_flow(1)))
        awaited = loop.create_task(async_flow(2))
        return await called, await awaited

    assert asyncio.run(program()) == (3, 4)


@pytest.mark.behaviour("FLOW-CALL-1")
def test_a_flow_may_be_called_in_the_callback_of_a_thread_pool_and_of_a_timer() -> None:
    found: dict[str, int] = {}
    done = threading.Event()

    def of_a_pool(future: Future[int]) -> None:
        found["pool"] = sync_flow(future.result())

    def of_a_timer() -> None:
        found["timer"] = asyncio.run(async_flow(1))
        done.set()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(int, 5).add_done_callback(of_a_pool)
    timer = threading.Timer(0, of_a_timer)
    timer.start()
    timer.join()

    assert found == {"pool": 7, "timer": 3}


@pytest.mark.behaviour("FLOW-CALL-1")
@pytest.mark.anyio
async def test_in_a_notebook_flows_are_awaited_or_called_in_the_loop_that_runs() -> None:
    assert await async_flow(1) == 3
    assert sync_flow(1) == 3
    assert await asyncio.gather(*[async_flow(x) for x in range(5)]) == [2, 3, 4, 5, 6]
    assert await asyncio.to_thread(sync_flow, 4) == 6
