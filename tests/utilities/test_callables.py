import functools
import gc
import inspect
import pickle
import weakref
from unittest.mock import AsyncMock, MagicMock, Mock

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_engine.exceptions import ParameterBindError, ReservedArgumentError, SignatureMismatchError
from core_engine.utilities.callables import (
    CallSignature,
    call_signature,
    call_with_parameters,
    callable_name,
    collapse_variadic_parameters,
    explode_variadic_parameter,
    get_call_parameters,
    parameters_to_args_kwargs,
    raise_for_reserved_arguments,
)


def plain(x, y=2):
    return x, y


def every_kind(a, /, b, c=3, *args, d, e=5, **kwargs):
    return a, b, c, args, d, e, kwargs


class Calculator:
    def add(self, x, y=1):
        return self, x, y

    @classmethod
    def make(cls, x):
        return cls, x

    @staticmethod
    def double(x):
        return 2 * x

    def __call__(self, x):
        return x


# Binding ------------------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("FLOW-PARAM-1", "TASK-CALL-8")
@pytest.mark.parametrize(
    ("args", "kwargs"), [((1,), {}), ((), {"x": 1}), ((1, 2), {}), ((1,), {"y": 2}), ((), {"y": 2, "x": 1})]
)
def test_arguments_are_bound_by_name_with_defaults_whatever_the_form_of_the_call(args, kwargs):
    bound = get_call_parameters(plain, args, kwargs)
    assert bound == {"x": 1, "y": 2}
    assert list(bound) == ["x", "y"]


@pytest.mark.behaviour("FLOW-PARAM-11")
def test_variadics_stand_under_their_own_names():
    bound = get_call_parameters(every_kind, (1, 2, 3, 4, 5), {"d": 6, "z": 7})
    assert bound == {"a": 1, "b": 2, "c": 3, "args": (4, 5), "d": 6, "e": 5, "kwargs": {"z": 7}}
    assert list(bound) == list(inspect.signature(every_kind).parameters)


@pytest.mark.behaviour("FLOW-PARAM-1", "FLOW-PARAM-11")
def test_variadics_that_were_not_given_are_empty():
    bound = get_call_parameters(every_kind, (1, 2), {"d": 6})
    assert bound["args"] == ()
    assert bound["kwargs"] == {}


@pytest.mark.behaviour("TASK-MAP-7")
def test_without_defaults_only_what_was_given_is_bound():
    assert get_call_parameters(every_kind, (1, 2), {"d": 6}, apply_defaults=False) == {"a": 1, "b": 2, "d": 6}
    assert get_call_parameters(plain, (1,), {"y": 2}, apply_defaults=False) == {"x": 1, "y": 2}
    given = get_call_parameters(every_kind, (1, 2, 3, 4), {"d": 6, "z": 7}, apply_defaults=False)
    assert given == {"a": 1, "b": 2, "c": 3, "args": (4,), "d": 6, "kwargs": {"z": 7}}


def test_false_and_none_are_values_that_were_given():
    assert get_call_parameters(plain, (None,), {"y": 0}, apply_defaults=False) == {"x": None, "y": 0}


def test_a_default_is_the_same_object_each_time():
    marker = []

    def f(x=marker, *, y=marker): ...

    bound = CallSignature.of(f).bind((), {})
    assert bound["x"] is marker
    assert bound["y"] is marker


@pytest.mark.behaviour("FLOW-PARAM-2", "TASK-CALL-8")
@pytest.mark.parametrize(
    ("args", "kwargs", "received"),
    [
        ((), {}, "()"),
        (("one", "two", "three"), {}, "('one', 'two', 'three')"),
        (("one",), {"z": "zed"}, "('one', z='zed')"),
        (("one",), {"x": "two"}, "('one', x='two')"),
    ],
    ids=["missing", "surplus", "misnamed", "given twice"],
)
def test_arguments_that_do_not_fit_are_refused_with_name_signature_and_what_was_received(args, kwargs, received):
    with pytest.raises(ParameterBindError) as raised:
        get_call_parameters(plain, args, kwargs)
    assert isinstance(raised.value, TypeError)
    assert "plain(x, y=2)" in str(raised.value)
    assert received in str(raised.value)


