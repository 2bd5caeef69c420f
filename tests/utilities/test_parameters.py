# ruff: noqa: UP007, UP045  (the old spellings of unions count too)

import dataclasses
import datetime
import decimal
import enum
import functools
import pathlib
import subprocess
import sys
import typing
import warnings
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NewType, Optional, Protocol, TypedDict, TypeVar, Union

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator

from core_engine.exceptions import ParameterTypeError, SignatureMismatchError
from core_engine.utilities.parameters import MOST_REASONS, check_signature_is_validatable, validate_parameters
from tests.support.ids import stable_repr


class Opaque:
    pass


class Model(BaseModel):
    x: int


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Record:
    number: int
    opaque: Opaque | None = None


class Quacks(Protocol):
    def quack(self): ...


@typing.runtime_checkable
class Speaks(Protocol):
    def speak(self): ...


class Refusing:
    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        raise TypeError("no schema")


class Options(TypedDict):
    x: int


T = TypeVar("T")
UserId = NewType("UserId", int)


def function_of(annotation):
    def function(x): ...

    function.__annotations__["x"] = annotation
    return function


def validated(annotation, value):
    function = function_of(annotation)
    check_signature_is_validatable(function)
    return validate_parameters(function, {"x": value})["x"]


def refusal(annotation, value):
    with pytest.raises(ParameterTypeError) as raised:
        validated(annotation, value)
    assert isinstance(raised.value, TypeError)
    return str(raised.value)


# Coercion -----------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("FLOW-PARAM-3", "FLOW-PARAM-10")
@pytest.mark.parametrize(
    ("annotation", "value", "coerced"),
    [
        (int, "1", 1),
        (float, "1.5", 1.5),
        (str, 5, "5"),
        (bool, "yes", True),
        (list[int], ["1", 2], [1, 2]),
        (list[int], ("1", 2), [1, 2]),
        (set[int], ["1", "1"], {1}),
        (dict[str, int], {"a": "1"}, {"a": 1}),
        (tuple[int, str], ["1", "b"], (1, "b")),
        (Sequence[int], ["1"], [1]),
        (Mapping[str, int], {"a": "1"}, {"a": 1}),
        (Model, {"x": "1"}, Model(x=1)),
        (list[Model], [{"x": 1}], [Model(x=1)]),
        (dict[str, list[Model]], {"a": [{"x": 1}]}, {"a": [Model(x=1)]}),
        (Record, {"number": "1"}, Record(1)),
        (Colour, "red", Colour.RED),
        (Optional[int], "1", 1),
        (int | None, None, None),
        (Union[int, list[int]], ["1"], [1]),
        (Literal["a", "b"], "a", "a"),
        (datetime.datetime, "2026-01-02T03:04:05", datetime.datetime(2026, 1, 2, 3, 4, 5)),
        (datetime.timedelta, 60, datetime.timedelta(seconds=60)),
        (pathlib.Path, "a/b", pathlib.Path("a/b")),
        (decimal.Decimal, "1.5", decimal.Decimal("1.5")),
        (UserId, "1", 1),
        (Annotated[int, Field(gt=0)], "1", 1),
        ("int", "1", 1),
        ("list['Model']", [{"x": 1}], [Model(x=1)]),
        (list["Model"], [{"x": 1}], [Model(x=1)]),
    ],
)
def test_values_are_coerced_leniently_to_their_annotations(annotation, value, coerced):
    result = validated(annotation, value)
    assert result == coerced
    assert type(result) is type(coerced)


def test_texts_become_secrets():
    assert validated(SecretStr, "hidden").get_secret_value() == "hidden"


@pytest.mark.behaviour("FLOW-PARAM-8")
@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Opaque, Opaque()),
        (Optional[Opaque], Opaque()),
        (Model, Model(x=1)),
        (Record, Record(1, Opaque())),
        (object, Opaque()),
        (Any, Opaque()),
        (T, Opaque()),
        (type[Opaque], Opaque),
        (type, Exception),
        (Exception, ValueError("x")),
        (Callable[[int], int], len),
        (Quacks, Opaque()),
        (list[Quacks], [Opaque()]),
        (Iterable[int], [1, 2]),
        (Optional[Iterable[int]], [1, 2]),
        (Iterable, [1]),
        (Iterator[int], iter([1])),
        (Generator[int, None, None], (n for n in [1])),
        ("UnknownToEverybody", Opaque()),
        ("not even python", Opaque()),
        ("list['UnknownToEverybody']", [Opaque()]),
    ],
    ids=stable_repr,
)
def test_objects_pass_by_identity(annotation, value):
    result = validated(annotation, value)
    if annotation == list[Quacks]:
        result, value = result[0], value[0]
    assert result is value


