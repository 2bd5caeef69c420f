import dataclasses
import datetime
import enum
import json
from typing import Any

import pytest
from pydantic import BaseModel

from core_engine.utilities import callables
from core_engine.utilities.schemas import ParameterSchema, parameter_schema


class Colour(enum.Enum):
    RED = "red"


class Part(BaseModel):
    colour: Colour


class Model(BaseModel):
    x: int
    part: Part | None = None


@dataclasses.dataclass
class Record:
    number: int


class Opaque:
    pass


def properties_of(annotation: Any) -> dict[str, Any]:
    def function(x): ...

    function.__annotations__["x"] = annotation
    schema = parameter_schema(function)
    json.dumps(schema)
    return schema["properties"]["x"]


@pytest.mark.behaviour("FLOW-PARAM-12")
def test_a_function_without_parameters_has_an_empty_schema():
    assert parameter_schema(lambda: None) == {"title": "Parameters", "type": "object", "properties": {}}


@pytest.mark.behaviour("FLOW-PARAM-12")
def test_properties_stand_in_order_with_title_position_and_default():
    def f(x: int, y: str = "hello", *, z: list[int] = [1]): ...  # noqa: B006

    assert parameter_schema(f) == {
        "title": "Parameters",
        "type": "object",
        "properties": {
            "x": {"title": "x", "position": 0, "type": "integer"},
            "y": {"title": "y", "position": 1, "type": "string", "default": "hello"},
            "z": {"title": "z", "position": 2, "type": "array", "items": {"type": "integer"}, "default": [1]},
        },
        "required": ["x"],
    }
    assert list(parameter_schema(f)["properties"]) == ["x", "y", "z"]


@pytest.mark.behaviour("FLOW-PARAM-12")
def test_required_is_left_out_where_nothing_is():
    assert "required" not in parameter_schema(lambda x=1: x)


@pytest.mark.behaviour("FLOW-PARAM-12")
def test_models_and_enums_are_defined_once_and_referred_to():
    def f(a: Model, b: list[Model], c: Colour): ...

    schema = parameter_schema(f)
    assert schema["properties"]["a"]["allOf"] == [{"$ref": "#/definitions/Model"}]
    assert schema["properties"]["b"]["items"] == {"$ref": "#/definitions/Model"}
    assert schema["properties"]["c"]["allOf"] == [{"$ref": "#/definitions/Colour"}]
    assert set(schema["definitions"]) == {"Model", "Part", "Colour"}
    assert schema["definitions"]["Colour"]["enum"] == ["red"]
    assert "$defs" not in json.dumps(schema)


def test_two_models_of_one_name_have_two_definitions():
    class Other(BaseModel):
        y: str

    Other.__name__ = Other.__qualname__ = "Model"

    def f(a: Model, b: Other): ...

    f.__annotations__["b"] = Other
    schema = parameter_schema(f)
    references = [schema["properties"][name]["allOf"][0]["$ref"] for name in "ab"]
    assert len(set(references)) == 2
    assert {reference.removeprefix("#/definitions/") for reference in references} <= set(schema["definitions"])


@pytest.mark.behaviour("FLOW-PARAM-13")
@pytest.mark.parametrize("annotation", [Any, Opaque, type[Opaque], "UnknownToEverybody", object])
def test_what_json_cannot_express_has_no_type(annotation):
    assert properties_of(annotation) == {"title": "x", "position": 0}


@pytest.mark.behaviour("FLOW-PARAM-13")
def test_an_unannotated_parameter_has_no_type():
    assert parameter_schema(lambda x: x)["properties"]["x"] == {"title": "x", "position": 0}


@pytest.mark.behaviour("FLOW-PARAM-13")
@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (datetime.datetime, {"type": "string", "format": "date-time"}),
        (datetime.timedelta, {"type": "number", "format": "time-delta"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (list[Opaque], {"type": "array", "items": {}}),
        (set[str], {"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Record, {"allOf": [{"$ref": "#/definitions/Record"}]}),
    ],
    ids=str,
)
def test_annotations_have_their_schema(annotation, expected):
    assert properties_of(annotation) == {"title": "x", "position": 0, **expected}


@pytest.mark.behaviour("FLOW-PARAM-13")
@pytest.mark.parametrize("name", ["json", "copy", "schema", "validate", "dict", "model_config", "_private"])
def test_parameters_appear_under_their_real_names(name):
    scope: dict = {}
    exec(f"def f({name}: int): ...", scope)
    schema = parameter_schema(scope["f"])
    assert schema["properties"] == {name: {"title": name, "position": 0, "type": "integer"}}
    assert schema["required"] == [name]


@pytest.mark.behaviour("FLOW-PARAM-12")
def test_defaults_are_given_as_json_or_left_out():
    def f(a=Colour.RED, b=Model(x=1), c=Opaque(), d=None, e=datetime.date(2026, 1, 2)): ...  # noqa: B008

    schema = parameter_schema(f)
    defaults = {name: p["default"] for name, p in schema["properties"].items() if "default" in p}
    assert defaults == {"a": "red", "b": {"x": 1, "part": None}, "d": None, "e": "2026-01-02"}
    assert "required" not in schema


@pytest.mark.behaviour("FLOW-PARAM-11", "FLOW-PARAM-12")
def test_variadics_are_an_array_and_an_object_and_not_required():
    def f(x, *args: int, **kwargs): ...

    schema = parameter_schema(f)
    assert schema["properties"]["args"] == {
        "title": "args",
        "position": 1,
        "type": "array",
        "items": {"type": "integer"},
    }
    assert schema["properties"]["kwargs"] == {"title": "kwargs", "position": 2, "type": "object"}
    assert schema["required"] == ["x"]


@pytest.mark.behaviour("FLOW-PARAM-14")
def test_methods_are_described_without_self_and_cls():
    class C:
        def method(self, x: int): ...

        @classmethod
        def of_class(cls, x: int): ...

        @staticmethod
        def static(x: int): ...

    for function in (C().method, C.of_class, C.static):
        assert parameter_schema(function)["properties"] == {"x": {"title": "x", "position": 0, "type": "integer"}}


@pytest.mark.behaviour("FLOW-PARAM-15")
def test_descriptions_come_from_the_docstring():
    def f(x: int, y: Model, z=1):
        """Does.

        Args:
            x: the first,
                at length
            y: the second
        """

    properties = parameter_schema(f)["properties"]
    assert properties["x"]["description"] == "the first,\nat length"
    assert properties["y"]["description"] == "the second"
    assert "description" not in properties["z"]


def test_a_schema_is_a_dictionary_with_attributes():
    schema = parameter_schema(lambda x: x)
    assert isinstance(schema, ParameterSchema)
    assert schema.title == "Parameters"
    assert schema.properties is schema["properties"]
    assert type(schema.dict()) is dict
    with pytest.raises(AttributeError, match="definitions"):
        _ = schema.definitions
    assert callables.parameter_schema(lambda x: x) == schema
