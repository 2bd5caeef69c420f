"""FLOW-DEF: definition and options of flows."""

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from core_engine import Flow, flow
from core_engine.exceptions import InvalidNameError, ReservedArgumentError
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner
from tests.behaviours.helpers import setting


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.behaviour("FLOW-DEF-1")
def test_the_bare_decorator_gives_a_flow_with_the_functions_metadata():
    def my_function(x):
        """What it does."""

    made = flow(my_function)

    assert isinstance(made, Flow)
    assert made.fn is my_function
    assert made.__name__ == "my_function"
    assert made.__doc__ == "What it does."
    assert made.__module__ == __name__


@pytest.mark.behaviour("FLOW-DEF-1")
def test_the_decorator_with_options_gives_a_flow_with_the_functions_metadata():
    @flow(name="other")
    def my_function(x):
        """What it does."""
        return x + 1

    assert isinstance(my_function, Flow)
    assert my_function.fn(1) == 2
    assert my_function.__name__ == "my_function"
    assert my_function.__doc__ == "What it does."


OPTIONS = {
    "name": "a name",
    "version": "3.1",
    "flow_run_name": "run of {x}",
    "retries": 2,
    "retry_delay_seconds": 1.5,
    "task_runner": SequentialTaskRunner(),
    "description": "words",
    "timeout_seconds": 3.5,
    "persist_result": True,
    "result_serializer": "json",
    "cache_result_in_memory": False,
    "log_prints": True,
}


@pytest.mark.behaviour("FLOW-DEF-2")
@pytest.mark.parametrize("option", OPTIONS)
def test_a_flow_keeps_each_option_under_its_name(option: str):
    made = flow(**{option: OPTIONS[option]})(lambda x: x)

    assert getattr(made, option) == OPTIONS[option]


@pytest.mark.behaviour("FLOW-DEF-2")
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("validate_parameters", False),
        ("result_storage", None),
        ("on_completion", [print]),
        ("on_failure", [print]),
        ("on_cancellation", [print]),
        ("on_crashed", [print]),
    ],
)
def test_a_flow_accepts_the_other_options(option: str, value: Any):
    assert isinstance(flow(**{option: value})(lambda: 1), Flow)


@pytest.mark.behaviour("FLOW-DEF-2")
def test_a_flow_refuses_an_option_that_does_not_exist():
    with pytest.raises(TypeError, match="colour"):
        flow(colour="red")(lambda: 1)


@pytest.mark.behaviour("FLOW-DEF-3")
@pytest.mark.parametrize("fn", ["a text", 1, object()])
def test_a_flow_of_something_that_cannot_be_called_is_a_type_error(fn: Any):
    with pytest.raises(TypeError):
        Flow(fn=fn, name="x")


@pytest.mark.behaviour("FLOW-DEF-4")
def test_the_default_name_is_the_functions_with_dashes_for_underscores():
    @flow
    def my_first_flow(): ...

    assert my_first_flow.name == "my-first-flow"


@pytest.mark.behaviour("FLOW-DEF-4")
def test_an_explicit_name_is_kept_as_given():
    assert flow(name="My_own name")(lambda: 1).name == "My_own name"


@pytest.mark.behaviour("FLOW-DEF-5")
def test_a_name_that_is_no_text_is_a_type_error_naming_parameter_and_type():
    with pytest.raises(TypeError, match=r"(?s)name.*int"):
        flow(name=1)(lambda: 1)


@pytest.mark.behaviour("FLOW-DEF-5")
def test_a_callable_as_name_gets_the_hint_to_call_it():
    def make_name():
        return "x"

    with pytest.raises(TypeError, match="call"):
        flow(name=make_name)(lambda: 1)


@pytest.mark.behaviour("FLOW-DEF-6")
@pytest.mark.parametrize("character", "/%&><")
def test_a_forbidden_character_in_an_explicit_name_is_an_error(character: str):
    with pytest.raises(InvalidNameError, match="character") as caught:
        flow(name=f"a{character}b")(lambda: 1)

    assert isinstance(caught.value, ValueError)


@pytest.mark.behaviour("FLOW-DEF-6")
def test_the_default_name_is_not_checked_for_forbidden_characters():
    made = flow(lambda: 1)

    assert made.name == "<lambda>"
    assert made.with_options(retries=1).name == "<lambda>"