@pytest.mark.behaviour("FLOW-PARAM-2")
def test_arguments_that_do_not_fit_are_refused_without_defaults_too():
    with pytest.raises(ParameterBindError, match="every_kind"):
        get_call_parameters(every_kind, (1,), {}, apply_defaults=False)


@pytest.mark.behaviour("D32")
def test_secrets_are_masked_in_the_message():
    with pytest.raises(ParameterBindError) as raised:
        get_call_parameters(plain, (), {"db_password": "hunter2", "api_token": "abc123"})
    assert "hunter2" not in str(raised.value)
    assert "abc123" not in str(raised.value)


def test_long_and_broken_values_do_not_spoil_the_message():
    class Broken:
        def __repr__(self):
            raise RuntimeError("no repr")

    with pytest.raises(ParameterBindError) as raised:
        get_call_parameters(plain, ("x" * 100_000, Broken(), list(range(100_000))), {})
    assert len(str(raised.value)) < 1000
    assert "Broken" in str(raised.value)


def test_a_default_without_repr_does_not_spoil_the_message():
    class Broken:
        def __repr__(self):
            raise RuntimeError("no repr")

    def f(x, y=Broken()): ...  # noqa: B008

    with pytest.raises(ParameterBindError, match=r"f\(x, y\)"):
        get_call_parameters(f, (), {})


@pytest.mark.parametrize("name", ["p", "self", "cls", "function", "dict", "lambda_", "_private", "_UNSET", "ä"])
def test_no_parameter_name_is_special(name):
    scope: dict = {}
    exec(f"def f({name}, /, *args, {name}_2=1, **kwargs): return {name}", scope)
    bound = get_call_parameters(scope["f"], (1,), {"k": 2})
    assert bound == {name: 1, "args": (), f"{name}_2": 1, "kwargs": {"k": 2}}
    assert call_with_parameters(scope["f"], bound) == 1


def test_a_keyword_may_have_the_name_of_a_positional_only_parameter():
    def f(a, /, **kwargs):
        return a, kwargs

    bound = get_call_parameters(f, (1,), {"a": 2})
    assert bound == {"a": 1, "kwargs": {"a": 2}}
    assert call_with_parameters(f, bound) == (1, {"a": 2})


@pytest.mark.behaviour("FLOW-PARAM-14")
def test_self_and_cls_are_no_parameters():
    calculator = Calculator()
    assert get_call_parameters(calculator.add, (1,), {}) == {"x": 1, "y": 1}
    assert get_call_parameters(Calculator.make, (1,), {}) == {"x": 1}
    assert get_call_parameters(Calculator.double, (1,), {}) == {"x": 1}
    assert get_call_parameters(calculator, (1,), {}) == {"x": 1}
    assert call_with_parameters(calculator.add, {"x": 1, "y": 2}) == (calculator, 1, 2)
    assert call_with_parameters(Calculator.make, {"x": 1}) == (Calculator, 1)


def test_partials_decorated_functions_and_classes_have_their_visible_signature():
    @functools.wraps(plain)
    def decorated(*args, **kwargs):
        return plain(*args, **kwargs)

    class Thing:
        def __init__(self, x, y=2): ...

    assert get_call_parameters(functools.partial(every_kind, 1, d=4), (2,), {})["d"] == 4
    assert call_with_parameters(functools.partial(every_kind, 1, d=4), {"b": 2})[:2] == (1, 2)
    assert get_call_parameters(decorated, (1,), {}) == {"x": 1, "y": 2}
    assert call_with_parameters(decorated, {"x": 1}) == (1, 2)
    assert get_call_parameters(Thing, (1,), {}) == {"x": 1, "y": 2}


@pytest.mark.behaviour("TASK-DEF-3")
@pytest.mark.parametrize(
    "function", [Mock(), MagicMock(), AsyncMock(), max], ids=["Mock", "MagicMock", "AsyncMock", "max"]
)
def test_mocks_and_callables_without_readable_signature_take_anything(function):
    bound = get_call_parameters(function, (1, 2), {"key": 3})
    assert bound == {"args": (1, 2), "kwargs": {"key": 3}}
    assert parameters_to_args_kwargs(function, bound) == ((1, 2), {"key": 3})


def test_what_cannot_be_called_has_no_signature():
    with pytest.raises(TypeError):
        CallSignature.of(3)


