"""Workers whose clocks are ahead or behind: the flow's process goes by its own."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from core_engine import State, clock, flow, task
from core_engine.context import TaskRunContext
from tests.support.loopback import LoopbackCluster, LoopbackRunner

AN_HOUR = 3600.0


class OtherClock(clock.Clock):
    def __init__(self, ahead_seconds: float) -> None:
        self.ahead_seconds = ahead_seconds

    def now(self) -> float:
        return time.time() + self.ahead_seconds


def be_ahead() -> None:
    clock.current = OtherClock(AN_HOUR)


def be_behind() -> None:
    clock.current = OtherClock(-AN_HOUR)


class KnowingCluster(LoopbackCluster):
    """A cluster whose runner has learnt by how much the clocks of its workers differ."""

    def listen(self, receive: Callable[[bytes], None]) -> None:
        session: Any = receive.__self__  # type: ignore[attr-defined]
        for process in self.workers:
            session.know_worker(process.name, AN_HOUR if self.prepare is be_ahead else -AN_HOUR, False)
        super().listen(receive)


@pytest.fixture(params=[be_ahead, be_behind])
def runner(request: pytest.FixtureRequest) -> Iterator[LoopbackRunner]:
    cluster = KnowingCluster(1, prepare=request.param)
    yield LoopbackRunner.of(cluster)
    cluster.close()


@pytest.mark.behaviour("D6", "D13")
def test_a_retry_is_due_by_the_clock_of_the_flows_process(runner: LoopbackRunner) -> None:
    @task(retries=1, retry_delay_seconds=0.1)
    def second_time() -> int:
        count = TaskRunContext.get().task_run.run_count
        if count == 1:
            raise ValueError("once more")
        return count

    @flow(task_runner=runner)
    def outer() -> State:
        return second_time.submit(return_state=True)

    before = time.time()
    state = outer()
    assert state.result() == 2
    assert before <= state.timestamp.timestamp() <= time.time()


@pytest.mark.behaviour("D6", "CACHE-5")
def test_a_cached_value_expires_by_the_clock_of_the_flows_process(runner: LoopbackRunner) -> None:
    half = timedelta(seconds=AN_HOUR / 2)

    @task(cache_key_fn=lambda context, parameters: "half", cache_expiration=half, persist_result=True)
    def counts(number: int) -> int:
        return number

    @flow(task_runner=runner)
    def outer() -> list[State]:
        return [counts.submit(number, return_state=True) for number in (1, 2)]

    first, second = outer(return_state=True).result(raise_on_failure=False)

    assert second.name == "Cached"
    expires = first.state_details.cache_expiration
    assert abs(expires - first.timestamp - half) < timedelta(seconds=60)