@pytest.mark.behaviour("FLOW-DEF-7")
def test_the_default_version_is_a_hash_of_the_defining_files_bytes(tmp_path: Path):
    source = "from core_engine import flow\n\n@flow\ndef versioned():\n    return 1\n"
    paths = [tmp_path / f"{name}.py" for name in ("one", "same", "other")]
    for path, text in zip(paths, [source, source, source + "# changed\n"], strict=True):
        path.write_text(text)
    one, same, other = (load_module(path).versioned.version for path in paths)

    assert isinstance(one, str)
    assert one == same
    assert one != other


@pytest.mark.behaviour("FLOW-DEF-7")
def test_an_explicit_version_wins():
    assert flow(version="2024-1")(lambda: 1).version == "2024-1"


@pytest.mark.behaviour("FLOW-DEF-8")
def test_the_version_is_none_when_the_source_file_is_unknown():
    names: dict[str, Any] = {}
    exec("def typed_at_a_prompt(): ...", names)

    assert flow(names["typed_at_a_prompt"]).version is None


@pytest.mark.behaviour("FLOW-DEF-9")
def test_the_description_is_the_cleaned_docstring():
    def documented():
        """First line.

        Second paragraph.
        """

    assert flow(documented).description == inspect.cleandoc("First line.\n\nSecond paragraph.\n")
    assert flow(description="own words")(documented).description == "own words"


@pytest.mark.behaviour("FLOW-DEF-10")
@pytest.mark.parametrize("name", ["return_state", "wait_for"])
def test_a_reserved_parameter_name_is_refused_at_definition(name: str):
    names: dict[str, Any] = {}
    exec(f"def taken(x, {name}=None): ...", names)

    with pytest.raises(ReservedArgumentError, match=name) as caught:
        flow(names["taken"])
    assert isinstance(caught.value, TypeError)


@pytest.mark.behaviour("FLOW-DEF-11")
def test_a_task_runner_may_be_a_class_or_an_instance():
    instance = SequentialTaskRunner()

    assert isinstance(flow(task_runner=SequentialTaskRunner)(lambda: 1).task_runner, SequentialTaskRunner)
    assert flow(task_runner=instance)(lambda: 1).task_runner is instance


@pytest.mark.behaviour("FLOW-DEF-11")
@pytest.mark.parametrize("options", [{}, {"task_runner": None}], ids=["unset", "none"])
def test_without_a_task_runner_a_flow_has_a_concurrent_one(options: dict[str, Any]):
    assert isinstance(flow(**options)(lambda: 1).task_runner, ConcurrentTaskRunner)


@pytest.mark.behaviour("FLOW-DEF-12")
def test_a_task_runner_may_be_a_registered_name():
    assert isinstance(flow(task_runner="sequential")(lambda: 1).task_runner, SequentialTaskRunner)


class HasFormat:
    """Not a text, whatever it can do."""

    def format(self, **values: Any) -> str:
        return "text"


@pytest.mark.behaviour("FLOW-DEF-13")
@pytest.mark.parametrize("value", [1, HasFormat()])
def test_a_run_name_that_is_neither_text_nor_callable_is_a_type_error(value: Any):
    with pytest.raises(TypeError, match=rf"(?s)flow_run_name.*{type(value).__name__}"):
        flow(flow_run_name=value)(lambda: 1)


@pytest.mark.behaviour("FLOW-DEF-14")
def test_retries_and_delay_are_zero_by_default():
    made = flow(lambda: 1)

    assert (made.retries, made.retry_delay_seconds) == (0, 0)


@pytest.mark.behaviour("FLOW-DEF-14")
def test_retries_and_delay_left_out_come_from_the_settings_at_definition():
    with setting(FLOW_DEFAULT_RETRIES=3, FLOW_DEFAULT_RETRY_DELAY_SECONDS=7):
        made = flow(lambda: 1)
        explicit = flow(retries=0, retry_delay_seconds=0)(lambda: 1)

    assert (made.retries, made.retry_delay_seconds) == (3, 7)
    assert (explicit.retries, explicit.retry_delay_seconds) == (0, 0)


@pytest.mark.behaviour("FLOW-DEF-15")
def test_the_timeout_is_stored_as_a_float_and_zero_means_none():
    made = flow(timeout_seconds=2)(lambda: 1)

    assert made.timeout_seconds == 2.0
    assert isinstance(made.timeout_seconds, float)
    assert flow(timeout_seconds=0)(lambda: 1).timeout_seconds is None
    assert flow(timeout_seconds=None)(lambda: 1).timeout_seconds is None
    assert flow(lambda: 1).timeout_seconds is None


HOOK_OPTIONS = ["on_completion", "on_failure", "on_cancellation", "on_crashed"]


