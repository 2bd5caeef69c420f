"""How ended calls are noticed, short and long ones, and what is said when Ray cannot be asked for them."""

import threading
import time
from typing import Any

import pytest

from core_engine import flow, task
from core_engine.tasks import MapOptions
from runners.ray import RayTaskRunner
from runners.ray.waiting import MOST_TOGETHER, Waiter
from tests.support.promptness import soon
from tests.support.waiting import wait_for


class Ending:
    """A call that ends with what a reference stands for."""

    def __init__(self, reference: Any) -> None:
        self.ending = reference


@pytest.fixture
def taken(ray_address: str, request: pytest.FixtureRequest) -> Any:
    """A waiter, and what it has taken: the value or error of each call, with the thread that took it."""
    import logging

    found: list[Any] = []

    def take(call: Any, fetch: Any) -> None:
        try:
            found.append(fetch())
        except Exception as error:
            found.append(error)

    waiter = Waiter(logging.getLogger("tests"), take, waits_together=getattr(request, "param", True), slots=lambda: 1)
    waiter.start()
    yield waiter, found
    waiter.stop(10)
    assert not [one for one in threading.enumerate() if one is waiter._thread]


@pytest.mark.parametrize("taken", [True, False], indirect=True)
def test_every_call_is_taken_once_with_its_value_or_error(taken: Any) -> None:
    import ray

    waiter, found = taken

    @ray.remote(max_retries=0)
    def one(x: int) -> int:
        if x % 10 == 9:
            raise ValueError(str(x))
        return x

    for x in range(100):
        waiter.wait_for(Ending(one.remote(x)))
    wait_for(lambda: len(found) == 100)

    assert sorted(x for x in found if isinstance(x, int)) == [x for x in range(100) if x % 10 != 9]
    assert sorted(int(str(x.cause)) for x in found if isinstance(x, Exception)) == list(range(9, 100, 10))


def test_long_calls_keep_no_short_ones_waiting(taken: Any) -> None:
    import ray

    waiter, found = taken

    @ray.remote(num_cpus=0)
    class Gate:
        def __init__(self) -> None:
            import asyncio

            self.opened = asyncio.Event()

        async def wait(self) -> str:
            await self.opened.wait()
            return "long"

        async def open(self) -> None:
            self.opened.set()

    gate = Gate.remote()
    # One less than are waited for together, so that there is always room for one short call.
    for _ in range(MOST_TOGETHER - 1):
        waiter.wait_for(Ending(gate.wait.remote()))
    started = time.monotonic()
    for x in range(200):
        waiter.wait_for(Ending(ray.put(x)))
    wait_for(lambda: len(found) == 200)
    taken_seconds = time.monotonic() - started
    gate.open.remote()
    wait_for(lambda: len(found) == 200 + MOST_TOGETHER - 1)

    assert sorted(found[:200]) == list(range(200))
    assert taken_seconds < soon()


def test_calls_behind_a_long_one_are_not_taken_for_long_themselves(taken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    waiter, found = taken
    by_callback: list[Any] = []
    call_back = waiter._call_back
    monkeypatch.setattr(waiter, "_call_back", lambda call: (by_callback.append(call), call_back(call)))

    @ray.remote(num_cpus=0)
    class OneByOne:
        def nap(self, seconds: float) -> None:
            time.sleep(seconds)

    worker = OneByOne.remote()
    ray.get(worker.nap.remote(0))
    for seconds in (0.2, *[0.002] * 200):
        waiter.wait_for(Ending(worker.nap.remote(seconds)))
    wait_for(lambda: len(found) == 201)

    # One for each time that was waited in vain.
    assert 0 < len(by_callback) < 100


def test_results_of_short_tasks_come_while_long_ones_go_on(ray_address: str) -> None:
    @task(map_options=MapOptions(batch_size=1))
    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> tuple[float, bool]:
        nap.submit(0).result()
        long = nap.submit(3)
        started = time.monotonic()
        for _ in range(20):
            nap.submit(0).result()
        return time.monotonic() - started, long.get_state().is_completed()

    seconds, is_over = outer()

    # Three seconds are what the long one takes; on a busy machine it may be over by then all the same.
    assert seconds < soon(2)
    assert not is_over or seconds > 3


def test_calls_are_taken_with_the_error_when_ray_cannot_be_asked(taken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    waiter, found = taken

    def broken(*args: Any, **options: Any) -> Any:
        raise OSError("Ray does not answer")

    reference = ray.put(1)
    monkeypatch.setattr(ray, "wait", broken)
    monkeypatch.setattr(ray, "get", broken)
    waiter.wait_for(Ending(reference))
    wait_for(lambda: len(found) == 1)

    assert str(found[0]) == "Ray does not answer"
