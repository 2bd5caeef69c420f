"""TASK-RETRY: retries of tasks."""

import asyncio
import threading
import time
from typing import Any

import pytest

from core_engine import exponential_backoff, flow, get_client, task
from core_engine.concurrency.waiting import step
from core_engine.context import get_run_context
from core_engine.task_runners import BaseTaskRunner
from core_engine.testing import leaping_clock
from runners.concurrent import ConcurrentTaskRunner
from tests.behaviours.conftest import LogRecords
from tests.behaviours.helpers import (
    read_states,
    read_task_run,
    read_task_runs,
    task_history,
    task_run_id,
    wait_until_set,
)


class CustomError(Exception):
    pass


def always_fails(calls: list[Any]) -> Any:
    def attempt():
        calls.append(time.monotonic())
        raise CustomError(f"call {len(calls)}")

    return attempt


@pytest.mark.behaviour("TASK-RETRY-1")
@pytest.mark.parametrize("way", ["call", "submit", "map"])
def test_a_task_stops_at_its_first_success(runner: BaseTaskRunner, way: str):
    calls = []

    @task(retries=5)
    def retried(x):
        calls.append(x)
        if len(calls) <= 2:
            raise CustomError("once more")
        return "done"

    @flow(task_runner=runner)
    def parent():
        if way == "call":
            return retried(1)
        return retried.submit(1).result() if way == "submit" else retried.map([1])[0].result()

    assert parent() == "done"
    assert calls == [1, 1, 1]


@pytest.mark.behaviour("TASK-RETRY-1")
def test_a_task_that_always_fails_is_executed_once_more_than_its_retries():
    calls: list[Any] = []
    retried = task(retries=3)(always_fails(calls))

    @flow
    def parent():
        return retried()

    with pytest.raises(CustomError, match="call 4"):
        parent()
    assert len(calls) == 4


@pytest.mark.behaviour("TASK-RETRY-1")
def test_an_async_task_is_retried():
    calls = []

    @task(retries=1)
    async def retried():
        calls.append(1)
        if len(calls) == 1:
            raise CustomError("once more")
        return "done"

    @flow
    def parent():
        return retried()

    assert parent() == "done"


@pytest.mark.behaviour("TASK-RETRY-2")
@pytest.mark.parametrize(("failures", "last"), [(2, "Completed"), (99, "Failed")])
def test_the_history_names_every_attempt(runner: BaseTaskRunner, failures: int, last: str):
    calls = []

    @task(retries=2)
    def retried():
        calls.append(1)
        if len(calls) <= failures:
            raise CustomError("once more")

    @flow(task_runner=runner)
    def parent():
        return retried.submit(return_state=True)

    state = parent(return_state=True).result(raise_on_failure=False)

    assert task_history(state) == ["Pending", "Running", *["AwaitingRetry", "Retrying"] * 2, last]


@pytest.mark.behaviour("TASK-RETRY-3", "TASK-RETRY-9")
def test_the_context_is_fresh_for_each_execution():
    seen = []

    @task(retries=2)
    def retried(x):
        context = get_run_context()
        run = context.task_run
        seen.append((run.run_count, run.state_name, context.start_time, run.id, context.parameters, x))
        if len(seen) <= 2:
            raise CustomError("once more")

    @flow
    def parent():
        return retried({"a": 1}, return_state=True)

    state = parent(return_state=True).result()
    counts, names, starts, run_ids, parameters, arguments = zip(*seen, strict=True)

    assert counts == (1, 2, 3)
    assert names == ("Running", "Retrying", "Retrying")
    assert starts[0] < starts[1] < starts[2]
    assert set(run_ids) == {task_run_id(state)}
    assert all(one == {"x": {"a": 1}} for one in parameters)
    assert all(one == {"a": 1} for one in arguments)
    assert read_task_run(state).run_count == 3


def waits_of(retried: Any) -> list[float]:
    """Returns the seconds before each retry of a task that is called once, as asked for and as recorded."""

    @flow
    def parent():
        retried(return_state=True)
        return 1

    with leaping_clock() as clock:
        (run,) = read_task_runs(parent(return_state=True))
    states = [state for state in read_states(run.id) if state.name == "AwaitingRetry"]
    recorded = [(state.state_details.scheduled_time - state.timestamp).total_seconds() for state in states]
    assert clock.waits == pytest.approx(recorded, abs=1)
    return clock.waits


@pytest.mark.behaviour("TASK-RETRY-4")
def test_a_number_is_the_wait_before_each_retry():
    retried = task(retries=2, retry_delay_seconds=60)(always_fails([]))

    assert waits_of(retried) == pytest.approx([60, 60], abs=1)


@pytest.mark.behaviour("TASK-RETRY-4")
def test_the_wait_for_a_retry_is_real():
    calls: list[float] = []
    retried = task(retries=1, retry_delay_seconds=0.2)(always_fails(calls))

    @flow
    def parent():
        retried(return_state=True)
        return 1

    parent()

    assert calls[1] - calls[0] >= 0.2


@pytest.mark.behaviour("TASK-RETRY-5", "ORCH-8")
def test_a_list_gives_each_retry_its_wait_and_the_last_one_repeats():
    retried = task(retries=4, retry_delay_seconds=[30, 90, 60])(always_fails([]))

    assert waits_of(retried) == pytest.approx([30, 90, 60, 60], abs=1)


