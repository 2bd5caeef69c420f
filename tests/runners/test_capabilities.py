"""What the engine knows of a runner is three class attributes; one with the four basic members alone works (D35)."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from importlib.metadata import entry_points
from typing import Any, Self

import pytest

from core_engine import State, flow, task
from core_engine.task_runners import (
    ENTRY_POINT_GROUP,
    BaseTaskRunner,
    TaskConcurrencyType,
    get_task_runner,
    run_in_thread,
)

EXPECTED = {
    "sequential": (True, True, False),
    "concurrent": (True, True, False),
    "dask": (False, True, True),
    "ray": (False, True, True),
}


@pytest.mark.behaviour("D35")
def test_each_runner_says_what_it_can_do() -> None:
    names = {entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)}
    found = {}
    for name in names & EXPECTED.keys():
        runner = get_task_runner(name)
        found[name] = (runner.shares_memory, runner.takes_blocks, runner.keeps_values)

    assert found == {name: EXPECTED[name] for name in found}
    assert {"sequential", "concurrent", "dask"} <= found.keys()


class Basic(BaseTaskRunner):
    """Four members: a thread and a loop for each call."""

    @property
    def concurrency_type(self) -> TaskConcurrencyType:
        return TaskConcurrencyType.CONCURRENT

    def duplicate(self) -> Self:
        return type(self)()

    async def submit(self, key: Any, call: Callable[[], Awaitable[State]]) -> None:
        self._check_started()

        async def main() -> State:
            return await call()

        def run() -> None:
            self.states[key] = asyncio.run(main())

        self.threads[key] = threading.Thread(target=run)
        self.threads[key].start()

    async def wait(self, key: Any, timeout: float | None = None) -> State | None:
        await run_in_thread(self.threads[key].join, timeout)
        return self.states.get(key)

    def __init__(self) -> None:
        super().__init__()
        self.threads: dict[Any, threading.Thread] = {}
        self.states: dict[Any, State] = {}

    def _options(self) -> dict[str, Any]:
        return {}


@pytest.mark.behaviour("D35")
def test_a_runner_with_the_basic_members_alone_runs_flows() -> None:
    @task(retries=1)
    def halve(x: int) -> float:
        return 1 / x

    @task
    async def total(values: list[float]) -> float:
        return sum(values)

    @flow(task_runner=Basic())
    def outer() -> Any:
        halves = halve.map([1, 2, 4])
        return total.submit(halves), halve.submit(0)

    good, bad = outer(return_state=True).result(raise_on_failure=False)

    assert good.result() == 1.75
    assert bad.is_failed()