@pytest.mark.behaviour("FLOW-DEF-16")
@pytest.mark.parametrize("option", HOOK_OPTIONS)
def test_an_empty_list_of_hooks_is_a_value_error_naming_the_option(option: str):
    with pytest.raises(ValueError, match=option):
        flow(**{option: []})(lambda: 1)


@pytest.mark.behaviour("FLOW-DEF-16")
@pytest.mark.parametrize("option", HOOK_OPTIONS)
def test_hooks_that_are_no_list_are_a_type_error_naming_option_and_type(option: str):
    def hook(flow, flow_run, state): ...

    with pytest.raises(TypeError, match=rf"(?s){option}.*function"):
        flow(**{option: hook})(lambda: 1)


@pytest.mark.behaviour("FLOW-DEF-16")
@pytest.mark.parametrize("option", HOOK_OPTIONS)
def test_a_hook_that_cannot_be_called_is_a_type_error_naming_option_and_type(option: str):
    with pytest.raises(TypeError, match=rf"(?s){option}.*str"):
        flow(**{option: [print, "not callable"]})(lambda: 1)


@pytest.mark.behaviour("FLOW-DEF-18")
def test_another_flow_of_the_same_name_warns_with_name_and_place():
    @flow(name="taken-name")
    def first(): ...

    with pytest.warns(UserWarning, match=r"(?s)taken-name.*test_flow_def\.py"):

        @flow(name="taken-name")
        def second(): ...


@pytest.mark.behaviour("FLOW-DEF-18")
def test_wrapping_the_same_function_again_does_not_warn(recwarn: pytest.WarningsRecorder):
    def wrapped_twice(): ...

    flow(wrapped_twice)
    flow(wrapped_twice).with_options(retries=1)

    assert not recwarn.list


@pytest.mark.behaviour("FLOW-DEF-19")
def test_with_options_gives_a_new_flow_and_keeps_what_is_not_given():
    original = flow(
        name="original",
        description="d",
        version="1",
        retries=3,
        retry_delay_seconds=4,
        timeout_seconds=5,
        task_runner=SequentialTaskRunner(),
        persist_result=True,
        log_prints=True,
        flow_run_name="n",
    )(lambda: 1)
    changed = original.with_options(name="changed", timeout_seconds=9)

    assert changed is not original
    assert changed.fn is original.fn
    assert (changed.name, changed.timeout_seconds) == ("changed", 9.0)
    assert (original.name, original.timeout_seconds) == ("original", 5.0)
    for option in ("description", "version", "retries", "retry_delay_seconds", "persist_result", "log_prints"):
        assert getattr(changed, option) == getattr(original, option)
    assert changed.task_runner == original.task_runner


@pytest.mark.behaviour("FLOW-DEF-20")
def test_with_options_takes_exactly_the_decorators_options_as_keywords():
    decorators = set(inspect.signature(Flow.__init__).parameters) - {"self", "fn"}
    parameters = inspect.signature(Flow.with_options).parameters
    options = {name: parameter for name, parameter in parameters.items() if name != "self"}

    assert set(options) == decorators
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in options.values())


@pytest.mark.behaviour("FLOW-DEF-21")
def test_with_options_can_unset_what_has_a_none():
    original = flow(name="n", timeout_seconds=5, persist_result=True, result_serializer="json", log_prints=True)(
        lambda: 1
    )
    changed = original.with_options(timeout_seconds=0, persist_result=None, result_serializer=None, log_prints=None)

    assert changed.timeout_seconds is None
    assert changed.persist_result is None
    assert changed.result_serializer is None
    assert changed.log_prints is None


@pytest.mark.behaviour("FLOW-DEF-21")
def test_with_options_makes_an_instance_of_a_task_runner_class():
    changed = flow(name="n")(lambda: 1).with_options(task_runner=SequentialTaskRunner)

    assert isinstance(changed.task_runner, SequentialTaskRunner)


@pytest.mark.behaviour("FLOW-DEF-21")
def test_with_options_replaces_hooks():
    called = []

    def first_hook(flow, flow_run, state):
        called.append("first")

    def second_hook(flow, flow_run, state):
        called.append("second")

    @flow(on_completion=[first_hook])
    def hooked():
        return 1

    hooked.with_options(on_completion=[second_hook])()

    assert called == ["second"]


@pytest.mark.behaviour("FLOW-DEF-22")
def test_with_options_accepts_zero_retries_and_keeps_the_run_name():
    original = flow(name="n", retries=3, retry_delay_seconds=2, flow_run_name="named")(lambda: 1)
    changed = original.with_options(retries=0, retry_delay_seconds=0)

    assert (changed.retries, changed.retry_delay_seconds) == (0, 0)
    assert changed.flow_run_name == "named"
