"""How long values stay in memory: as long as somebody can ask for them."""

import gc
import weakref

import pytest

from core_engine import flow, task
from core_engine.context import FlowRunContext
from core_engine.exceptions import MissingResult

RUNNERS = pytest.mark.parametrize("runner", ["sequential", "concurrent"])


class Large:
    """Stands for a value that takes memory, and can be referred to weakly."""


@pytest.fixture
def made() -> "weakref.WeakSet[Large]":
    return weakref.WeakSet()


def alive(made: "weakref.WeakSet[Large]") -> int:
    gc.collect()
    return len(made)


@RUNNERS
@pytest.mark.behaviour("D10")
def test_values_that_only_the_next_map_needs_go_when_it_has_used_them(made, runner):
    @task
    def make(number):
        value = Large()
        made.add(value)
        return value

    @task
    def use(value):
        assert isinstance(value, Large)
        return 1

    @flow(task_runner=runner)
    def pipeline():
        used = use.map(make.map(range(20)))
        assert sum(future.result() for future in used) == 20
        return alive(made)

    assert pipeline() == 0


@RUNNERS
def test_values_of_futures_that_somebody_holds_stay(made, runner):
    @task
    def make(number):
        value = Large()
        made.add(value)
        return value

    @flow(task_runner=runner)
    def holding():
        futures = make.map(range(5))
        for future in futures:
            future.wait()
        held = futures[2]
        state = futures[3].wait()
        del futures, future
        left = alive(made)
        assert isinstance(held.result(), Large)
        assert isinstance(state.result(), Large)
        return left

    assert holding() == 2


@RUNNERS
def test_a_value_that_was_let_go_is_missing_for_a_future_that_is_made_later(made, runner):
    @task
    def make(number):
        return Large() if number == 0 else FlowRunContext.get() and number

    @task
    def hold():
        return 1

    @flow(task_runner=runner)
    def late():
        first = make.map(range(2))
        first[1].wait()
        first[0].wait()
        del first[0]
        # Another future of the run that was let go, as the run's context gives them while its map is kept.
        again = first[0]._run_set.futures()
        assert again[1].result() == 1
        with pytest.raises(MissingResult, match="Large"):
            again[0].result()
        assert again[0].state.is_completed()
        return hold()

    assert late() == 1
