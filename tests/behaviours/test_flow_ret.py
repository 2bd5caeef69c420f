"""FLOW-RET: from what a flow returns or raises to its final state."""

import threading
from typing import Any

import pytest

from core_engine import State, flow, quote, task
from core_engine.exceptions import PausedRun
from core_engine.states import Cancelled, Completed, Failed, Paused, Pending
from core_engine.task_runners import BaseTaskRunner
from tests.behaviours.helpers import flow_run_id, read_task_runs, wait_until_set


class CustomError(Exception):
    pass


@task
def succeed(x: Any = 1) -> Any:
    return x


@task
def fail() -> None:
    raise CustomError("the task failed")


@task
def cancel() -> State:
    return Cancelled(message="not wanted any more")


@pytest.mark.behaviour("FLOW-RET-1")
def test_an_exception_makes_the_flow_failed_with_the_exception_as_data():
    raised = CustomError("what went wrong")

    @flow
    def raises():
        raise raised

    state = raises(return_state=True)

    assert state.is_failed()
    assert state.name == "Failed"
    assert state.result(raise_on_failure=False) is raised
    assert "CustomError: what went wrong" in state.message
    assert "Traceback" not in state.message


@pytest.mark.behaviour("FLOW-RET-2")
@pytest.mark.parametrize(
    "value",
    [
        1,
        "text",
        [],
        {},
        (),
        [1, [2]],
        {"a": {"b": 1}},
        {"type": "literal", "value": 5},
        {"type": "unpersisted"},
        0,
        False,
    ],
    ids=repr,
)
def test_plain_data_makes_the_flow_completed_and_comes_back_unchanged(value: Any):
    @flow
    def gives():
        return value

    state = gives(return_state=True)

    assert state.is_completed()
    assert state.result() == value
    assert type(state.result()) is type(value)
    assert gives() == value


@pytest.mark.behaviour("FLOW-RET-3")
def test_returning_nothing_judges_all_tasks_of_the_flow():
    @flow
    def nothing():
        succeed.submit()
        fail.submit()
        fail.submit()

    state = nothing(return_state=True)

    assert state.is_failed()
    assert "2/3" in state.message
    with pytest.raises(CustomError):
        state.result()


@pytest.mark.behaviour("FLOW-RET-3")
def test_a_failure_that_the_flow_caught_counts_when_it_returns_nothing():
    @flow
    def catches():
        try:
            fail()
        except CustomError:
            pass

    state = catches(return_state=True)

    assert state.is_failed()
    assert "1/1" in state.message


@pytest.mark.behaviour("FLOW-RET-3")
def test_a_failed_subflow_that_nobody_looked_at_counts_when_the_flow_returns_nothing():
    @flow
    def child():
        raise CustomError("in the child")

    @flow
    def parent():
        succeed()
        child(return_state=True)

    state = parent(return_state=True)

    assert state.is_failed()
    assert "1/2" in state.message


@pytest.mark.behaviour("FLOW-RET-3", "D10")
def test_the_data_of_a_flow_that_returns_nothing_is_the_states_of_its_tasks_and_then_of_its_subflows():
    @flow
    def child():
        return "from the child"

    @flow
    def parent():
        child()
        succeed.submit("a")
        succeed.submit("b")

    state = parent(return_state=True)
    states = list(state.result())

    assert state.is_completed()
    assert all(isinstance(one, State) and one.is_completed() for one in states)
    own = [run.id for run in read_task_runs(state) if run.task_name == "succeed"]
    assert {one.state_details.task_run_id for one in states[:2]} == set(own)
    assert len(states) == 3
    assert states[2].state_details.task_run_id not in own


@pytest.mark.behaviour("FLOW-RET-4")
def test_returning_nothing_without_tasks_completes_with_none():
    @flow
    def empty():
        pass

    state = empty(return_state=True)

    assert state.is_completed()
    assert state.result() is None
    assert empty() is None


