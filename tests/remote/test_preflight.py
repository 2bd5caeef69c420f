"""What cannot be sent is refused where the user calls, for the first run of each call, before anything is recorded."""

import threading
from pathlib import Path
from typing import Any

import pytest

from core_engine import flow, get_client, task, unmapped
from core_engine.concurrency.waiting import step
from core_engine.exceptions import SerializationError
from core_engine.task_runners import BaseTaskRunner

TO_DO = "Make the object inside the task, or pass what it can be made from."


@task
def takes(x: Any, y: Any = None) -> str:
    return type(x).__name__


def refused(task_runner: BaseTaskRunner | str, call: Any) -> str:
    """Call inside a flow; return the message of the error, after seeing that no task run was recorded."""

    @flow(task_runner=task_runner)
    def outer() -> str:
        with pytest.raises(SerializationError) as error:
            call()
        return str(error.value)

    state = outer(return_state=True)
    assert step(get_client().read_task_runs(state.state_details.flow_run_id)) == []
    message: str = state.result()
    return message


@pytest.mark.behaviour("I7")
@pytest.mark.parametrize(
    ("call", "part"),
    [
        (
            lambda: takes.submit({"a": [1, threading.Lock()]}),
            r"parameter 'x'['a'][1] is of type _thread.lock",
        ),
        (lambda: takes.map([threading.Lock(), 1]), "parameter 'x' is of type _thread.lock"),
        (lambda: takes.map([1, 2], unmapped({"a": threading.Lock()})), "parameter 'y'['a'] is of type _thread.lock"),
        (lambda: takes.submit(1, y=(i for i in range(3))), "parameter 'y' is of type generator"),
        (lambda: next(takes.stream([threading.Lock()])), "parameter 'x' is of type _thread.lock"),
    ],
    ids=["submit", "map", "unmapped", "generator", "stream"],
)
def test_the_error_at_the_call_names_parameter_path_type_and_what_to_do(
    task_runner: BaseTaskRunner, call: Any, part: str
) -> None:
    message = refused(task_runner, call)

    assert part in message
    assert message.endswith(TO_DO)


@pytest.mark.behaviour("I7")
def test_a_task_that_cannot_be_sent_is_refused_at_its_call(task_runner: BaseTaskRunner) -> None:
    lock = threading.Lock()

    @task
    def closes_over_a_lock() -> None:
        lock.acquire()

    message = refused(task_runner, closes_over_a_lock.submit)

    assert "The task 'closes_over_a_lock' cannot be sent" in message
    assert ".<variable lock> is of type _thread.lock" in message


def test_futures_are_passed_over_and_not_waited_for(task_runner: BaseTaskRunner, tmp_path: Path) -> None:
    @task
    def waits() -> str:
        while not (tmp_path / "go").exists():
            threading.Event().wait(0.01)
        return "value"

    @task
    def shows(x: Any) -> Any:
        return x

    @flow(task_runner=task_runner)
    def outer() -> list[Any]:
        first = waits.submit()
        second = [shows.submit({"inner": [first, 1]}), *shows.map([[first], [2]])]
        assert first.get_state().is_final() is False
        (tmp_path / "go").touch()
        return [future.result() for future in second]

    assert outer() == [{"inner": ["value", 1]}, ["value"], [2]]


def test_what_cannot_be_sent_beside_a_future_is_named(task_runner: BaseTaskRunner) -> None:
    lock = threading.Lock()

    @flow(task_runner=task_runner)
    def outer() -> str:
        future = takes.submit(1)
        with pytest.raises(SerializationError) as error:
            takes.submit([future, {"lock": lock}])
        return str(error.value)

    assert "parameter 'x'[1]['lock'] is of type _thread.lock" in outer()


@pytest.mark.parametrize("runner", ["sequential", "concurrent"])
def test_runners_that_share_memory_take_anything(runner: str) -> None:
    @flow(task_runner=runner)
    def outer() -> str:
        return takes.submit(threading.Lock()).result()

    assert outer() == "lock"
