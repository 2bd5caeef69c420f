"""TASK-CALL: calling and submitting tasks."""

import inspect
import threading
from typing import Any

import pytest

from core_engine import State, TaskFuture, flow, quote, task
from core_engine.exceptions import ParameterBindError
from core_engine.states import Cancelled, Completed, Failed
from core_engine.task_runners import BaseTaskRunner
from runners.sequential import SequentialTaskRunner
from tests.behaviours.helpers import read_task_run, read_task_runs, task_history, until_set, wait_until_set


class CustomError(Exception):
    pass


@task
def add(x: Any, y: Any = 10) -> Any:
    return x + y


@task
async def async_add(x: Any, y: Any = 10) -> Any:
    return x + y


@pytest.mark.behaviour("TASK-CALL-1")
@pytest.mark.parametrize(
    "call", [lambda: add(1), lambda: add.submit(1), lambda: add.map([1])], ids=["call", "submit", "map"]
)
def test_a_task_outside_a_flow_is_a_runtime_error_that_points_to_fn(call: Any):
    with pytest.raises(RuntimeError, match=r"\.fn"):
        call()
    assert add.fn(1) == 11


@pytest.mark.behaviour("TASK-CALL-2")
@pytest.mark.parametrize("way", ["call", "submit", "map"])
def test_a_task_in_a_task_is_a_runtime_error_that_points_to_subflows(way: str):
    @task
    def outer():
        if way == "call":
            add(1)
        elif way == "submit":
            add.submit(1)
        else:
            add.map([1])

    @flow
    def parent():
        return outer()

    with pytest.raises(RuntimeError, match="flow"):
        parent()


@pytest.mark.behaviour("TASK-CALL-3")
def test_a_plain_call_returns_the_result():
    @flow
    def parent():
        return add(1, 2)

    assert parent() == 3


@pytest.mark.behaviour("TASK-CALL-3")
def test_a_plain_call_of_a_failing_task_raises_in_the_flow_at_that_point():
    raised = CustomError("no")
    seen = []

    @task
    def fail():
        raise raised

    @flow
    def parent():
        seen.append("before")
        try:
            fail()
        except CustomError as error:
            return error is raised

    assert parent() is True
    assert seen == ["before"]


@pytest.mark.behaviour("TASK-CALL-4")
def test_return_state_gives_the_final_state_and_does_not_raise():
    @task
    def fail():
        raise CustomError("no")

    @flow
    def parent():
        good, bad, old = add(1, return_state=True), fail(return_state=True), add._run(2)
        assert isinstance(good, State)
        assert isinstance(old, State)
        return good.result(), bad.is_failed(), old.result()

    assert parent() == (11, True, 12)


@pytest.mark.behaviour("TASK-CALL-5")
def test_plain_calls_run_one_at_a_time_on_every_runner(runner: BaseTaskRunner):
    running, most = [], []

    @task
    def count():
        running.append(1)
        most.append(len(running))
        running.pop()

    @flow(task_runner=runner)
    def parent():
        for _ in range(5):
            count()
            assert running == []
        return 1

    parent()

    assert most == [1] * 5


@pytest.mark.behaviour("TASK-CALL-6")
def test_submit_returns_a_future_at_once():
    release = threading.Event()

    @task
    def waits():
        wait_until_set(release)
        return "done"

    @flow
    def parent():
        future = waits.submit()
        assert isinstance(future, TaskFuture)
        release.set()
        return future.result()

    assert parent() == "done"


@pytest.mark.behaviour("TASK-CALL-6")
def test_submit_with_return_state_waits_and_gives_the_state():
    @flow
    def parent():
        state = add.submit(1, return_state=True)
        assert isinstance(state, State)
        return state.result()

    assert parent() == 11


@pytest.mark.behaviour("TASK-CALL-7")
@pytest.mark.anyio
async def test_an_async_task_in_an_async_flow_is_awaited():
    @flow
    async def parent():
        called, submitted, mapped = async_add(1), async_add.submit(2), async_add.map([3, 4])
        assert all(inspect.isawaitable(one) for one in (called, submitted, mapped))
        future, futures = await submitted, await mapped
        return await called, await future.result(), [await one.result() for one in futures]

    assert await parent() == (11, 12, [13, 14])