@pytest.mark.behaviour("FLOW-RET-5")
def test_failed_tasks_do_not_fail_a_flow_that_returns_a_value():
    @flow
    def gives():
        fail.submit()
        fail(return_state=True)
        return "fine all the same"

    assert gives(return_state=True).is_completed()
    assert gives() == "fine all the same"


@pytest.mark.behaviour("FLOW-RET-6")
def test_a_returned_future_becomes_its_final_state():
    @flow
    def gives():
        return succeed.submit("x")

    state = gives(return_state=True)
    result = state.result()

    assert state.is_completed()
    assert isinstance(result, State)
    assert result.result() == "x"


@pytest.mark.behaviour("FLOW-RET-6")
@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda a, b: [a, b], list),
        (lambda a, b: (a, b), list),
        (lambda a, b: {a, b}, list),
        (lambda a, b: {"a": a, "b": b}, lambda found: list(found.values())),
        (lambda a, b: [a, [b]], lambda found: [found[0], *found[1]]),
    ],
    ids=["list", "tuple", "set", "dict", "nested"],
)
def test_futures_in_a_returned_collection_become_states(wrap: Any, unwrap: Any):
    shape = type(wrap(1, 2))

    @flow
    def gives():
        return wrap(succeed.submit("x"), succeed.submit("y"))

    state = gives(return_state=True)
    result = state.result()

    assert state.is_completed()
    assert type(result) is shape
    assert all(isinstance(one, State) for one in unwrap(result))
    assert sorted(one.result() for one in unwrap(result)) == ["x", "y"]


@pytest.mark.behaviour("FLOW-RET-6")
def test_a_returned_future_that_failed_fails_the_flow():
    @flow
    def gives():
        return fail.submit()

    state = gives(return_state=True)

    assert state.is_failed()
    with pytest.raises(CustomError):
        state.result()


@pytest.mark.behaviour("FLOW-RET-7")
@pytest.mark.parametrize("container", [list, tuple, set])
def test_a_collection_of_states_decides_and_stays_the_data(container: type):
    @flow
    def gives():
        return container([succeed(return_state=True), fail(return_state=True)])

    state = gives(return_state=True)

    assert state.is_failed()
    assert "1/2" in state.message
    assert type(state.result(raise_on_failure=False)) is container


@pytest.mark.behaviour("FLOW-RET-7")
def test_a_returned_state_of_a_run_decides_and_stays_the_data():
    @flow
    def gives(ok: bool):
        return succeed(return_state=True) if ok else fail(return_state=True)

    good, bad = gives(True, return_state=True), gives(False, return_state=True)

    assert good.is_completed()
    assert isinstance(good.result(), State)
    assert good.result().result() == 1
    assert bad.is_failed()
    assert good.state_details.flow_run_id != bad.state_details.flow_run_id


AGGREGATIONS = [
    ([Completed, Completed], "COMPLETED", "completed"),
    ([Completed, Failed, Failed], "FAILED", "2/3"),
    ([Completed, Failed, Cancelled], "CANCELLED", "1/3"),
    ([Failed, Cancelled, Paused], "CANCELLED", "1/3"),
    ([Completed, Failed, Paused], "PAUSED", "1/3"),
]


