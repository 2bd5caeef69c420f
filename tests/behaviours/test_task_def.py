"""TASK-DEF: definition and options of tasks."""

import datetime
import inspect
import logging
from typing import Any
from unittest.mock import MagicMock

import pytest

from core_engine import Task, flow, runtime, task
from core_engine.exceptions import ReservedArgumentError
from core_engine.tasks import task_input_hash
from tests.behaviours.conftest import LogRecords
from tests.behaviours.helpers import read_task_run, read_task_runs, setting


class CustomError(Exception):
    pass


@pytest.mark.behaviour("TASK-DEF-1")
def test_the_bare_decorator_gives_a_task():
    def my_task(x):
        """What it does."""

    made = task(my_task)

    assert isinstance(made, Task)
    assert made.fn is my_task
    assert (made.__name__, made.__doc__, made.__module__) == ("my_task", "What it does.", __name__)


OPTIONS: dict[str, Any] = {
    "name": "a name",
    "description": "words",
    "tags": {"a", "b"},
    "version": "3.1",
    "cache_key_fn": task_input_hash,
    "cache_expiration": datetime.timedelta(days=1),
    "task_run_name": "run of {x}",
    "retries": 2,
    "retry_jitter_factor": 0.5,
    "persist_result": True,
    "result_storage_key": "key",
    "result_serializer": "json",
    "cache_result_in_memory": False,
    "timeout_seconds": 3.5,
    "log_prints": True,
    "refresh_cache": True,
    "viz_return_value": 5,
}


@pytest.mark.behaviour("TASK-DEF-1")
@pytest.mark.parametrize("option", OPTIONS)
def test_a_task_keeps_each_option_under_its_name(option: str):
    made = task(**{option: OPTIONS[option]})(lambda x: x)

    assert isinstance(made, Task)
    assert getattr(made, option) == OPTIONS[option]


@pytest.mark.behaviour("TASK-DEF-1")
@pytest.mark.parametrize(
    ("option", "value"),
    [("retry_delay_seconds", 2), ("result_storage", None), ("on_completion", [print]), ("on_failure", [print])],
)
def test_a_task_accepts_the_other_options(option: str, value: Any):
    assert isinstance(task(**{option: value})(lambda: 1), Task)


@pytest.mark.behaviour("TASK-DEF-1")
def test_a_task_refuses_an_option_that_does_not_exist():
    with pytest.raises(TypeError, match="colour"):
        task(colour="red")(lambda: 1)


@pytest.mark.behaviour("TASK-DEF-2")
def test_the_default_name_is_the_functions_unchanged():
    @task
    def my_first_task(): ...

    assert my_first_task.name == "my_first_task"
    assert task(name="My own-name")(lambda: 1).name == "My own-name"


@pytest.mark.behaviour("TASK-DEF-2")
def test_a_version_is_stored_on_the_run_and_none_without():
    @task(version="v1")
    def versioned(): ...

    @task
    def plain(): ...

    @flow
    def parent():
        return [versioned(return_state=True), plain(return_state=True)]

    states = parent(return_state=True).result()

    assert plain.version is None
    assert [read_task_run(state).task_version for state in states] == ["v1", None]


class CallableObject:
    def __call__(self, x):
        return x + 1


@pytest.mark.behaviour("TASK-DEF-3")
def test_a_callable_object_is_a_task_named_after_its_class():
    made = task(CallableObject())

    @flow
    def parent():
        return made(1), made.submit(2).result()

    assert made.name == "CallableObject"
    assert "CallableObject" in made.task_key
    assert parent() == (2, 3)


@pytest.mark.behaviour("TASK-DEF-3")
def test_a_mock_works_as_a_task():
    mock = MagicMock(return_value=5)
    made = task(mock)

    @flow
    def parent():
        return made()

    assert parent() == 5
    mock.assert_called_once_with()


@pytest.mark.behaviour("TASK-DEF-4")
@pytest.mark.parametrize("name", ["return_state", "wait_for"])
def test_a_reserved_parameter_name_is_refused_at_definition(name: str):
    names: dict[str, Any] = {}
    exec(f"def taken(x, {name}=None): ...", names)

    with pytest.raises(ReservedArgumentError, match=name):
        task(names["taken"])


