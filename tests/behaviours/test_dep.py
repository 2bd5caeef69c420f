"""DEP: dependencies between runs and how they are recorded."""

from dataclasses import dataclass
from typing import Any

import pydantic
import pytest

from core_engine import allow_failure, flow, quote, task, unmapped
from core_engine.exceptions import CoreEngineError
from core_engine.states import Completed
from tests.behaviours.helpers import input_ids, read_task_run, stored_task_state, task_run_id


class CustomError(Exception):
    pass


class Model(pydantic.BaseModel):
    x: Any


@dataclass
class Box:
    content: Any


class Opaque:
    pass


@task
def give(x: Any = 1) -> Any:
    return x


@task
def fail() -> None:
    raise CustomError("no")


@task
def take(a: Any = None, b: Any = None) -> Any:
    return 1


@pytest.mark.behaviour("DEP-1")
def test_futures_and_states_anywhere_in_arguments_become_their_results():
    @task
    def show(value):
        return [value]

    @flow
    def parent():
        future, state = give.submit("f"), give("s", return_state=True)
        return show([future, (state, {"k": {future}}), Box(state), Model(x=future)])[0]

    assert parent() == ["f", ("s", {"k": {"f"}}), Box("s"), Model(x="f")]


@pytest.mark.behaviour("DEP-2")
def test_inputs_have_a_key_for_every_parameter():
    @task
    def variadic(a, *rest, b=5, **named):
        return 1

    @flow
    def parent():
        f, g, h = give.submit(1), give.submit(2), give.submit(3)
        return [f, g, h, variadic.submit(f, g, 0, b=h, c=[f, g]), variadic.submit(1)]

    states = parent(return_state=True).result()
    f, g, h = (task_run_id(state) for state in states[:3])
    inputs = input_ids(read_task_run(states[3]))

    assert set(inputs) == {"a", "rest", "b", "named"}
    assert inputs["a"] == [f]
    assert inputs["rest"] == [g]
    assert inputs["b"] == [h]
    assert set(inputs["named"]) == {f, g}
    assert input_ids(read_task_run(states[4])) == {"a": [], "rest": [], "b": [], "named": []}


@pytest.mark.behaviour("DEP-2")
def test_an_upstream_is_listed_once_in_a_parameter_and_under_each_parameter():
    @flow
    def parent():
        upstream = give.submit(1)
        return [upstream, take.submit([upstream, upstream], upstream)]

    upstream, state = parent(return_state=True).result()
    inputs = read_task_run(state).task_inputs

    assert input_ids(read_task_run(state)) == {"a": [task_run_id(upstream)], "b": [task_run_id(upstream)]}
    assert inputs["a"][0].input_type == "task_run"


@pytest.mark.behaviour("DEP-3")
def test_wait_for_orders_without_passing_data_and_is_recorded_only_when_given():
    @flow
    def parent():
        upstream = give.submit(1)
        return [upstream, take.submit(1, wait_for=[upstream]), take.submit(1)]

    upstream, waiting, plain = parent(return_state=True).result()

    assert input_ids(read_task_run(waiting)) == {"a": [], "b": [], "wait_for": [task_run_id(upstream)]}
    assert input_ids(read_task_run(plain)) == {"a": [], "b": []}


@pytest.mark.behaviour("DEP-4")
def test_wait_for_takes_futures_states_and_plain_results():
    @flow
    def parent():
        future, state, value_state = give.submit(1), give(2, return_state=True), give(["a result"], return_state=True)
        return [future, state, value_state, take.submit(wait_for=[future, state, value_state.result()])]

    *upstreams, waiting = parent(return_state=True).result()

    assert set(input_ids(read_task_run(waiting))["wait_for"]) == {task_run_id(state) for state in upstreams}


TRACKED = {
    "str": lambda: "a text of its own".upper(),
    "float": lambda: float("1.25"),
    "list": lambda: [1],
    "dict": lambda: {"a": 1},
    "set": lambda: {1},
    "tuple": lambda: (1, [2]),
    "large int": lambda: int("300000"),
    "object": Opaque,
}


@pytest.mark.behaviour("DEP-5", "PROP-5")
@pytest.mark.parametrize("make", TRACKED.values(), ids=TRACKED)
@pytest.mark.parametrize("way", ["call", "future", "state"])
def test_a_plain_result_handed_to_a_later_task_is_recognised(make: Any, way: str):
    @flow
    def parent():
        state = give.submit(make(), return_state=True)
        if way == "call":
            first = give(make())
            return [state, take(first, return_state=True)]
        if way == "future":
            future = give.submit(make())
            return [future, take(future.result(), return_state=True)]
        return [state, take(state.result(), return_state=True)]

    upstream, state = parent(return_state=True).result()
    (found,) = input_ids(read_task_run(state))["a"]

    if way == "call":
        assert read_task_run(found).task_name == "give"
        assert found != task_run_id(upstream)
    else:
        assert found == task_run_id(upstream)


@pytest.mark.behaviour("DEP-6")
@pytest.mark.parametrize("value", [True, False, None, Ellipsis, NotImplemented, -5, 0, 256], ids=repr)
def test_constants_are_not_tracked(value: Any):
    @flow
    def parent():
        return take(give(value), return_state=True)

    state = parent(return_state=True).result()

    assert input_ids(read_task_run(state)) == {"a": [], "b": []}