@pytest.mark.behaviour("TASK-CALL-7")
@pytest.mark.anyio
async def test_a_sync_task_in_an_async_flow_gives_direct_values():
    @flow
    async def parent():
        return add(1), add.submit(2).result(), [one.result() for one in add.map([3, 4])]

    assert await parent() == (11, 12, [13, 14])


@pytest.mark.behaviour("TASK-CALL-7")
def test_any_task_in_a_sync_flow_gives_direct_values():
    @flow
    def parent(one):
        return one(1), one.submit(2).result(), [future.result() for future in one.map([3, 4])]

    assert parent(add) == (11, 12, [13, 14])
    assert parent(async_add) == (11, 12, [13, 14])


@pytest.mark.behaviour("TASK-CALL-8")
@pytest.mark.parametrize(
    "call", [lambda t, *a, **k: t(*a, **k), lambda t, *a, **k: t.submit(*a, **k).result()], ids=["call", "submit"]
)
def test_every_form_of_argument_arrives(call: Any):
    @task
    def shows(a, b=2, *rest, c=3, **named):
        return a, b, rest, c, named

    @flow
    def parent():
        return call(shows, 1), call(shows, 1, b=5), call(shows, 1, 2, 3, 4, c=5, d=6), call(shows, a=0)

    assert parent() == ((1, 2, (), 3, {}), (1, 5, (), 3, {}), (1, 2, (3, 4), 5, {"d": 6}), (0, 2, (), 3, {}))


@pytest.mark.behaviour("TASK-CALL-8")
@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"unknown": 5})], ids=["missing", "surplus", "misnamed"]
)
def test_arguments_that_do_not_fit_raise_before_a_task_run_exists(args: tuple[Any, ...], kwargs: dict[str, Any]):
    @flow
    def parent():
        messages = []
        for call in (add, add.submit):
            with pytest.raises(ParameterBindError) as caught:
                call(*args, **kwargs)
            messages.append(str(caught.value))
        return messages

    state = parent(return_state=True)

    assert all("add" in message for message in state.result())
    assert all(str(name) in message for message in state.result() for name in kwargs)
    assert read_task_runs(state) == []


@pytest.mark.behaviour("TASK-CALL-9")
@pytest.mark.parametrize("value", [1, [], {}, {"type": "literal"}, "text", (1, 2)], ids=repr)
def test_data_returned_by_a_task_makes_it_completed(value: Any):
    @task
    def gives():
        return value

    @flow
    def parent():
        state = gives(return_state=True)
        assert state.is_completed()
        return state.result(), gives(), gives.submit().result()

    assert parent() == (value, value, value)


@pytest.mark.behaviour("TASK-CALL-9")
def test_an_exception_makes_a_task_failed_with_the_exception():
    raised = CustomError("what went wrong")

    @task
    def fail():
        raise raised

    @flow
    def parent():
        state = fail(return_state=True)
        return state.is_failed(), state.name, state.message, state.result(raise_on_failure=False)

    is_failed, name, message, exception = parent()

    assert is_failed
    assert name == "Failed"
    assert "CustomError: what went wrong" in message
    assert exception is raised


@pytest.mark.behaviour("TASK-CALL-9")
@pytest.mark.parametrize("kind", [Completed, Failed, Cancelled])
def test_a_state_made_by_hand_is_respected(kind: Any):
    @task
    def gives():
        return kind(message="my words", data="my data")

    @flow
    def parent():
        state = gives(return_state=True)
        return state.type, state.message, state.result(raise_on_failure=False)

    assert parent() == (kind().type, "my words", "my data")


@pytest.mark.behaviour("TASK-CALL-9", "ANN-8")
def test_a_quoted_value_of_a_task_is_not_searched():
    bad = Failed(message="only data")

    @task
    def gives():
        return quote(bad)

    seen = []

    @flow
    def parent():
        state = gives(return_state=True)
        seen.append((state.is_completed(), state.result()))
        return 1

    parent()
    ((is_completed, value),) = seen

    assert is_completed
    assert isinstance(value, quote)
    assert value.unquote() is bad


@pytest.mark.behaviour("TASK-CALL-10")
def test_runs_are_named_by_task_and_call_index_counted_per_task():
    @task
    def other():
        return 1

    @flow
    def parent():
        return [add(1, return_state=True), add.submit(2), other(return_state=True), *add.map([3, 4]), other.submit()]

    states = parent(return_state=True).result()

    assert [read_task_run(state).name for state in states] == ["add-0", "add-1", "other-0", "add-2", "add-3", "other-1"]