@pytest.mark.behaviour("TASK-DEF-5")
def test_a_run_name_that_is_neither_text_nor_callable_is_a_type_error():
    with pytest.raises(TypeError, match=r"(?s)task_run_name.*int"):
        task(task_run_name=1)(lambda: 1)
    assert task(lambda: 1).task_run_name is None


@pytest.mark.behaviour("TASK-DEF-5")
def test_a_run_name_is_a_template_over_parameters_and_defaults_filled_for_every_call():
    @task(task_run_name="{x}-and-{y}")
    def named(x, y="default"):
        return runtime.task_run.name

    @flow
    def parent():
        return [named("a", return_state=True), named.submit("b"), *named.map(["c", "d"])]

    states = parent(return_state=True).result()
    expected = [f"{x}-and-default" for x in "abcd"]

    assert [read_task_run(state).name for state in states] == expected
    assert [state.result() for state in states] == expected


@pytest.mark.behaviour("TASK-DEF-5")
def test_a_callable_makes_the_run_name_once_per_run_and_not_per_retry():
    made, executions = [], []

    def make_name():
        made.append(1)
        return f"{runtime.task_run.task_name} {runtime.task_run.parameters['x']} {len(made)}"

    @task(task_run_name=make_name, retries=1)
    def named(x):
        executions.append(1)
        if len(executions) == 1:
            raise CustomError("once more")

    @flow
    def parent():
        return [named(5, return_state=True), named(6, return_state=True)]

    states = parent(return_state=True).result()

    assert [read_task_run(state).name for state in states] == ["named 5 1", "named 6 2"]


@pytest.mark.behaviour("TASK-DEF-5")
def test_a_callable_that_gives_no_text_fails_the_run_with_a_type_error():
    def makes_a_number():
        return 5

    @task(task_run_name=makes_a_number)
    def named():
        pytest.fail("The function ran")

    @flow
    def parent():
        return named()

    with pytest.raises(TypeError, match=r"(?s)(?=.*makes_a_number)(?=.*task_run_name)(?=.*int)"):
        parent()


@pytest.mark.behaviour("TASK-DEF-6")
def test_more_than_fifty_retry_delays_are_a_value_error():
    with pytest.raises(ValueError, match="50|many"):
        task(retries=60, retry_delay_seconds=[1] * 51)(lambda: 1)
    assert task(retries=60, retry_delay_seconds=[1] * 50)(lambda: 1).retries == 60


@pytest.mark.behaviour("TASK-DEF-6")
def test_a_negative_jitter_is_a_value_error():
    with pytest.raises(ValueError, match="retry_jitter_factor"):
        task(retries=1, retry_delay_seconds=1, retry_jitter_factor=-1)(lambda: 1)


@pytest.mark.behaviour("TASK-DEF-7")
def test_retries_and_delay_left_out_come_from_the_settings():
    executions = []
    with setting(TASK_DEFAULT_RETRIES=2, TASK_DEFAULT_RETRY_DELAY_SECONDS=0):

        @task
        def retried():
            executions.append(1)
            raise CustomError("again")

        explicit = task(retries=0)(lambda: 1)

    @flow
    def parent():
        retried()

    parent(return_state=True)

    assert retried.retries == 2
    assert len(executions) == 3
    assert explicit.retries == 0
    assert task(lambda: 1).retries == 0


@pytest.mark.behaviour("TASK-DEF-8")
def test_another_task_of_the_same_name_warns_with_name_and_place():
    @task(name="taken-task-name")
    def first(): ...

    with pytest.warns(UserWarning, match=r"(?s)taken-task-name.*test_task_def\.py:\d+"):

        @task(name="taken-task-name")
        def second(): ...


@pytest.mark.behaviour("TASK-DEF-8")
def test_with_options_of_the_same_function_does_not_warn(recwarn: pytest.WarningsRecorder):
    @task
    def wrapped_twice(): ...

    wrapped_twice.with_options(retries=1)

    assert not recwarn.list


