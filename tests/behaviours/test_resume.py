"""Resuming flow runs that ended without completing: ``flow.resume`` and what it uses again."""

import logging
from typing import Any

import pytest

from core_engine import flow, tags, task
from core_engine.exceptions import ObjectNotFound, ParameterBindError
from core_engine.task_runners import BaseTaskRunner
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner
from tests.behaviours.conftest import LogRecords
from tests.behaviours.helpers import (
    ask,
    flow_history,
    flow_run_id,
    read_flow_run,
    read_flow_runs,
    read_task_runs,
    setting,
    task_history,
)


class CustomError(Exception):
    pass


class Switch:
    """What tasks of these tests do, and have done."""

    def __init__(self) -> None:
        self.fails = True
        self.executed: list[Any] = []


@pytest.fixture
def switch() -> Switch:
    return Switch()


def resumable(called: Any, *args: Any) -> Any:
    """Call a flow with the setting on, and return the id of its run, which failed."""
    with setting(RESUMABLE=True):
        state = called(*args, return_state=True)
    assert state.is_failed()
    return flow_run_id(state)


RUNNERS = pytest.mark.parametrize(
    "other", [SequentialTaskRunner(), ConcurrentTaskRunner()], ids=["then-sequential", "then-concurrent"]
)


@RUNNERS
def test_no_task_run_whose_result_is_stored_is_executed_again(
    runner: BaseTaskRunner, other: BaseTaskRunner, switch: Switch, log: LogRecords
):
    @task
    def double(x):
        switch.executed.append(x)
        if switch.fails and x == 3:
            raise CustomError("three")
        return {"twice": x * 2}

    @task
    def total(values):
        switch.executed.append("total")
        return sum(value["twice"] for value in values)

    @flow(task_runner=runner)
    def parent(count: int):
        return total.submit(double.map(range(count))).result()

    id = resumable(parent, 6)
    assert sorted(switch.executed, key=str) == [0, 1, 2, 3, 4, 5]
    switch.fails = False
    switch.executed.clear()

    assert parent.with_options(task_runner=other).resume(id) == 30

    assert sorted(switch.executed, key=str) == [3, "total"]
    assert [run.state_name for run in read_task_runs(id)] == ["Completed"] * 7
    assert flow_history(id) == ["Pending", "Running", "Failed", "Pending", "Running", "Completed"]
    assert len(read_flow_runs()) == 1
    told = log.messages(logging.INFO)
    assert "Resuming: 5 of 5 completed task runs have a stored result" in told
    assert "Resumed: 5 task runs used again with their stored results, 2 task runs executed." in told


def test_a_run_is_resumed_any_number_of_times(switch: Switch):
    @task
    def work(x):
        switch.executed.append(x)
        if switch.fails and x == len(switch.executed) - 1 and x:
            raise CustomError(x)
        return [x]

    fail_at = [1, 2, None]

    @task
    def step(x):
        switch.executed.append(x)
        if fail_at and x == fail_at[0]:
            raise CustomError(x)
        return [x]

    @flow
    def parent():
        return [step(x) for x in range(4)]

    id = resumable(parent)
    assert switch.executed == [0, 1]
    fail_at.pop(0)
    assert parent.resume(id, return_state=True).is_failed()
    assert switch.executed == [0, 1, 1, 2]
    fail_at.clear()
    assert parent.resume(id) == [[0], [1], [2], [3]]
    assert switch.executed == [0, 1, 1, 2, 2, 3]
    assert read_flow_run(id).execution == 3


def test_other_inputs_are_executed_again_and_so_is_what_depends_on_them(switch: Switch, log: LogRecords):
    @task
    def double(x):
        switch.executed.append(("double", x))
        return x * 2

    @task
    def follow(x, y):
        switch.executed.append(("follow", x))
        return x

    @task
    def fails():
        if switch.fails:
            raise CustomError("no")

    given = [1, 2, 3]

    @flow
    def parent():
        doubled = double.map(list(given))
        followed = follow.map(doubled, y=5)
        fails()
        return [future.result() for future in followed]

    id = resumable(parent)
    switch.executed.clear()
    switch.fails = False
    given[1] = 20

    assert parent.resume(id) == [2, 40, 6]
    assert sorted(switch.executed) == [("double", 20), ("follow", 40)]
    told = log.messages(logging.INFO)
    assert "Resumed: 1 completed of task 'double' executed again: their inputs or their code have changed." in told