@pytest.mark.behaviour("FLOW-PARAM-8")
@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Opaque, 1),
        (Opaque, "Opaque"),
        (list[Opaque], [1]),
        (Optional[Opaque], 1),
        (type[Opaque], int),
        (Speaks, Opaque()),
        (Iterable[int], 5),
        (AsyncIterator[int], [1]),
        (Callable, 5),
    ],
    ids=stable_repr,
)
def test_what_is_no_instance_is_refused(annotation, value):
    assert "\nx: " in refusal(annotation, value)


def test_typed_dicts_are_accepted():
    assert validated(Options, {"x": 1}) == {"x": 1}
    assert validated(list[Options], [{"x": 1}]) == [{"x": 1}]
    refusal(Options, 5)


def test_a_one_shot_iterator_is_not_consumed():
    iterator = iter([1, 2])
    assert list(validated(Iterator[int], iterator)) == [1, 2]


# Defaults and variadics -------------------------------------------------------------------------------------------


@pytest.mark.behaviour("FLOW-PARAM-3")
def test_defaults_are_filled_in_and_coerced():
    def f(x: int, y: int = "2", *, z: Colour = "red"): ...  # type: ignore[assignment]

    result = validate_parameters(f, {"x": "1"})
    assert result == {"x": 1, "y": 2, "z": Colour.RED}
    assert list(result) == ["x", "y", "z"]


def test_a_default_of_none_makes_a_parameter_optional():
    def f(x: int = None): ...  # type: ignore[assignment]  # noqa: RUF013

    assert validate_parameters(f, {"x": None}) == {"x": None}
    assert validate_parameters(f, {"x": "1"}) == {"x": 1}
    with pytest.raises(ParameterTypeError, match="x: "):
        validate_parameters(f, {"x": "one"})


def test_a_default_that_does_not_fit_is_its_authors_choice():
    not_given = object()

    def f(x: int = not_given, y: int = 1): ...  # type: ignore[assignment]

    assert validate_parameters(f, {})["x"] is not_given
    with pytest.raises(ParameterTypeError):
        validate_parameters(f, {"x": object()})


@pytest.mark.behaviour("FLOW-PARAM-11")
def test_annotations_of_variadics_are_those_of_their_elements():
    def f(*args: int, **kwargs: float): ...

    assert validate_parameters(f, {"args": ("1", 2), "kwargs": {"a": "1.5"}}) == {
        "args": (1, 2),
        "kwargs": {"a": 1.5},
    }
    with pytest.raises(ParameterTypeError, match=r"args: at 1: .*\nkwargs: at a: "):
        validate_parameters(f, {"args": (1, "b"), "kwargs": {"a": "b"}})


def test_unannotated_parameters_pass_by_identity():
    value = [object()]
    assert validate_parameters(lambda x: x, {"x": value})["x"] is value


# Misfits ------------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("FLOW-PARAM-6")
def test_the_message_has_one_entry_for_each_bad_parameter():
    def ship(a: int, b: str, c: list[int], d: Model): ...

    with pytest.raises(ParameterTypeError) as raised:
        validate_parameters(ship, {"a": "x", "b": "fine", "c": [1, "y", "z"], "d": {}})
    first, *entries = str(raised.value).splitlines()
    assert "ship" in first
    assert [entry.partition(": ")[0] for entry in entries] == ["a", "c", "d"]
    assert "valid integer" in entries[0]
    assert "(received str)" in entries[0]
    assert "at 1: " in entries[1]
    assert "at 2: " in entries[1]
    assert "at x: " in entries[2]


def test_a_thousand_bad_elements_do_not_make_a_thousand_reasons():
    message = refusal(list[int], ["a"] * 1000)
    assert message.count("valid integer") == MOST_REASONS
    assert f"and {1000 - MOST_REASONS} more" in message


@pytest.mark.behaviour("D32")
def test_the_message_does_not_show_values():
    assert "hunter2" not in refusal(int, "hunter2")


@pytest.mark.behaviour("FLOW-PARAM-7")
@pytest.mark.parametrize("parameters", [{"x": 1, "z": 2}, {"y": 1}])
def test_names_that_do_not_fit_are_refused_with_both_lists(parameters):
    def f(x: int, y: int = 0): ...

    with pytest.raises(SignatureMismatchError) as raised:
        validate_parameters(f, parameters)
    assert "'x', 'y'" in str(raised.value)
    assert ", ".join(map(repr, parameters)) in str(raised.value)


