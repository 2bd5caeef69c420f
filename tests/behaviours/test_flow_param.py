"""FLOW-PARAM: parameters of flows and their schema."""

import datetime
import enum
import functools
import json
import logging
from dataclasses import dataclass
from typing import Any

import pydantic
import pytest

from core_engine import flow, task
from core_engine.exceptions import ParameterBindError, ParameterTypeError
from tests.behaviours.conftest import LogRecords
from tests.behaviours.helpers import read_flow_run, read_flow_runs


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Model(pydantic.BaseModel):
    x: int


class Opaque:
    """Nothing that JSON could say."""


@pytest.mark.behaviour("FLOW-PARAM-1")
def test_arguments_are_bound_and_defaults_filled_in_on_the_run():
    @flow
    def bound(x, y=2, *, z=3):
        return x, y, z

    state = bound(1, z=4, return_state=True)

    assert state.result() == (1, 2, 4)
    assert read_flow_run(state).parameters == {"x": 1, "y": 2, "z": 4}


@pytest.mark.behaviour("FLOW-PARAM-2")
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"unknown": 5})],
    ids=["missing", "surplus", "misnamed"],
)
def test_arguments_that_do_not_fit_raise_before_any_run_exists(args: tuple[Any, ...], kwargs: dict[str, Any]):
    @flow
    def picky(first, second=0):
        pytest.fail("The function ran")

    with pytest.raises(ParameterBindError) as caught:
        picky(*args, **kwargs, return_state=True)

    assert isinstance(caught.value, TypeError)
    for part in ("picky", "first, second=0", *map(str, args), *map(str, kwargs)):
        assert part in str(caught.value)
    assert read_flow_runs() == []


@pytest.mark.behaviour("FLOW-PARAM-3")
def test_values_are_coerced_to_their_annotations():
    @flow
    def typed(a: int, b: list[int], c: Model, d: Colour):
        return a, b, c, d

    assert typed("1", ["2", 3], {"x": "4"}, "red") == (1, [2, 3], Model(x=4), Colour.RED)


@pytest.mark.behaviour("FLOW-PARAM-4")
def test_values_pass_unchanged_without_validation():
    @flow(validate_parameters=False)
    def unchecked(a: int, b: Model):
        return a, b

    value = {"x": "no number"}
    a, b = unchecked("text", value)

    assert a == "text"
    assert b == {"x": "no number"}


@pytest.mark.behaviour("FLOW-PARAM-5")
def test_values_that_fail_validation_make_a_failed_run():
    @flow
    def typed(a: int):
        pytest.fail("The function ran")

    state = typed("not a number", return_state=True)

    assert state.is_failed()
    assert read_flow_run(state).state_type == "FAILED"
    with pytest.raises(ParameterTypeError):
        state.result()


@pytest.mark.behaviour("FLOW-PARAM-5")
def test_a_plain_call_with_values_that_fail_validation_raises_and_leaves_a_failed_run():
    @flow
    def typed(a: int):
        pytest.fail("The function ran")

    with pytest.raises(ParameterTypeError):
        typed("not a number")

    assert [run.state_type for run in read_flow_runs()] == ["FAILED"]


@pytest.mark.behaviour("FLOW-PARAM-6")
def test_the_message_of_failed_validation_names_the_class_and_each_bad_parameter():
    @flow
    def typed(first: int, second: int, third: int): ...

    message = typed("a", 2, "b", return_state=True).message

    assert "alidation" in message
    assert "ParameterTypeError" in message
    assert "first:" in message
    assert "third:" in message
    assert "second:" not in message


@pytest.mark.behaviour("FLOW-PARAM-7")
def test_any_other_exception_during_validation_fails_the_run_with_it():
    class Explosive(pydantic.BaseModel):
        x: int

        @pydantic.field_validator("x")
        @classmethod
        def explode(cls, value: int) -> int:
            raise ZeroDivisionError("boom in the validator")

    @flow
    def typed(model: Explosive): ...

    state = typed({"x": 1}, return_state=True)

    assert state.is_failed()
    assert "ZeroDivisionError" in state.message
    assert "boom in the validator" in state.message
    with pytest.raises(ZeroDivisionError, match="boom"):
        state.result()


@pytest.mark.behaviour("FLOW-PARAM-8")
def test_instances_of_arbitrary_classes_pass_by_identity_and_others_fail():
    @flow
    def typed(value: Opaque):
        return value

    opaque = Opaque()

    assert typed(opaque) is opaque
    assert typed("something else", return_state=True).is_failed()


@pytest.mark.behaviour("FLOW-PARAM-9")
def test_a_value_that_cannot_be_serialised_reaches_the_flow_and_is_stored_as_a_placeholder(log: LogRecords):
    opaque = Opaque()
    seen = []

    @flow
    def takes_anything(value, cls):
        seen.append((value, cls))
        return 1

    state = takes_anything(opaque, Exception, return_state=True)

    assert seen == [(opaque, Exception)]
    stored = read_flow_run(state).parameters
    assert stored["value"] == "<Opaque>"
    assert stored["cls"].startswith("<")
    json.dumps(stored)
    assert any("value" in message for message in log.messages(logging.DEBUG))


