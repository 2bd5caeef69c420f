"""Calls that are about to end are not cancelled: Ray would end the process of the flow."""

import time
from typing import Any

import pytest

from core_engine import flow
from core_engine.context import FlowRunContext
from core_engine.remote.calls import pickle_call
from core_engine.states import Completed, State
from runners.ray import RayTaskRunner
from runners.ray.pace import QUICK_SECONDS, Pace
from tests.support.waiting import wait_for


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("slots", [1, 2, 50, 500])
def test_calls_are_quick_while_each_slot_ends_them_in_less_than_the_limit(clock: list[float], slots: int) -> None:
    pace = Pace()
    for _ in range(slots + 1):
        assert not pace.is_quick(slots)
        clock[0] += QUICK_SECONDS / (slots + 2)
        pace.ended()

    assert pace.is_quick(slots)
    clock[0] += QUICK_SECONDS
    assert not pace.is_quick(slots)


def test_slow_calls_on_many_slots_are_not_quick_though_one_ends_every_moment(clock: list[float]) -> None:
    pace = Pace()
    for _ in range(1_000):
        clock[0] += 1.0 / 100
        pace.ended()

    assert not pace.is_quick(100)


@pytest.mark.behaviour("D8", "D20")
def test_the_process_outlives_calls_that_are_revoked_when_they_are_about_to_end(ray_address: str) -> None:
    async def nothing() -> State:
        return Completed()

    ended: list[Any] = []

    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> int:
        runner: Any = FlowRunContext.get().task_runner
        content = pickle_call(nothing)
        for number in range(100):
            ended.clear()
            names = [f"nothing-{number}-{call}" for call in range(12)]
            for name in names:
                runner._road.call(name, content, lambda content, error: ended.append(error))
            # All of the first, so that the pace is known.
            wait_for(lambda least=number % 8 if number else 12: len(ended) >= least)
            for name in names:
                runner._road.revoke(name)
            wait_for(lambda: len(ended) == 12)
        return number + 1

    assert outer() == 100
