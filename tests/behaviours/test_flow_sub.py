"""FLOW-SUB: flows called in flows."""

import asyncio
import logging
import threading
from typing import Any

import pytest

from core_engine import State, allow_failure, flow, runtime, tags, task
from core_engine.context import get_run_context
from core_engine.exceptions import UnfinishedRun
from core_engine.states import Cancelled, Completed
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner
from tests.behaviours.conftest import LogRecords
from tests.behaviours.helpers import (
    as_id,
    child_flow_run,
    input_ids,
    read_flow_run,
    read_flow_runs,
    read_states,
    read_task_run,
    read_task_runs,
    stored_task_state,
    task_run_id,
    until_set,
    wait_until_set,
)


class CustomError(Exception):
    pass


@task
def give(x: Any = 1) -> Any:
    return x


@task
def fail() -> None:
    raise CustomError("no")


@pytest.mark.behaviour("FLOW-SUB-1")
def test_a_flow_in_a_flow_is_a_run_of_its_own():
    @flow
    def child(x):
        return x, as_id(runtime.flow_run.id)

    @flow
    def parent():
        return child("x"), child("y", return_state=True), as_id(runtime.flow_run.id)

    (value, first_id), second, parent_id = parent()

    assert value == "x"
    assert isinstance(second, State)
    assert len({first_id, second.result()[1], parent_id}) == 3
    assert {run.id for run in read_flow_runs()} == {first_id, second.result()[1], parent_id}


@pytest.mark.behaviour("FLOW-SUB-2")
def test_a_sync_flow_gets_values_from_sync_and_async_subflows():
    @flow
    def child(x):
        return x

    @flow
    async def async_child(x):
        return x

    @flow
    def parent():
        return child(1), async_child(2)

    assert parent() == (1, 2)


@pytest.mark.behaviour("FLOW-SUB-2")
@pytest.mark.anyio
async def test_an_async_flow_awaits_async_subflows_and_calls_sync_ones():
    @flow
    def child(x):
        return x

    @flow
    async def async_child(x):
        return x

    @flow
    async def parent():
        return child(1), await async_child(2)

    assert await parent() == (1, 2)


@pytest.mark.behaviour("FLOW-SUB-3")
@pytest.mark.anyio
async def test_async_subflows_overlap_when_gathered():
    events = threading.Event(), threading.Event()

    @task
    async def meet(mine: int, other: int):
        events[mine].set()
        await until_set(events[other])
        return mine

    @flow
    async def child(mine: int, other: int):
        return await meet(mine, other)

    @flow
    async def parent():
        return await asyncio.gather(child(0, 1), child(1, 0))

    assert await parent() == [0, 1]


@pytest.mark.behaviour("FLOW-SUB-3")
@pytest.mark.anyio
async def test_awaited_subflows_run_one_after_another():
    order = []

    @flow
    async def child(x):
        order.append(f"{x} starts")
        await asyncio.sleep(0)
        order.append(f"{x} ends")

    @flow
    async def parent():
        await child("a")
        await child("b")

    await parent()

    assert order == ["a starts", "a ends", "b starts", "b ends"]


@pytest.mark.behaviour("FLOW-SUB-4")
def test_a_task_run_of_the_parent_stands_for_the_child():
    @flow(version="child 1")
    def child():
        return 1

    @flow(version="parent 1")
    def parent():
        return child(return_state=True)

    state = parent(return_state=True)
    (task_run,) = read_task_runs(state)
    child_run = child_flow_run(state.result())

    assert task_run.task_version == "child 1"
    assert task_run.is_subflow
    assert child_run.parent_task_run_id == task_run.id
    assert child_run.flow_version == "child 1"
    assert read_flow_run(state).parent_task_run_id is None


@pytest.mark.behaviour("FLOW-SUB-5", "ORCH-26")
def test_states_of_the_child_and_of_its_parent_task_run_name_each_other():
    @flow
    def child():
        return 1

    @flow
    def parent():
        return child(return_state=True)

    state = parent(return_state=True)
    (task_run,) = read_task_runs(state)
    child_run = child_flow_run(state.result())
    states = read_states(child_run.id)

    assert [one.name for one in states] == ["Pending", "Running", "Completed"]
    assert {one.state_details.task_run_id for one in states} == {task_run.id}
    mirrored = stored_task_state(task_run.id)
    assert mirrored.is_completed()
    assert mirrored.state_details.child_flow_run_id == child_run.id
    assert mirrored.state_details.flow_run_id == state.state_details.flow_run_id