@dataclass
class Point:
    x: int


KINDS = [
    pytest.param(Model, Model(x=1), id="model"),
    pytest.param(list, [1, 2], id="list"),
    pytest.param(dict, {"a": 1}, id="dict"),
    pytest.param(set, {1, 2}, id="set"),
    pytest.param(int, 5, id="int"),
    pytest.param(str, "text", id="str"),
    pytest.param(Colour, Colour.BLUE, id="enum"),
    pytest.param(Point, Point(3), id="dataclass"),
]


@pytest.mark.behaviour("FLOW-PARAM-10")
@pytest.mark.parametrize(("kind", "value"), KINDS)
def test_a_kind_of_value_passes_into_a_flow(kind: type, value: Any):
    @flow
    def takes(x: kind):  # type: ignore[valid-type]
        return x

    assert takes(value) == value


@pytest.mark.behaviour("FLOW-PARAM-10")
@pytest.mark.parametrize(("kind", "value"), KINDS)
def test_a_kind_of_value_passes_into_a_subflow_directly_and_through_a_future(kind: type, value: Any):
    @task
    def give():
        return value

    @flow
    def child(x: kind):  # type: ignore[valid-type]
        return x

    @flow
    def parent():
        return child(value), child(give.submit())

    assert parent() == (value, value)


@pytest.mark.behaviour("FLOW-PARAM-11")
def test_variadic_parameters_are_stored_under_their_own_names_and_expanded_for_the_call():
    @flow
    def variadic(first, *rest, **named):
        return first, rest, named

    state = variadic(1, 2, 3, a=4, b=5, return_state=True)

    assert state.result() == (1, (2, 3), {"a": 4, "b": 5})
    stored = read_flow_run(state).parameters
    assert set(stored) == {"first", "rest", "named"}
    assert list(stored["rest"]) == [2, 3]
    assert stored["named"] == {"a": 4, "b": 5}


@pytest.mark.behaviour("FLOW-PARAM-12")
def test_the_parameter_schema_lists_properties_in_order_with_position_and_default():
    @flow
    def described(x: int, y: str = "hello"): ...

    schema = dict(described.parameters) if isinstance(described.parameters, dict) else described.parameters.model_dump()

    assert schema["title"] == "Parameters"
    assert schema["type"] == "object"
    assert list(schema["properties"]) == ["x", "y"]
    assert [schema["properties"][name]["position"] for name in ("x", "y")] == [0, 1]
    assert [schema["properties"][name]["title"] for name in ("x", "y")] == ["x", "y"]
    assert schema["properties"]["x"]["type"] == "integer"
    assert schema["properties"]["y"]["default"] == "hello"
    assert schema["required"] == ["x"]


@pytest.mark.behaviour("FLOW-PARAM-13")
def test_the_parameter_schema_knows_times_enums_containers_and_awkward_names():
    @flow
    def described(
        when: datetime.datetime,
        json: int,
        copy: list[int],
        validate: dict[str, int],
        colour: Colour,
        anything,
        schema: Opaque,
    ): ...

    schema = described.parameters if isinstance(described.parameters, dict) else described.parameters.model_dump()
    properties = schema["properties"]

    assert properties["when"]["format"] == "date-time"
    assert properties["json"]["type"] == "integer"
    assert properties["copy"]["type"] == "array"
    assert properties["validate"]["type"] == "object"
    assert "Colour" in str(properties["colour"])
    assert "type" not in properties["anything"]
    assert "type" not in properties["schema"]


class Holder:
    @flow
    def bound(self, x: int):
        return type(self), x

    @classmethod
    @flow
    def of_class(cls, x: int):
        return cls, x

    @staticmethod
    @flow
    def static(x: int):
        return x


@pytest.mark.behaviour("FLOW-PARAM-14")
def test_methods_of_all_kinds_work_as_flows():
    holder = Holder()

    assert holder.bound("1") == (Holder, 1)
    assert Holder.of_class("2") == (Holder, 2)
    assert holder.static("3") == 3


class Shelf:
    power = flow(functools.partial(pow, 2), name="power")


def test_a_flow_of_a_callable_without_binding_stays_as_it_is_where_a_class_has_it():
    assert Shelf().power is Shelf.power
    assert Shelf().power(3) == 8


@pytest.mark.behaviour("FLOW-PARAM-15")
def test_the_args_section_of_the_docstring_describes_parameters():
    @flow
    def described(x, y):
        """Do it.

        Args:
            x: the first of them,
                said at length
            y: the second
        """

    schema = described.parameters if isinstance(described.parameters, dict) else described.parameters.model_dump()

    assert "said at length" in schema["properties"]["x"]["description"]
    assert schema["properties"]["y"]["description"] == "the second"