@pytest.mark.behaviour("TASK-DEF-3")
def test_a_callable_is_named_after_its_function_or_its_class():
    assert callable_name(plain) == "plain"
    assert callable_name(functools.partial(functools.partial(plain), 1)) == "plain"
    assert callable_name(Calculator()) == "Calculator"
    assert callable_name(Calculator().add) == "add"
    assert callable_name(Mock()) == "Mock"


# Back to a call -----------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("FLOW-PARAM-11")
def test_parameters_become_arguments_of_the_right_kinds():
    parameters = {"a": 1, "b": 2, "c": 3, "args": (4, 5), "d": 6, "e": 7, "kwargs": {"z": 8}}
    assert parameters_to_args_kwargs(every_kind, parameters) == ((1, 2, 3, 4, 5), {"d": 6, "e": 7, "z": 8})
    assert call_with_parameters(every_kind, parameters) == (1, 2, 3, (4, 5), 6, 7, {"z": 8})


def test_parameters_with_defaults_may_be_missing_and_in_any_order():
    assert call_with_parameters(every_kind, {"d": 6, "b": 2, "a": 1}) == (1, 2, 3, (), 6, 5, {})
    assert call_with_parameters(plain, {"x": 1}) == (1, 2)


def test_the_arguments_do_not_share_a_dictionary_with_the_parameters():
    parameters = get_call_parameters(every_kind, (1, 2), {"d": 3, "z": 4})
    _, kwargs = parameters_to_args_kwargs(every_kind, parameters)
    kwargs["more"] = 1
    assert parameters["kwargs"] == {"z": 4}


@pytest.mark.behaviour("FLOW-PARAM-7")
@pytest.mark.parametrize("parameters", [{"x": 1, "unknown": 2}, {"y": 2}, {}])
def test_names_that_do_not_fit_are_refused_with_expected_and_provided_names(parameters):
    with pytest.raises(SignatureMismatchError) as raised:
        parameters_to_args_kwargs(plain, parameters)
    message = str(raised.value)
    assert "Expected: 'x', 'y'" in message
    assert f"Provided: {', '.join(map(repr, parameters)) or 'none'}" in message


def test_filling_up_adds_defaults_and_empty_variadics_in_order():
    filled = CallSignature.of(every_kind).fill({"d": 6, "b": 2, "a": 1})
    assert list(filled.items()) == [("a", 1), ("b", 2), ("c", 3), ("args", ()), ("d", 6), ("e", 5), ("kwargs", {})]


@st.composite
def functions_and_calls(draw):
    """A function of any signature, and arguments that may or may not fit it."""
    names = [f"p{i}" for i in range(draw(st.integers(0, 5)))]
    split = sorted((draw(st.integers(0, len(names))), draw(st.integers(0, len(names)))))
    positional, normal, keyword = names[: split[0]], names[split[0] : split[1]], names[split[1] :]
    first_default = draw(st.integers(0, split[1]))
    declared = [f"{n}=-1" if i >= first_default else n for i, n in enumerate(positional + normal)]
    declared[len(positional) : len(positional)] = ["/"] if positional else []
    star = draw(st.booleans())
    declared += ["*args"] if star else ["*"] if keyword else []
    declared += [f"{n}=-2" if draw(st.booleans()) else n for n in keyword]
    declared += ["**kwargs"] if draw(st.booleans()) else []
    scope: dict = {}
    exec(f"def f({', '.join(declared)}): return locals()", scope)
    values = st.integers(min_value=0)  # never equal to a default
    args = draw(st.lists(values, max_size=5))
    kwargs = draw(st.dictionaries(st.sampled_from([*names, "other", "args"]), values, max_size=5))
    return scope["f"], tuple(args), kwargs


@given(functions_and_calls())
def test_binding_agrees_with_the_interpreter(case):
    function, args, kwargs = case
    signature = CallSignature.of(function)
    try:
        expected = function(*args, **kwargs)
    except TypeError:
        with pytest.raises(ParameterBindError):
            signature.bind(args, kwargs)
        return
    bound = signature.bind(args, kwargs)
    assert bound == expected
    call_args, call_kwargs = signature.arguments(bound)
    assert function(*call_args, **call_kwargs) == expected
    given_only = {name: value for name, value in expected.items() if value not in (-1, -2, (), {})}
    assert signature.bind(args, kwargs, defaults=False) == given_only