@pytest.mark.behaviour("DEP-7")
@pytest.mark.parametrize(
    ("make", "unpack"),
    [
        (lambda x: [x, "other"], lambda value: value[0]),
        (lambda x: ("other", x), lambda value: value[1]),
        (lambda x: {"k": x}, lambda value: value["k"]),
        (lambda x: Model(x=x), lambda value: value.x),
    ],
    ids=["list", "tuple", "dict", "model"],
)
def test_members_of_a_returned_collection_are_linked(make: Any, unpack: Any):
    @flow
    def parent():
        upstream = give.submit(make(["inner"]))
        return [upstream, take(unpack(upstream.result()), return_state=True)]

    upstream, state = parent(return_state=True).result()

    assert input_ids(read_task_run(state))["a"] == [task_run_id(upstream)]


@pytest.mark.behaviour("DEP-7")
def test_deeper_members_are_not_linked():
    @flow
    def parent():
        return take(give([[["deep"]]])[0][0], return_state=True)

    assert input_ids(read_task_run(parent(return_state=True).result()))["a"] == []


@pytest.mark.behaviour("DEP-8")
@pytest.mark.parametrize(
    ("value", "untrackable"),
    [(5, True), ([1, None], True), ({"a": True}, True), (["text of its own"], False), ([[5]], False)],
)
def test_an_untrackable_result_is_marked(value: Any, untrackable: bool):
    @flow
    def parent():
        state = give(value, return_state=True)
        state.result()
        return state

    state = parent(return_state=True).result()

    assert state.state_details.untrackable_result is untrackable


@pytest.mark.behaviour("D11", "I10")
def test_an_object_that_two_runs_returned_names_no_upstream():
    shared = ["shared by both"]

    @task
    def same():
        return shared

    @flow
    def parent():
        first, second = same(), same()
        assert first is second
        return take(first, return_state=True)

    assert input_ids(read_task_run(parent(return_state=True).result()))["a"] == []


@pytest.mark.behaviour("DEP-9")
def test_changing_a_returned_list_keeps_its_link():
    @flow
    def parent():
        upstream = give.submit(["one"])
        value = upstream.result()
        value.append("two")
        return [upstream, take(value, return_state=True)]

    upstream, state = parent(return_state=True).result()

    assert input_ids(read_task_run(state))["a"] == [task_run_id(upstream)]


@pytest.mark.behaviour("DEP-10")
def test_a_subflow_does_not_see_the_links_of_its_parent():
    @flow
    def child(x):
        return take(x, return_state=True)

    @flow
    def parent():
        return child(give(["a result"]), return_state=True)

    inner = parent(return_state=True).result().result()

    assert input_ids(read_task_run(inner))["a"] == []


@pytest.mark.behaviour("I10")
def test_links_of_one_run_are_unknown_to_the_next():
    kept = []

    @flow
    def first():
        kept.append(give(["a result"]))
        return 1

    @flow
    def second():
        return take(kept[0], return_state=True)

    first()

    assert input_ids(read_task_run(second(return_state=True).result()))["a"] == []


@pytest.mark.behaviour("DEP-11")
def test_the_state_of_a_subflow_records_its_parent_task_run():
    @flow
    def child():
        return ["from the child"]

    @flow
    def parent():
        child_state = child(return_state=True)
        return [child_state, take(child_state, return_state=True)]

    child_state, state = parent(return_state=True).result()
    (found,) = input_ids(read_task_run(state))["a"]

    assert found == child_state.state_details.task_run_id
    assert read_task_run(found).is_subflow


@pytest.mark.behaviour("DEP-12")
def test_an_allowed_failure_is_tracked_and_quoted_data_is_not():
    @flow
    def parent():
        failed, fine = fail.submit(), give.submit(1)
        failed.wait()
        fine.wait()
        return [take.submit(allow_failure(failed), quote([fine])), take.submit(unmapped(fine)), fine]

    tracked, unwrapped, fine = parent(return_state=True).result()

    inputs = input_ids(read_task_run(tracked))
    assert len(inputs["a"]) == 1
    assert stored_task_state(inputs["a"][0]).is_failed()
    assert inputs["b"] == []
    assert input_ids(read_task_run(unwrapped))["a"] == [task_run_id(fine)]


@pytest.mark.behaviour("DEP-13")
def test_an_argument_that_cannot_be_searched_is_an_error_that_names_it_and_suggests_quote():
    class Explosive(pydantic.BaseModel):
        x: Any = 1

        def __getattribute__(self, name: str) -> Any:
            if name in ("x", "__dict__", "__pydantic_fields_set__", "model_fields_set"):
                raise CustomError("do not look")
            return super().__getattribute__(name)

    explosive = Explosive.__new__(Explosive)

    @flow
    def parent():
        take(b=explosive)

    with pytest.raises(CoreEngineError, match=r"(?s)'?b'?.*quote"):
        parent()


@pytest.mark.behaviour("DEP-1")
def test_a_state_made_by_hand_in_an_argument_becomes_its_data():
    @flow
    def parent():
        return give([Completed(data="x")])

    assert parent() == ["x"]