@pytest.mark.behaviour("FLOW-SUB-5", "ORCH-26")
def test_the_parent_task_run_mirrors_a_failure_of_the_child():
    @flow
    def child():
        raise CustomError("no")

    @flow
    def parent():
        child(return_state=True)
        return 1

    (task_run,) = read_task_runs(parent(return_state=True))

    assert task_run.state_type == "FAILED"


@pytest.mark.behaviour("FLOW-SUB-6", "TASK-CALL-10")
def test_call_counters_restart_in_the_child_and_the_parent_counts_its_subflow_calls():
    @flow
    def child():
        return [give(return_state=True), give(return_state=True)]

    @flow
    def parent():
        give()
        return child(return_state=True), child(return_state=True)

    state = parent(return_state=True)
    children = [child_flow_run(one) for one in state.result()]

    for run in children:
        assert [task_run.name for task_run in read_task_runs(run.id)] == ["give-0", "give-1"]
    parents = [task_run for task_run in read_task_runs(state) if task_run.is_subflow]
    assert [task_run.dynamic_key for task_run in parents] == ["0", "1"]


@pytest.mark.behaviour("FLOW-SUB-7")
def test_futures_and_states_in_arguments_are_resolved_before_the_child_starts():
    @flow
    def child(a, b, c):
        return a, b, c

    @flow
    def parent():
        future, state = give.submit("f"), give("s", return_state=True)
        return child(future, state, {"nested": [future, (state,)]})

    assert parent() == ("f", "s", {"nested": ["f", ("s",)]})


@pytest.mark.behaviour("FLOW-SUB-7")
def test_a_failed_upstream_of_a_subflow_raises_to_the_parent():
    @flow
    def child(x):
        pytest.fail("The child ran")

    @flow
    def parent():
        child(fail.submit())

    state = parent(return_state=True)

    assert state.is_failed()


@pytest.mark.behaviour("FLOW-SUB-8")
def test_the_inputs_of_the_parent_task_run_are_listed_per_parameter():
    @flow
    def child(a, b, c, d=None):
        return 1

    @flow
    def parent():
        future, state, value = give.submit("f"), give("s", return_state=True), give("a plain result")
        child_state = child(future, [state, future], value, return_state=True)
        return [future, state, child_state, child_state]

    found = parent(return_state=True).result(raise_on_failure=False)
    future_id, state_id = (one.state_details.task_run_id for one in found[:2])
    inputs = input_ids(read_task_run(found[2]))

    assert inputs["a"] == [future_id]
    assert set(inputs["b"]) == {future_id, state_id}
    assert len(inputs["c"]) == 1
    assert inputs["c"][0] not in (future_id, state_id)
    assert inputs["d"] == []
    assert set(inputs) == {"a", "b", "c", "d"}


@pytest.mark.behaviour("FLOW-SUB-9")
def test_a_subflow_waits_for_its_upstreams():
    order = []
    release = threading.Event()

    @task
    def first():
        wait_until_set(release)
        order.append("task")

    @flow
    def child():
        order.append("child")
        return 1

    @flow
    def parent():
        upstream = first.submit()
        threading.Timer(0.05, release.set).start()
        state = child(wait_for=[upstream], return_state=True)
        return [upstream, state]

    upstream, child_state = parent(return_state=True).result()

    assert order == ["task", "child"]
    assert input_ids(read_task_run(child_state)) == {"wait_for": [task_run_id(upstream)]}


@pytest.mark.behaviour("FLOW-SUB-9")
def test_a_subflow_whose_upstream_failed_is_not_ready_and_does_not_run():
    @flow
    def child():
        pytest.fail("The child ran")

    @flow
    def parent():
        state = child(wait_for=[fail.submit()], return_state=True)
        return state.type.value, state.name

    assert parent() == ("PENDING", "NotReady")


@pytest.mark.behaviour("FLOW-SUB-10")
def test_a_subflow_waits_for_plain_results_and_for_failures_that_are_allowed():
    @flow
    def child():
        return "ran"

    @flow
    def parent():
        return child(wait_for=[give({"a": 1})]), child(wait_for=[allow_failure(fail.submit())])

    assert parent() == ("ran", "ran")