@pytest.mark.behaviour("TASK-RETRY-6")
def test_a_callable_is_called_with_the_number_of_retries_at_definition():
    asked = []

    def delays(retries):
        asked.append(retries)
        return [30, 10]

    retried = task(retries=2, retry_delay_seconds=delays)(always_fails([]))
    assert asked == [2]

    assert waits_of(retried) == pytest.approx([30, 10], abs=1)


@pytest.mark.behaviour("TASK-RETRY-7")
def test_exponential_backoff_doubles_its_delays():
    assert list(exponential_backoff(10)(3)) == [10, 20, 40]
    assert list(exponential_backoff(0.5)(1)) == [0.5]
    assert len(exponential_backoff(1)(100)) == 50


@pytest.mark.behaviour("TASK-RETRY-7")
def test_exponential_backoff_is_a_delay_of_a_task():
    retried = task(retries=3, retry_delay_seconds=exponential_backoff(10))(always_fails([]))

    waits = waits_of(retried)

    assert waits == pytest.approx([10, 20, 40], abs=1)
    assert sum(waits) == pytest.approx(70, abs=2)


@pytest.mark.behaviour("TASK-RETRY-8")
@pytest.mark.parametrize("delay", [100, [100], exponential_backoff(100)], ids=["number", "list", "callable"])
def test_jitter_varies_the_waits_within_its_bound(delay: Any):
    retried = task(retries=1, retry_delay_seconds=delay, retry_jitter_factor=0.5)(always_fails([]))

    @flow
    def parent():
        for _ in range(30):
            retried(return_state=True)
        return 1

    with leaping_clock() as clock:
        parent()

    assert len(clock.waits) == 30
    assert max(clock.waits) <= 150 + 1
    assert max(clock.waits) - min(clock.waits) > 1
    assert 75 < sum(clock.waits) / 30 < 150


@pytest.mark.behaviour("TASK-RETRY-9")
def test_a_timeout_is_retried():
    calls = []

    @task(retries=1, timeout_seconds=0.1)
    async def slow_first():
        import anyio

        calls.append(1)
        if len(calls) == 1:
            await anyio.sleep(10)
        return "done"

    @flow
    def parent():
        return slow_first.submit(return_state=True)

    state = parent(return_state=True).result()

    assert state.result() == "done"
    assert task_history(state) == ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]


@pytest.mark.behaviour("TASK-RETRY-10")
def test_the_state_between_attempts_keeps_the_message_of_the_failure():
    calls: list[Any] = []
    retried = task(retries=1)(always_fails(calls))

    @flow
    def parent():
        retried(return_state=True)
        return 1

    (run,) = read_task_runs(parent(return_state=True))
    (waiting,) = [state for state in read_states(run.id) if state.name == "AwaitingRetry"]

    assert "CustomError: call 1" in waiting.message


@pytest.mark.behaviour("TASK-RETRY-11", "D13")
def test_the_wait_for_a_retry_does_not_block_other_tasks():
    others_done, failed = threading.Event(), threading.Event()

    @task(retries=1, retry_delay_seconds=0.3)
    def retried():
        if not failed.is_set():
            failed.set()
            raise CustomError("once more")
        assert others_done.is_set()
        return "done"

    @task
    def other():
        others_done.set()

    @flow
    def parent():
        future = retried.submit()
        wait_until_set(failed)
        other.submit().wait()
        return future.result()

    assert parent() == "done"


ITEMS = 300


def check_that_the_retry_went_first(executed: list[int]) -> None:
    """Item 0 was executed again as soon as it was due, though most others waited for longer."""
    assert sorted(executed) == [0, *range(ITEMS)]
    assert executed[0] == 0
    assert executed.index(0, 1) < ITEMS / 2


@pytest.mark.behaviour("TASK-RETRY-4")
@pytest.mark.parametrize("limited", [False, True])
def test_a_retry_that_is_due_goes_before_runs_that_have_not_begun(limited: bool):
    executed = []

    @task(retries=1, tags=["one-at-a-time"] if limited else [])
    def item(x):
        executed.append(x)
        time.sleep(0.001)
        if executed == [0]:
            raise CustomError("once more")

    @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    def parent():
        item.map(range(ITEMS))

    if limited:
        step(get_client().create_concurrency_limit("one-at-a-time", 1))
    parent()
    check_that_the_retry_went_first(executed)


@pytest.mark.behaviour("TASK-RETRY-4")
@pytest.mark.anyio
async def test_an_async_retry_that_is_due_goes_before_runs_that_have_not_begun(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("runners.concurrent.ASYNC_WINDOW", 1)
    executed = []

    @task(retries=1)
    async def item(x):
        executed.append(x)
        await asyncio.sleep(0.001)
        if executed == [0]:
            raise CustomError("once more")

    @flow
    async def parent():
        await item.map(range(ITEMS))

    await parent()
    check_that_the_retry_went_first(executed)


def test_the_line_of_a_retry_says_its_delay_without_the_rounding_of_clocks(log: LogRecords):
    @task(retries=1, retry_delay_seconds=0.1)
    def fails():
        raise CustomError("no")

    with leaping_clock():
        flow(lambda: fails.submit().wait())(return_state=True)

    assert "Will be tried again in 0.1 seconds (retry 1 of 1)" in log.messages()
