"""FUT: futures of task runs."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest

from core_engine import State, TaskFuture, flow, quote, task
from core_engine.exceptions import FailedRun
from core_engine.futures import resolve_futures_to_data
from core_engine.states import Failed
from core_engine.task_runners import BaseTaskRunner
from tests.behaviours.helpers import wait_until_set


class CustomError(Exception):
    pass


@task
def give(x: Any = 1) -> Any:
    return x


@task
def fail() -> None:
    raise CustomError("no")


@pytest.mark.behaviour("FUT-1")
def test_wait_returns_the_final_state_again_and_again(runner: BaseTaskRunner):
    @flow(task_runner=runner)
    def parent():
        future, bad = give.submit("x"), fail.submit()
        first, second = future.wait(), future.wait(10)
        assert isinstance(first, State)
        return first.result(), second.result(), bad.wait().is_failed()

    assert parent() == ("x", "x", True)


@pytest.mark.behaviour("FUT-1")
def test_wait_returns_none_after_its_timeout_and_can_be_called_again():
    release = threading.Event()

    @task
    def slow():
        wait_until_set(release)
        return "done"

    @flow
    def parent():
        future = slow.submit()
        first, second = future.wait(0), future.wait(timeout=0.05)
        release.set()
        return first, second, future.wait().result()

    assert parent() == (None, None, "done")


@pytest.mark.behaviour("FUT-2")
def test_result_returns_the_data():
    @flow
    def parent():
        return give.submit("x").result(), give.submit(None).result(timeout=10)

    assert parent() == ("x", None)


@pytest.mark.behaviour("FUT-2")
def test_result_raises_timeout_error_after_its_timeout():
    release = threading.Event()

    @task
    def slow():
        wait_until_set(release)
        return "done"

    @flow
    def parent():
        future = slow.submit()
        with pytest.raises(TimeoutError):
            future.result(timeout=0.05)
        release.set()
        return future.result()

    assert parent() == "done"


@pytest.mark.behaviour("FUT-2")
def test_result_of_a_failed_task_raises_or_returns_its_exception():
    @flow
    def parent():
        future = fail.submit()
        with pytest.raises(CustomError, match="no"):
            future.result()
        return future.result(raise_on_failure=False)

    assert isinstance(parent(), CustomError)


@pytest.mark.behaviour("FUT-3")
@pytest.mark.anyio
async def test_the_future_of_an_async_task_in_an_async_flow_is_awaited():
    @task
    async def async_give(x):
        return x

    @flow
    async def parent():
        future = await async_give.submit("x")
        return (await future.wait()).name, await future.result(), (await future.get_state()).name

    assert await parent() == ("Completed", "x", "Completed")


@pytest.mark.behaviour("FUT-3")
@pytest.mark.anyio
async def test_the_future_of_a_sync_task_in_an_async_flow_gives_plain_values():
    @flow
    async def parent():
        future = give.submit("x")
        return future.wait().name, future.result(), future.get_state().name

    assert await parent() == ("Completed", "x", "Completed")


@pytest.mark.behaviour("FUT-3")
def test_the_future_of_an_async_task_in_a_sync_flow_gives_plain_values():
    @task
    async def async_give(x):
        return x

    @flow
    def parent():
        future = async_give.submit("x")
        return future.wait().name, future.result(), future.get_state().name

    assert parent() == ("Completed", "x", "Completed")


@pytest.mark.behaviour("FUT-4")
def test_get_state_reads_the_current_state_and_refreshes_the_task_run():
    started, release = threading.Event(), threading.Event()

    @task
    def slow():
        started.set()
        wait_until_set(release)

    @flow
    def parent():
        future = slow.submit()
        wait_until_set(started)
        running = future.get_state().name, future.task_run.state_name
        release.set()
        future.wait()
        return running, future.get_state().name, future.task_run.state_name

    assert parent() == (("Running", "Running"), "Completed", "Completed")


@pytest.mark.behaviour("FUT-5")
def test_a_future_is_true_and_warns_when_tested():
    @flow
    def parent():
        future = give.submit(False)
        with pytest.warns(UserWarning, match="result"):
            truth = bool(future)
        return truth, bool(future.result())

    assert parent() == (True, False)


@pytest.mark.behaviour("FUT-6")
def test_a_future_is_hashable_and_knows_its_run():
    @flow
    def parent():
        first, second = give.submit(1), give.submit(2)
        first.wait()
        assert len({first, second, first}) == 2
        assert first.key != second.key
        assert "give-0" in repr(first)
        return (
            first.name,
            first.asynchronous,
            first.task_run.name,
            first.task_run.id == first.wait().state_details.task_run_id,
        )

    assert parent() == ("give-0", False, "give-0", True)


@dataclass
class Box:
    content: Any


@pytest.mark.behaviour("FUT-7", "DEP-1")
def test_futures_resolve_to_data_in_every_kind_of_collection():
    received = []

    @task
    def takes(value):
        received.append(value)

    @flow
    def parent():
        f, g = give.submit("f"), give.submit("g")
        values = [
            [f, g],
            (f, g),
            {f, g},
            {"key": f},
            {f: "value"},
            OrderedDict([("a", f), ("b", g)]),
            Box(f),
            {"deep": [(Box([f]),), {"x": {g}}]},
        ]
        for value in values:
            takes(value)
        return 1

    parent()

    assert received == [
        ["f", "g"],
        ("f", "g"),
        {"f", "g"},
        {"key": "f"},
        {"f": "value"},
        OrderedDict([("a", "f"), ("b", "g")]),
        Box("f"),
        {"deep": [(Box(["f"]),), {"x": {"g"}}]},
    ]
    assert [type(value) for value in received] == [list, tuple, set, dict, dict, OrderedDict, Box, dict]


@pytest.mark.behaviour("FUT-7")
def test_quoted_futures_are_left_alone():
    @task
    def kind(value):
        return type(value[0])

    @flow
    def parent():
        future = give.submit(1)
        future.wait()
        return kind(quote([future]))

    assert issubclass(parent(), TaskFuture)


@pytest.mark.behaviour("FUT-7")
def test_futures_resolve_to_states_in_a_returned_dataclass():
    @flow
    def parent():
        return {"box": Box(give.submit("x"))}

    box = parent()["box"]

    assert isinstance(box, Box)
    assert isinstance(box.content, State)
    assert box.content.result() == "x"


@pytest.mark.behaviour("FUT-8")
def test_resolving_to_data_raises_for_a_failed_future_unless_told_otherwise():
    error = ValueError("no")

    @task
    def fails():
        raise error

    @flow
    def parent():
        futures = {"good": give.submit(1), "bad": [fails.submit()]}
        with pytest.raises(ValueError, match="no"):
            resolve_futures_to_data(futures)
        return resolve_futures_to_data(futures, raise_on_failure=False)

    found = parent()

    assert found["good"] == 1
    assert found["bad"] == [error]


@pytest.mark.behaviour("FUT-8")
def test_resolving_to_data_raises_failed_run_where_a_failure_has_only_a_text():
    @task
    def says_that_it_failed():
        return Failed(message="out of milk", data="out of milk")

    @flow
    def parent():
        future = says_that_it_failed.submit()
        with pytest.raises(FailedRun, match="out of milk"):
            resolve_futures_to_data([future])
        return resolve_futures_to_data(future, raise_on_failure=False)

    assert parent() == "out of milk"