@pytest.mark.behaviour("FLOW-SUB-11")
def test_a_plain_call_of_a_subflow_that_is_not_ready_raises_unfinished_run():
    @flow
    def child(): ...

    @flow
    def parent():
        child(wait_for=[fail.submit()])

    state = parent(return_state=True)

    assert state.is_failed()
    assert "UnfinishedRun" in state.message
    with pytest.raises(UnfinishedRun):
        state.result()


@pytest.mark.behaviour("FLOW-SUB-12")
def test_an_allowed_failure_reaches_the_child_as_exception_and_is_tracked():
    @flow
    def child(x):
        return type(x).__name__

    @flow
    def parent():
        upstream = fail.submit()
        state = child(allow_failure(upstream), return_state=True)
        upstream.wait()
        return upstream.task_run.id, state

    found = parent(return_state=True).result()

    assert found[1].result() == "CustomError"
    assert input_ids(read_task_run(found[1]))["x"] == [found[0]]


@pytest.mark.behaviour("FLOW-SUB-13")
def test_invalid_parameters_make_a_failed_child_run_and_the_parent_goes_on():
    @flow
    def child(x: int):
        pytest.fail("The child ran")

    @flow
    def parent():
        child("no number", return_state=True)
        give()

    state = parent(return_state=True)
    (child_run,) = read_flow_runs(flow_name="child")

    assert child_run.state_type == "FAILED"
    assert "alid" in child_run.state.message
    assert "parameter" in child_run.state.message.lower()
    assert state.is_failed()
    assert "1/2" in state.message


@pytest.mark.behaviour("FLOW-SUB-14", "TAGS-3")
def test_tags_around_the_child_and_around_the_parent_go_onto_the_child_run():
    @flow
    def child():
        return 1

    @flow
    def parent():
        with tags("inner"):
            child()

    with tags("outer"):
        parent()

    assert read_flow_runs(flow_name="child")[0].tags == {"inner", "outer"}
    assert read_flow_runs(flow_name="parent")[0].tags == {"outer"}


@pytest.mark.behaviour("FLOW-SUB-15")
def test_a_child_uses_a_duplicate_of_its_own_task_runner():
    @flow(task_runner=SequentialTaskRunner())
    def child():
        return get_run_context().task_runner

    @flow(task_runner=ConcurrentTaskRunner())
    def parent():
        return get_run_context().task_runner, child()

    parents, childs = parent()

    assert isinstance(parents, ConcurrentTaskRunner)
    assert isinstance(childs, SequentialTaskRunner)
    assert childs is not child.task_runner


@pytest.mark.behaviour("FLOW-SUB-16")
def test_submitted_tasks_of_the_parent_go_on_while_the_child_runs():
    in_child, done = threading.Event(), threading.Event()

    @task
    def waits_for_the_child():
        wait_until_set(in_child)
        done.set()

    @flow
    def child():
        in_child.set()
        wait_until_set(done)
        return "saw the task end"

    @flow
    def parent():
        waits_for_the_child.submit()
        return child()

    assert parent() == "saw the task end"


@pytest.mark.behaviour("FLOW-SUB-17")
def test_a_cancelled_child_cancels_a_parent_that_returns_nothing():
    @flow
    def child():
        return Cancelled()

    @flow
    def parent():
        child(return_state=True)

    state = parent(return_state=True)

    assert state.is_cancelled()
    assert "1/1" in state.message


@pytest.mark.behaviour("FLOW-SUB-18")
def test_the_parents_logger_reports_the_creation_of_the_child_run(log: LogRecords):
    @flow
    def child_to_be_named():
        return Completed()

    @flow
    def parent():
        child_to_be_named()
        return as_id(runtime.flow_run.id)

    parent_id = parent()
    (child_run,) = read_flow_runs(flow_name="child-to-be-named")
    lines = [
        record for record in log.records if child_run.name in record.getMessage() and record.levelno >= logging.INFO
    ]

    assert any(
        "child-to-be-named" in record.getMessage() and str(getattr(record, "flow_run_id", "")) == str(parent_id)
        for record in lines
    )
