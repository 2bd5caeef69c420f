"""Task runs on a runner with only the basic members, which does not keep to what it promised."""

from collections.abc import Awaitable, Callable
from typing import Any

from core_engine import State, flow, task
from core_engine.task_runners import BaseTaskRunner
from tests.runners.test_conformance import FourMembersTaskRunner


class ForgetfulTaskRunner(FourMembersTaskRunner):
    """Loses the states of its calls."""

    async def wait(self, key: Any, timeout: float | None = None) -> State | None:
        await super().wait(key, timeout)
        return None


class LazyTaskRunner(FourMembersTaskRunner):
    """Never runs a call."""

    async def submit(self, key: Any, call: Callable[[], Awaitable[State]]) -> None:
        """Takes the call."""

    async def wait(self, key: Any, timeout: float | None = None) -> State | None:
        return None


def state_of_a_run_on(task_runner: BaseTaskRunner) -> State:
    @task
    def one() -> int:
        return 1

    @flow(task_runner=task_runner)
    def parent() -> list[State | None]:
        return [one.submit().wait(timeout=20)]

    return parent(return_state=True).result(raise_on_failure=False)[0]


def test_a_run_that_no_runner_executed_is_crashed() -> None:
    state = state_of_a_run_on(LazyTaskRunner())
    assert state.is_crashed()
    assert "LazyTaskRunner.wait returned None" in str(state.message)


def test_a_run_that_ended_keeps_its_state_when_its_runner_forgets_it() -> None:
    assert state_of_a_run_on(ForgetfulTaskRunner()).is_completed()