@pytest.mark.behaviour("FLOW-PARAM-7")
def test_any_other_exception_during_validation_passes_through():
    class Explosive(BaseModel):
        x: int

        @field_validator("x")
        @classmethod
        def explode(cls, value):
            raise ZeroDivisionError("boom")

    with pytest.raises(ZeroDivisionError, match="boom"):
        validated(Explosive, {"x": 1})


# Definition ---------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("FLOW-PARAM-13")
@pytest.mark.parametrize(
    "name",
    ["json", "copy", "schema", "validate", "dict", "model_config", "model_fields", "_private", "__dunder", "self"],
)
def test_no_name_clashes_with_those_of_the_validator(name):
    scope: dict = {}
    exec(f"def f({name}: int): ...", scope)
    check_signature_is_validatable(scope["f"])
    assert validate_parameters(scope["f"], {name: "1"}) == {name: 1}


@pytest.mark.behaviour("FLOW-DEF-17")
def test_names_that_belong_to_validation_are_refused_at_definition():
    def f(v__args): ...

    with pytest.raises(ValueError, match=r"'v__args'.*validate_parameters=False"):
        check_signature_is_validatable(f)


@pytest.mark.behaviour("FLOW-DEF-17")
def test_annotations_without_validator_are_refused_at_definition():
    with pytest.raises(ValueError, match=r"'x' of 'function'.*validate_parameters=False"):
        check_signature_is_validatable(function_of(list[Refusing]))


def test_a_class_that_pydantic_can_make_nothing_of_is_checked_by_instance():
    value = Refusing()
    assert validated(Refusing, value) is value
    refusal(Refusing, 1)


# Postponed annotations ----------------------------------------------------------------------------------------------


def in_module(source, **names):
    scope = {"__name__": "made_up", **names}
    exec(compile("from __future__ import annotations\n" + source, "made_up.py", "exec"), scope)
    return scope


def test_postponed_annotations_are_resolved_with_the_functions_globals():
    scope = in_module("def f(x: Model, y: int = 0): ...", Model=Model)
    assert validate_parameters(scope["f"], {"x": {"x": "1"}, "y": "2"}) == {"x": Model(x=1), "y": 2}


def test_names_that_are_defined_later_count_from_then_on():
    scope = in_module("def f(x: Later): ...")
    check_signature_is_validatable(scope["f"])
    assert validate_parameters(scope["f"], {"x": "1"}) == {"x": "1"}
    scope["Later"] = int
    assert validate_parameters(scope["f"], {"x": "1"}) == {"x": 1}


def test_postponed_annotations_see_what_the_function_closes_over():
    scope = in_module("def outer(Local):\n    def f(x: Local):\n        return Local\n    return f")
    assert validate_parameters(scope["outer"](int), {"x": "1"}) == {"x": 1}


def test_decorated_functions_partials_methods_and_callables_have_their_own_globals():
    scope = in_module(
        "def f(x: Model): ...\n"
        "class C:\n"
        "    def method(self, x: Model): ...\n"
        "    @classmethod\n"
        "    def of_class(cls, x: Model): ...\n"
        "    def __call__(self, x: Model): ...\n"
        "class Made:\n"
        "    def __init__(self, x: Model): ...\n",
        Model=Model,
    )

    @functools.wraps(scope["f"])
    def decorated(*args, **kwargs): ...

    instance = scope["C"]()
    for function in (
        decorated,
        functools.partial(scope["f"]),
        instance.method,
        instance.of_class,
        instance,
        scope["Made"],
    ):
        assert validate_parameters(function, {"x": {"x": "1"}}) == {"x": Model(x=1)}


def test_models_with_fields_defined_later_are_accepted_at_definition():
    scope = in_module("class M(BaseModel):\n    part: Part\ndef f(m: M): ...", BaseModel=BaseModel)
    check_signature_is_validatable(scope["f"])
    scope["Part"] = Model
    scope["M"].model_rebuild(_types_namespace=scope)
    assert validate_parameters(scope["f"], {"m": {"part": {"x": "1"}}})["m"].part == Model(x=1)


def test_validation_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        validated(dict[str, list[Model | None]], {"a": [None]})


def test_the_signature_module_does_not_load_pydantic():
    script = (
        "import sys\n"
        "import core_engine.utilities.callables, core_engine.utilities.collections, core_engine.utilities.hashing\n"
        "import core_engine.utilities.names, core_engine.utilities.importing, core_engine.annotations\n"
        "heavy = {'pydantic', 'asyncio', 'sqlalchemy', 'httpx', 'yaml', 'rich', 'unittest.mock'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