@pytest.mark.behaviour("TASK-DEF-9")
def test_with_options_gives_a_new_task_and_keeps_what_is_not_given():
    kept = {name: value for name, value in OPTIONS.items() if name not in ("name", "timeout_seconds")}
    original = task(name="original", timeout_seconds=5, **kept)(lambda x: x)
    changed = original.with_options(name="changed", timeout_seconds=9)

    assert changed is not original
    assert changed.fn is original.fn
    assert (changed.name, changed.timeout_seconds) == ("changed", 9.0)
    assert (original.name, original.timeout_seconds) == ("original", 5.0)
    for option, value in kept.items():
        assert getattr(changed, option) == value, option


@pytest.mark.behaviour("TASK-DEF-9")
def test_with_options_of_a_task_takes_all_options_but_the_version_as_keywords():
    parameters = {
        name: parameter for name, parameter in inspect.signature(Task.with_options).parameters.items() if name != "self"
    }
    expected = set(OPTIONS) - {"version"} | {"retry_delay_seconds", "result_storage", "on_completion", "on_failure"}

    assert expected <= set(parameters)
    assert "version" not in parameters
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters.values())


@pytest.mark.behaviour("TASK-DEF-9")
def test_with_options_of_a_task_honours_zeros_and_nones():
    original = task(
        retries=3,
        retry_delay_seconds=5,
        persist_result=True,
        result_serializer="json",
        result_storage_key="key",
        refresh_cache=True,
    )(lambda: 1)
    changed = original.with_options(
        retries=0,
        retry_delay_seconds=0,
        persist_result=None,
        result_serializer=None,
        result_storage=None,
        result_storage_key=None,
        refresh_cache=None,
    )

    assert changed.retries == 0
    assert changed.retry_delay_seconds in (0, [0], (0,))
    for option in ("persist_result", "result_serializer", "result_storage", "result_storage_key", "refresh_cache"):
        assert getattr(changed, option) is None, option


@pytest.mark.behaviour("TASK-DEF-10")
def test_tags_are_a_set_that_with_options_copies_or_replaces():
    original = task(tags=["a", "b"])(lambda: 1)
    copied, replaced = original.with_options(retries=1), original.with_options(tags=["c"])

    assert original.tags == {"a", "b"}
    assert replaced.tags == {"c"}
    assert copied.tags == original.tags
    if isinstance(copied.tags, set):
        copied.tags.add("d")
        assert original.tags == {"a", "b"}


def make_hook(calls: list[Any], name: str) -> Any:
    def noting_hook(task, task_run, state):
        calls.append((name, task.name, task_run.id, state.name))

    return noting_hook


def make_async_hook(calls: list[Any], name: str) -> Any:
    async def noting_hook(task, task_run, state):
        calls.append((name, task.name, task_run.id, state.name))

    return noting_hook


@pytest.mark.behaviour("TASK-DEF-11")
def test_completion_hooks_get_task_task_run_and_state_in_order():
    calls: list[Any] = []
    hooks = [make_hook(calls, "first"), make_async_hook(calls, "second"), make_hook(calls, "third")]

    @task(on_completion=hooks, on_failure=[make_hook(calls, "failure")])
    def hooked():
        return 1

    @flow
    def parent():
        return hooked(return_state=True)

    state = parent(return_state=True).result()
    run_id = state.state_details.task_run_id

    assert calls == [(name, "hooked", run_id, "Completed") for name in ("first", "second", "third")]


@pytest.mark.behaviour("TASK-DEF-11")
def test_failure_hooks_run_once_after_the_last_retry():
    calls: list[Any] = []
    executions = []

    @task(on_failure=[make_hook(calls, "failure")], on_completion=[make_hook(calls, "completion")], retries=2)
    def hooked():
        executions.append(len(calls))
        raise CustomError("no")

    @flow
    def parent():
        hooked.submit().wait()
        return 1

    parent()

    assert executions == [0, 0, 0]
    assert [(call[0], call[3]) for call in calls] == [("failure", "Failed")]


@pytest.mark.behaviour("TASK-DEF-11")
def test_an_exception_in_a_task_hook_is_logged_and_changes_nothing(log: LogRecords):
    calls: list[Any] = []

    def raises(task, task_run, state):
        raise CustomError("the hook broke")

    @task(on_completion=[raises, make_hook(calls, "later")])
    def hooked():
        return 1

    @flow
    def parent():
        return hooked()

    assert parent() == 1
    assert [call[0] for call in calls] == ["later"]
    assert "the hook broke" in log.text


