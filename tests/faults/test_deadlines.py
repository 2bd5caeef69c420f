"""Interrupts that fall just when what they interrupt ends (D20): none lands in the engine or in the next item.

One that did would crash a run, or a thread of the engine, which fails every test.
"""

import random
import threading
import time
from collections import Counter
from typing import Any

import pytest

from core_engine import flow, get_run_logger, task
from core_engine.backend import open_backend
from core_engine.backend.entries import TaskRunChanged
from core_engine.task_runners import ConcurrentTaskRunner
from tests.behaviours.helpers import PATIENCE, read_flow_runs, read_task_runs, setting

LIMIT_SECONDS = 0.004


def works(seconds: float) -> None:
    """Run Python code for some time, some of it the engine's, with a pause now and then."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        if left > 0.001:
            time.sleep(0.0005)
        get_run_logger().debug("not recorded")


def around(limit: float, chance: random.Random) -> float:
    return limit + chance.uniform(-0.2, 0.2) * limit


def expect_outcomes(names: Counter[str], expected: set[str], count: int) -> None:
    """Every run came to one of the expected ends, each of these happened, and the store says the same."""
    assert sum(names.values()) == count
    assert set(names) == expected
    assert open_backend().journal.failure is None


def run_items(count: int, seed: int) -> None:
    chance = random.Random(seed)
    seconds = [0.0 if index % 10 == 0 else around(LIMIT_SECONDS, chance) for index in range(count)]
    interrupted: list[int] = []

    @task(timeout_seconds=LIMIT_SECONDS)
    def item(index: int) -> int:
        try:
            works(seconds[index])
        except BaseException:
            interrupted.append(index)
            raise
        return index

    @flow(task_runner=ConcurrentTaskRunner(max_workers=8))
    def job() -> None:
        for index, future in enumerate(item.map(range(count))):
            state = future.wait()
            names[state.name] += 1
            assert state.name in ("Completed", "TimedOut"), state
            if state.is_completed():
                assert state.result() == index
                completed.append(index)

    names: Counter[str] = Counter()
    completed: list[int] = []
    job(return_state=True).result(raise_on_failure=False)
    expect_outcomes(names, {"Completed", "TimedOut"}, count)
    assert interrupted
    assert not set(interrupted) & set(completed)
    (run,) = read_flow_runs()
    assert Counter(one.state.name for one in read_task_runs(run.id)) == names


@pytest.mark.behaviour("D20", "TASK-TIME-1", "TASK-TIME-3")
def test_deadlines_at_the_ends_of_items_hit_nothing_else():
    with setting(LOGGING_LEVEL="CRITICAL"):
        run_items(5_000, seed=1)


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.behaviour("D20", "TASK-TIME-1", "TASK-TIME-3")
def test_deadlines_at_the_ends_of_a_hundred_thousand_items_hit_nothing_else():
    with setting(LOGGING_LEVEL="CRITICAL"):
        run_items(100_000, seed=2)


@pytest.mark.behaviour("D20", "I1")
def test_a_cancellation_while_the_end_is_being_recorded_leaves_the_end_as_it_is(monkeypatch: pytest.MonkeyPatch):
    journal = open_backend().journal
    append, is_recorded, may_record = journal.append, threading.Event(), threading.Event()

    def slow_append(entry: Any) -> int:
        if isinstance(entry, TaskRunChanged) and entry.state.is_completed():
            is_recorded.set()
            assert may_record.wait(PATIENCE)
        return append(entry)

    @task
    def item() -> int:
        return 1

    @flow
    def job() -> int:
        future = item.submit()
        assert is_recorded.wait(PATIENCE)
        canceller = threading.Thread(target=future.cancel)
        canceller.start()
        canceller.join(0.05)
        may_record.set()
        canceller.join()
        assert future.wait(PATIENCE) is not None
        return future.result()

    monkeypatch.setattr(journal, "append", slow_append)
    assert job() == 1


@pytest.mark.behaviour("D20")
def test_cancellations_at_the_ends_of_items_hit_nothing_else():
    count, chance = 300, random.Random(3)

    @task
    def item(index: int) -> int:
        works(seconds[index])
        return index

    @flow(task_runner=ConcurrentTaskRunner(max_workers=4))
    def job() -> None:
        for index in range(count):
            future = item.submit(index)
            time.sleep(LIMIT_SECONDS)
            future.cancel()
            state = future.wait()
            names[state.name] += 1
            assert state.name in ("Completed", "Cancelled"), state
            assert state.name == "Cancelled" or state.result() == index

    seconds = [around(LIMIT_SECONDS, chance) for _ in range(count)]
    names: Counter[str] = Counter()
    with setting(LOGGING_LEVEL="CRITICAL"):
        job(return_state=True).result(raise_on_failure=False)
    expect_outcomes(names, {"Completed", "Cancelled"}, count)


@pytest.mark.behaviour("D20", "FLOW-TIME-1", "FLOW-TIME-2")
@pytest.mark.parametrize("place", ["main thread", "other thread"])
def test_deadlines_at_the_ends_of_flows_hit_nothing_else(place: str):
    count, chance = 200, random.Random(4)
    limit = 3 * LIMIT_SECONDS

    @task
    def item(index: int) -> int:
        return index

    @flow(timeout_seconds=limit)
    def job(index: int) -> int:
        works(around(limit / 2, chance))
        assert item(index) == index
        works(around(limit / 2, chance) * 0.95)
        return index

    @flow
    def after(index: int) -> int:
        return item.submit(index).result()

    def all_of_them() -> None:
        for index in range(count):
            state = job(index, return_state=True)
            names[state.name] += 1
            assert state.name in ("Completed", "TimedOut"), state
            assert after(index) == index

    names: Counter[str] = Counter()
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            all_of_them()
        except BaseException as error:
            failures.append(error)

    with setting(LOGGING_LEVEL="CRITICAL"):
        if place == "main thread":
            guarded()
        else:
            thread = threading.Thread(target=guarded)
            thread.start()
            thread.join()
    assert failures == []
    expect_outcomes(names, {"Completed", "TimedOut"}, count)