@pytest.mark.behaviour("FLOW-RET-8", "FLOW-RET-9")
@pytest.mark.parametrize(
    ("kinds", "type_", "part"), AGGREGATIONS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_list_of_states_aggregates_by_rank(kinds: list[Any], type_: str, part: str):
    @flow
    def gives():
        return [kind() for kind in kinds]

    state = gives(return_state=True)

    assert state.type == type_
    assert part in state.message.lower()


@pytest.mark.behaviour("FLOW-RET-9")
def test_crashed_states_count_as_failed_in_the_message():
    from core_engine.states import Crashed

    @flow
    def gives():
        return [Crashed(), Failed(), Completed()]

    state = gives(return_state=True)

    assert state.is_failed()
    assert "2/3" in state.message
    assert "failed" in state.message.lower()


@pytest.mark.behaviour("FLOW-RET-9")
def test_unfinished_states_fail_the_flow_and_the_message_says_so():
    @flow
    def gives():
        return [Pending(), Completed()]

    state = gives(return_state=True)

    assert state.is_failed()
    assert "1/2" in state.message
    assert "not final" in state.message.lower()


@pytest.mark.behaviour("FLOW-RET-10")
@pytest.mark.parametrize("kind", [Completed, Failed, Cancelled])
def test_a_state_made_by_hand_becomes_the_final_state(kind: Any):
    @flow
    def gives():
        return kind(name="My name", message="my words", data="my data")

    state = gives(return_state=True)

    assert state.type == kind().type
    assert (state.name, state.message) == ("My name", "my words")
    assert state.result(raise_on_failure=False) == "my data"


@pytest.mark.behaviour("FLOW-RET-11")
@pytest.mark.parametrize(
    "make", [lambda bad: [bad, 1], lambda bad: {"state": bad}, lambda bad: ("x", bad)], ids=["list", "dict", "tuple"]
)
def test_a_mixed_collection_is_plain_data(make: Any):
    @flow
    def gives():
        return make(Failed(message="only data"))

    state = gives(return_state=True)

    assert state.is_completed()
    assert type(state.result()) is type(make(1))


@pytest.mark.behaviour("FLOW-RET-12")
def test_a_quoted_value_is_not_searched():
    bad = Failed(message="only data")

    @flow
    def gives():
        return quote([bad])

    state = gives(return_state=True)

    assert state.is_completed()
    assert isinstance(state.result(), quote)
    assert state.result().unquote()[0] is bad


@pytest.mark.behaviour("FLOW-RET-12", "FUT-7")
def test_a_quoted_value_inside_a_returned_collection_is_left_alone():
    bad = Failed(message="only data")

    @flow
    def gives():
        return {"a": quote(bad)}, 1

    state = gives(return_state=True)

    assert state.is_completed()
    assert isinstance(state.result()[0]["a"], quote)
    assert state.result()[0]["a"].unquote() is bad


@pytest.mark.behaviour("FLOW-RET-13")
def test_a_generator_returned_by_a_task_becomes_a_list():
    @task
    def generates():
        return (i for i in range(3))

    @flow
    def gives():
        return generates(), generates.submit().result()

    assert gives() == ([0, 1, 2], [0, 1, 2])


@pytest.mark.behaviour("FLOW-RET-14")
def test_a_returned_cancelled_state_cancels_the_flow():
    @flow
    def gives():
        return Cancelled()

    assert gives(return_state=True).is_cancelled()


@pytest.mark.behaviour("FLOW-RET-14")
def test_a_returned_paused_state_pauses_the_flow_and_a_plain_call_raises():
    @flow
    def gives():
        return Paused(timeout_seconds=60)

    assert gives(return_state=True).is_paused()
    with pytest.raises(PausedRun):
        gives()


@pytest.mark.behaviour("FLOW-RET-15")
def test_a_nested_failure_rises_through_parents_that_return_nothing():
    @flow
    def innermost():
        raise CustomError("the root cause")

    @flow
    def middle():
        innermost(return_state=True)

    @flow
    def outermost():
        middle(return_state=True)

    state = outermost(return_state=True)

    assert state.is_failed()
    with pytest.raises(CustomError, match="the root cause"):
        state.result()


@pytest.mark.behaviour("FLOW-RET-16")
@pytest.mark.parametrize("raises", [False, True], ids=["returned", "raised"])
def test_submitted_tasks_are_awaited_before_the_final_state(runner: BaseTaskRunner, raises: bool):
    release = threading.Event()

    @task
    def slow():
        wait_until_set(release)

    @flow(task_runner=runner)
    def leaves_work():
        if runner.concurrency_type.name == "SEQUENTIAL":
            release.set()
        slow.submit()
        release.set()
        if raises:
            raise CustomError("after submitting")
        return 1

    state = leaves_work(return_state=True)

    assert state.is_failed() is raises
    (run,) = read_task_runs(flow_run_id(state))
    assert run.state_type == "COMPLETED"
    assert run.end_time <= state.timestamp