@pytest.mark.behaviour("TASK-CALL-10")
def test_the_call_index_starts_again_in_every_flow_run():
    @flow
    def parent():
        return add(1, return_state=True)

    assert [read_task_run(parent(return_state=True).result()).name for _ in range(2)] == ["add-0", "add-0"]


@pytest.mark.behaviour("TASK-CALL-11")
@pytest.mark.anyio
async def test_a_blocking_task_does_not_block_the_loop_of_an_async_flow():
    release = threading.Event()

    @task
    def blocks():
        wait_until_set(release)
        return threading.current_thread()

    @flow
    async def parent():
        future = blocks.submit()
        release.set()
        return threading.current_thread(), future.result()

    flows_thread, tasks_thread = await parent()

    assert tasks_thread is not flows_thread


@pytest.mark.behaviour("TASK-CALL-11")
def test_a_submitted_sync_task_runs_in_a_worker_thread():
    @task
    def where():
        return threading.current_thread()

    @flow
    def parent():
        return where.submit().result(), threading.current_thread()

    tasks_thread, flows_thread = parent()

    assert tasks_thread is not flows_thread


@pytest.mark.behaviour("TASK-CALL-11")
def test_a_sync_task_of_a_sync_flow_on_the_sequential_runner_runs_in_the_thread_that_called_the_flow():
    @task
    def where():
        return threading.current_thread()

    @flow(task_runner=SequentialTaskRunner())
    def parent():
        return where(), where.submit().result()

    assert parent() == (threading.current_thread(), threading.current_thread())


@pytest.mark.behaviour("TASK-CALL-11")
def test_async_tasks_of_a_flow_share_one_loop_that_is_not_the_flows():
    import asyncio

    @task
    async def where():
        return asyncio.get_running_loop(), threading.current_thread()

    @flow
    def parent():
        return [future.result() for future in (where.submit(), where.submit())], threading.current_thread()

    ((first, thread), (second, _)), flows_thread = parent()

    assert first is second
    assert thread is not flows_thread


@pytest.mark.behaviour("TASK-CALL-12")
def test_a_task_run_is_pending_before_it_runs():
    @flow
    def parent():
        return [add(1, return_state=True), add.submit(2), *add.map([3])]

    for state in parent(return_state=True).result():
        assert task_history(state) == ["Pending", "Running", "Completed"]


@pytest.mark.behaviour("TASK-CALL-12")
def test_many_submits_overlap():
    barrier = threading.Barrier(8)

    @task
    def meet(i):
        barrier.wait(10)
        return i

    @flow
    def parent():
        return [future.result() for future in [meet.submit(i) for i in range(8)]]

    assert parent() == list(range(8))


@pytest.mark.behaviour("TASK-CALL-13", "RUN-6")
def test_submit_on_a_sequential_runner_returns_only_after_the_task_ended():
    done = []

    @task
    def work():
        done.append(1)

    @task
    async def async_work():
        done.append(2)

    @flow(task_runner=SequentialTaskRunner())
    def parent():
        work.submit()
        after_first = list(done)
        async_work.submit()
        return after_first, list(done)

    assert parent() == ([1], [1, 2])


@pytest.mark.behaviour("TASK-CALL-7")
@pytest.mark.anyio
async def test_async_tasks_submitted_in_an_async_flow_overlap():
    events = threading.Event(), threading.Event()

    @task
    async def meet(mine: int, other: int):
        events[mine].set()
        await until_set(events[other])
        return mine

    @flow
    async def parent():
        first, second = await meet.submit(0, 1), await meet.submit(1, 0)
        return await first.result(), await second.result()

    assert await parent() == (0, 1)


@pytest.mark.behaviour("D18", "TASK-CALL-5")
def test_a_plain_call_runs_in_the_flows_process(runner: BaseTaskRunner):
    import os

    @task
    def where():
        return os.getpid()

    @flow(task_runner=runner)
    def parent():
        return where()

    assert parent() == os.getpid()


@pytest.mark.anyio
async def test_python_warns_of_a_call_that_nobody_awaits_by_the_tasks_name():
    @task
    async def forgotten():
        pass

    @flow
    async def parent():
        with pytest.warns(RuntimeWarning, match="coroutine 'forgotten' was never awaited"):
            forgotten()
        return 1

    assert await parent() == 1