def test_other_shared_inputs_and_other_code_are_executed_again_and_that_is_said(switch: Switch, log: LogRecords):
    shared = {"factor": 2}

    @task
    def times(x, options):
        switch.executed.append(x)
        return x * options["factor"]

    @task
    def fails():
        if switch.fails:
            raise CustomError("no")

    def make(function):
        named = task(function)
        named.task_key = "made"
        return named

    def first(x):
        switch.executed.append("first")
        return x

    def second(x):
        switch.executed.append("second")
        return x + 1

    made = [make(first)]

    from core_engine import unmapped

    @flow
    def parent():
        mapped = times.map([1, 2], unmapped(dict(shared)))
        one = made[0](1)
        fails()
        return [future.result() for future in mapped], one

    id = resumable(parent)
    switch.executed.clear()
    switch.fails = False
    shared["factor"] = 3
    made[0] = make(second)

    assert parent.resume(id) == ([3, 6], 2)
    assert sorted(switch.executed, key=str) == [1, 2, "second"]
    told = log.messages(logging.INFO)
    changed = "executed again: their inputs or their code have changed."
    assert f"Resumed: 2 completed of task 'times' {changed}" in told
    assert f"Resumed: 1 completed of task 'first' {changed}" in told


def test_without_recorded_inputs_a_run_is_executed_again_and_says_so(switch: Switch, log: LogRecords):
    @task(persist_result=True)
    def work():
        switch.executed.append(1)
        return [1]

    @task
    def fails():
        if switch.fails:
            raise CustomError("no")

    @flow
    def parent():
        value = work()
        fails()
        return value

    id = flow_run_id(parent(return_state=True))
    switch.fails = False

    assert parent.resume(id) == [1]
    assert len(switch.executed) == 2
    told = log.messages(logging.INFO)
    assert "Resuming: 1 of 1 completed task runs have a stored result" in told
    assert any("of task 'work' executed again: nothing is recorded of their inputs" in line for line in told)


@pytest.mark.parametrize("how", ["not persisted", "file removed"])
def test_without_a_stored_value_a_run_is_executed_again_and_says_so(how: str, switch: Switch, log: LogRecords):
    @task(persist_result=None if how == "file removed" else False)
    def work():
        switch.executed.append(1)
        return [1]

    @task
    def fails():
        if switch.fails:
            raise CustomError("no")

    @flow
    def parent():
        value = work()
        fails()
        return value

    id = resumable(parent)
    if how == "file removed":
        (run,) = [run for run in read_task_runs(id) if run.task_name == "work"]
        run.state.data.storage.delete(run.state.data.storage_key)
    switch.fails = False

    assert parent.resume(id) == [1]
    assert len(switch.executed) == 2
    assert any(
        "of task 'work' executed again: their results are not stored" in line for line in log.messages(logging.INFO)
    )


def test_a_value_that_cannot_be_digested_is_no_reason_to_fail(switch: Switch):
    class Unpicklable:
        def __reduce__(self):
            raise CustomError("never")

    @task
    def takes(value):
        switch.executed.append(1)
        if switch.fails:
            raise CustomError("no")
        return 1

    @flow
    def parent():
        return takes(Unpicklable())

    id = resumable(parent)
    switch.fails = False

    assert parent.resume(id) == 1
    assert len(switch.executed) == 2