# Reserved names -----------------------------------------------------------------------------------------------------


@pytest.mark.behaviour("FLOW-DEF-10", "TASK-DEF-4")
@pytest.mark.parametrize("name", ["return_state", "wait_for"])
@pytest.mark.parametrize("form", ["{}", "x, {}=None", "*, {}", "*{}", "**{}"])
def test_reserved_parameter_names_are_refused_by_name(name, form):
    scope: dict = {}
    exec(f"def f({form.format(name)}): ...", scope)
    with pytest.raises(ReservedArgumentError, match=f"'{name}'"):
        raise_for_reserved_arguments(scope["f"])
    assert issubclass(ReservedArgumentError, TypeError)


def test_other_names_are_not_reserved():
    raise_for_reserved_arguments(every_kind)
    with pytest.raises(ReservedArgumentError, match="'x'"):
        raise_for_reserved_arguments(plain, ["x"])


# Variadics ----------------------------------------------------------------------------------------------------------


def with_kwargs(x, **kwargs): ...


@pytest.mark.behaviour("UTIL-12", "TASK-MAP-8")
def test_exploding_moves_keyword_entries_to_the_top_level():
    parameters = {"x": 1, "kwargs": {"a": 2, "b": 3}}
    assert explode_variadic_parameter(with_kwargs, parameters) == {"x": 1, "a": 2, "b": 3}
    assert parameters == {"x": 1, "kwargs": {"a": 2, "b": 3}}


@pytest.mark.behaviour("UTIL-12")
def test_exploding_changes_nothing_without_keyword_entries():
    assert explode_variadic_parameter(plain, {"x": 1, "y": {"a": 1}}) == {"x": 1, "y": {"a": 1}}
    assert explode_variadic_parameter(with_kwargs, {"x": 1}) == {"x": 1}


@pytest.mark.behaviour("UTIL-12")
def test_collapsing_puts_unknown_names_back():
    assert collapse_variadic_parameters(with_kwargs, {"x": 1, "a": 2, "b": 3}) == {"x": 1, "kwargs": {"a": 2, "b": 3}}
    assert collapse_variadic_parameters(with_kwargs, {"x": 1}) == {"x": 1}


@pytest.mark.behaviour("UTIL-12")
def test_unknown_names_without_a_place_for_them_are_refused():
    with pytest.raises(ValueError, match=r"'a'.*'plain'.*'x', 'y'"):
        collapse_variadic_parameters(plain, {"x": 1, "a": 2})


def test_entries_that_could_not_be_told_from_parameters_are_refused():
    def f(a, /, **kwargs): ...

    for clash in ("a", "kwargs"):
        with pytest.raises(ValueError, match=f"'{clash}'"):
            explode_variadic_parameter(f, {"a": 1, "kwargs": {clash: 2}})


@given(st.dictionaries(st.text(min_size=1).filter(lambda n: n not in ("x", "kwargs")), st.integers(), min_size=1))
def test_collapsing_reverses_exploding(entries):
    parameters = {"x": 0, "kwargs": entries}
    assert collapse_variadic_parameters(with_kwargs, explode_variadic_parameter(with_kwargs, parameters)) == parameters


# The object itself --------------------------------------------------------------------------------------------------


def test_a_signature_survives_pickling():
    for dumps in (pickle.dumps, cloudpickle.dumps):
        signature = CallSignature.of(every_kind)
        signature.bind((1, 2), {"d": 3})
        copy = pickle.loads(dumps(signature))
        assert copy.name == "every_kind"
        assert copy.bind((1, 2), {"d": 3}) == signature.bind((1, 2), {"d": 3})


def test_a_signature_is_compiled_once_per_function_and_lets_it_go():
    def f(x): ...

    assert call_signature(f) is call_signature(f)
    reference = weakref.ref(f)
    del f
    gc.collect()
    assert reference() is None


def test_callables_that_cannot_be_hashed_have_a_signature():
    class Unhashable:
        __hash__ = None

        def __call__(self, x): ...

    assert get_call_parameters(Unhashable(), (1,), {}) == {"x": 1}


def test_it_knows_whether_anything_is_annotated():
    def annotated(x, *args: int): ...

    assert CallSignature.of(annotated).is_annotated
    assert not CallSignature.of(plain).is_annotated