@pytest.mark.behaviour("TASK-DEF-11")
def test_a_hook_whose_parameters_have_other_names_is_told_the_right_ones(log: LogRecords):
    @task(on_completion=[lambda task, run, state: None])
    def hooked():
        return 1

    flow(lambda: hooked())()

    (error,) = log.messages(logging.ERROR)
    assert "must be named task, task_run, state" in error


@pytest.mark.behaviour("TASK-DEF-11")
@pytest.mark.parametrize("option", ["on_completion", "on_failure"])
def test_task_hooks_are_checked_like_those_of_flows(option: str):
    with pytest.raises(ValueError, match=option):
        task(**{option: []})(lambda: 1)
    with pytest.raises(TypeError, match=rf"(?s){option}.*int"):
        task(**{option: 5})(lambda: 1)
    with pytest.raises(TypeError, match=rf"(?s){option}.*str"):
        task(**{option: ["not callable"]})(lambda: 1)


@pytest.mark.behaviour("TASK-DEF-11", "I1", "D3")
def test_the_final_state_is_stored_before_task_hooks_run():
    seen = []

    def hook(task, task_run, state):
        seen.append(read_task_run(task_run.id).state_name)

    @task(on_completion=[hook])
    def hooked():
        return 1

    @flow
    def parent():
        hooked.submit()

    parent()

    assert seen == ["Completed"]


@pytest.mark.behaviour("TASK-DEF-12")
def test_a_cache_hit_runs_no_hooks_and_applies_no_run_name():
    calls: list[Any] = []

    @task(
        cache_key_fn=lambda context, parameters: "one key",
        on_completion=[make_hook(calls, "completion")],
        task_run_name="custom {x}",
    )
    def cached(x):
        return x

    @flow
    def parent():
        return [cached(1, return_state=True), cached(2, return_state=True)]

    first, second = parent(return_state=True).result()

    assert second.name == "Cached"
    assert len(calls) == 1
    assert [read_task_run(state).name for state in (first, second)] == ["custom 1", "cached-1"]


class Opaque:
    pass


@pytest.mark.behaviour("TASK-DEF-13")
def test_task_arguments_are_never_coerced():
    @task
    def typed(x: int, y: Opaque):
        return x, y

    @flow
    def parent():
        return typed("1", "anything")

    assert parent() == ("1", "anything")


class Counter:
    def __init__(self, step: int) -> None:
        self.step = step

    @task(cache_key_fn=task_input_hash)
    def add(self, number: int, *, twice: bool = False) -> int:
        """Adds."""
        return number + self.step * (2 if twice else 1)

    @classmethod
    @task
    def named(cls, text: str) -> str:
        return cls.__name__ + text

    @staticmethod
    @task
    def double(number: int) -> int:
        return number * 2


@task
def negate(number: int) -> int:
    return -number


class Holder:
    negate = negate


def test_methods_of_all_kinds_work_as_tasks():
    @flow
    def calls() -> Any:
        counter = Counter(10)
        return (
            counter.add(1),
            counter.add.submit(1, twice=True).result(),
            [future.result() for future in counter.add.map([1, 2])],
            [future.result() for future in counter.add.stream([3, 4])],
            counter.add.with_options(name="more")(5),
            Counter.add(counter, 6),
            counter.add.fn(7),
            Counter.named("!"),
            Counter.double(4),
        )

    assert calls() == (11, 21, [11, 12], [13, 14], 15, 16, 17, "Counter!", 8)


def test_a_task_of_a_plain_function_is_not_bound_by_a_class_that_has_it():
    assert Holder().negate is negate
    assert flow(lambda: Holder().negate(3))() == -3


def test_the_cache_tells_the_objects_of_methods_apart():
    @flow
    def calls() -> list[int]:
        return [Counter(1).add(1), Counter(2).add(1), Counter(1).add(1)]

    state = calls(return_state=True)

    assert state.result() == [2, 3, 2]
    assert [run.state.name for run in read_task_runs(state)] == ["Completed", "Completed", "Cached"]


@pytest.mark.parametrize("decorator", [flow, task])
def test_a_decorator_above_classmethod_says_how_to_write_it(decorator: Any):
    with pytest.raises(TypeError, match="Write @classmethod above @"):
        decorator(classmethod(lambda cls: None))