def test_a_subflow_that_completed_is_used_again_and_one_that_did_not_goes_on(switch: Switch):
    @task
    def step(name):
        switch.executed.append(name)
        if switch.fails and name == "b2":
            raise CustomError("no")
        return [name]

    @flow
    def child(name: str):
        first = step(name + "1")
        return first + step(name + "2")

    @flow
    def parent():
        return child("a") + child("b")

    id = resumable(parent)
    assert switch.executed == ["a1", "a2", "b1", "b2"]
    children = {run.id for run in read_flow_runs(flow_name="child")}
    switch.fails = False
    switch.executed.clear()

    assert parent.resume(id) == ["a1", "a2", "b1", "b2"]

    assert switch.executed == ["b2"]
    assert {run.id for run in read_flow_runs(flow_name="child")} == children
    assert [run.state_name for run in read_flow_runs(flow_name="child")] == ["Completed"] * 2
    assert [run.state_name for run in read_task_runs(id)] == ["Completed"] * 2


@RUNNERS
def test_mapped_children_of_a_subflow_are_used_again(runner: BaseTaskRunner, other: BaseTaskRunner, switch: Switch):
    @task
    def double(x):
        switch.executed.append(x)
        if switch.fails and x == 7:
            raise CustomError("seven")
        return 2 * x

    runners = [runner]

    @flow
    def parent():
        @flow(task_runner=runners[0])
        def child(start: int):
            return sum(future.result() for future in double.map(range(start, start + 5)))

        return child(0) + child(5)

    id = resumable(parent)
    assert sorted(switch.executed) == [*range(10)]
    switch.fails = False
    switch.executed.clear()
    runners[0] = other

    assert parent.resume(id) == 90
    assert switch.executed == [7]


def test_a_subflow_with_other_parameters_is_executed_again(switch: Switch):
    given = [1]

    @flow
    def child(x: int):
        switch.executed.append(x)
        return [x]

    @flow
    def parent():
        value = child(given[0])
        if switch.fails:
            raise CustomError("no")
        return value

    id = resumable(parent)
    switch.fails = False
    given[0] = 2

    assert parent.resume(id) == [2]
    assert switch.executed == [1, 2]
    assert read_flow_runs(flow_name="child")[0].parameters == {"x": 2}


def test_a_stream_is_resumed(switch: Switch):
    @task
    def double(x):
        switch.executed.append(x)
        if switch.fails and x == 40:
            raise CustomError("no")
        return x * 2

    @flow
    def parent():
        return sum(future.result() for future in double.stream(iter(range(100))))

    id = resumable(parent)
    stored = {run.dynamic_key for run in read_task_runs(id) if run.state.is_completed()}
    switch.fails = False
    switch.executed.clear()

    assert parent.resume(id) == 9900
    assert not {str(x) for x in switch.executed} & stored
    assert len(switch.executed) == 100 - len(stored)


@pytest.mark.anyio
async def test_an_async_flow_is_resumed(switch: Switch):
    @task
    async def double(x):
        switch.executed.append(x)
        if switch.fails and x == 2:
            raise CustomError("no")
        return x * 2

    @flow
    async def parent():
        return [await future.result() for future in await double.map([1, 2, 3])]

    with setting(RESUMABLE=True):
        state = await parent(return_state=True)
    switch.fails = False
    switch.executed.clear()

    assert await parent.resume(flow_run_id(state)) == [2, 4, 6]
    assert switch.executed == [2]


def test_tags_name_and_parameters_are_those_of_the_run(switch: Switch):
    from core_engine import runtime

    @flow(flow_run_name="named-{x}")
    def parent(x: int, y: str = "default", *rest: int, **more: int):
        if switch.fails:
            raise CustomError("no")
        return runtime.flow_run.name, sorted(runtime.flow_run.tags), x, y, rest, more

    with tags("kept"), setting(RESUMABLE=True):
        id = flow_run_id(parent(1, "given", 3, 4, z=5, return_state=True))
    switch.fails = False

    assert parent.resume(str(id)) == ("named-1", ["kept"], 1, "given", (3, 4), {"z": 5})


def test_values_that_are_not_in_the_record_must_be_given_again(switch: Switch):
    class Thing:
        pass

    @flow(validate_parameters=False)
    def parent(thing: Any, api_token: str, x: int = 1):
        if switch.fails:
            raise CustomError("no")
        return type(thing).__name__, api_token, x

    id = resumable(parent, Thing(), "hidden")
    switch.fails = False

    with pytest.raises(ParameterBindError, match="thing, api_token"):
        parent.resume(id)
    assert parent.resume(id, {"thing": Thing(), "api_token": "hidden"}) == ("Thing", "hidden", 1)


def test_only_a_root_run_that_ended_without_completing_is_resumed(switch: Switch):
    seen = []

    @flow
    def child():
        raise CustomError("no")

    @flow
    def parent(fails: bool):
        if fails:
            child()
        with pytest.raises(RuntimeError, match="outside of flows"):
            parent.resume(seen[0])
        return 1

    seen.append(flow_run_id(parent(True, return_state=True)))
    completed = flow_run_id(parent(False, return_state=True))

    with pytest.raises(RuntimeError, match="has completed"):
        parent.resume(completed)
    with pytest.raises(RuntimeError, match="subflow"):
        child.resume(read_flow_runs(flow_name="child")[0].id)
    with pytest.raises(ObjectNotFound):
        parent.resume("01234567-0123-4567-89ab-0123456789ab")


def test_a_cancelled_run_is_resumed(switch: Switch):
    from core_engine.states import Cancelled

    @flow
    def parent():
        return Cancelled() if switch.fails else 1

    state = parent(return_state=True)
    switch.fails = False

    assert parent.resume(flow_run_id(state)) == 1


def test_a_retry_within_a_resumed_run_matches_by_key_and_index_alone(switch: Switch):
    attempts = []

    @task
    def work(x):
        switch.executed.append(x)
        return [x]

    @flow(retries=1)
    def parent():
        attempts.append(1)
        value = work(1)
        if len(attempts) < 4:
            raise CustomError("no")
        return value

    id = resumable(parent)
    assert parent.resume(id, return_state=True).is_failed()
    assert parent.resume(id) == [1]
    assert switch.executed == [1]


def test_a_task_that_is_retried_while_it_is_resumed_is_executed_until_it_completes(switch: Switch):
    @task(retries=2)
    def work(x):
        switch.executed.append(x)
        if switch.fails or len(switch.executed) < 5:
            raise CustomError("no")
        return [x]

    @flow
    def parent():
        return work.submit(1).result()

    id = resumable(parent)
    assert len(switch.executed) == 3
    switch.fails = False

    assert parent.resume(id) == [1]
    assert len(switch.executed) == 5
    (run,) = read_task_runs(id)
    assert task_history(run.id)[-1] == "Completed"


def test_the_inputs_of_a_map_are_recorded_in_one_piece_and_none_without_the_setting():
    from core_engine.backend import open_backend

    @task
    def double(x):
        return x * 2

    @flow
    def parent():
        double.map(range(1000))
        return 1

    store = open_backend().store
    with setting(RESUMABLE=True):
        id = flow_run_id(parent(return_state=True))
    rows = store._control.execute("SELECT count(*), sum(length(digests)) FROM input_digest").fetchone()
    assert tuple(rows) == (1, 16_000)
    assert len(store.read_input_digests(id)) == 1000
    assert len(set(store.read_input_digests(id).values())) == 1000

    without = flow_run_id(parent(return_state=True))
    assert store.read_input_digests(without) == {}


def test_a_flow_that_is_in_no_module_has_no_entrypoint_and_any_other_has():
    from core_engine.engine.loading import entrypoint_of

    @flow
    def inside():
        pass

    assert entrypoint_of(inside) is None
    assert entrypoint_of(at_the_top) == f"{__name__}:at_the_top"
    assert entrypoint_of(at_the_top.with_options(name="other")) == f"{__name__}:at_the_top"
    assert entrypoint_of(called_otherwise) == f"{__name__}:called_otherwise"
    assert ask(lambda client: client.read_flow_runs()) == []


@flow
def at_the_top():
    pass


def _plain():
    pass


called_otherwise = flow(_plain)
