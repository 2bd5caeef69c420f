"""CACHE: results that serve other runs."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pydantic
import pytest

from core_engine import State, Task, flow, task, task_input_hash
from core_engine.context import TaskRunContext
from core_engine.exceptions import MissingResult
from core_engine.task_runners import BaseTaskRunner
from core_engine.testing import leaping_clock
from tests.behaviours.helpers import read_task_run, setting, stored_task_state, task_history


class CustomError(Exception):
    pass


def counting(calls: list[Any], **options: Any) -> Task[..., Any]:
    """Returns a task that notes its arguments in `calls`."""

    @task(**options)
    def noted(x=1, y=2):
        calls.append((x, y))
        return {"x": x, "y": y, "call": len(calls)}

    return noted


def one_key(context: Any, parameters: Any) -> str:
    return "the one key"


def in_a_flow(*calls: Callable[[], Any]) -> list[Any]:
    """Makes the calls one after the other in one flow run, and returns their states."""

    @flow
    def parent():
        return [call() for call in calls]

    return parent(return_state=True).result(raise_on_failure=False)


@pytest.mark.behaviour("CACHE-1")
def test_without_a_cache_key_nothing_is_cached():
    calls: list[Any] = []
    noted = counting(calls)

    states = in_a_flow(lambda: noted(1, return_state=True), lambda: noted(1, return_state=True))

    assert len(calls) == 2
    assert [state.name for state in states] == ["Completed", "Completed"]


@pytest.mark.behaviour("CACHE-2")
def test_a_cache_key_of_none_means_no_caching():
    calls: list[Any] = []
    noted = counting(calls, cache_key_fn=lambda context, parameters: None)

    in_a_flow(lambda: noted(1, return_state=True), lambda: noted(1, return_state=True))

    assert len(calls) == 2


@pytest.mark.behaviour("CACHE-2")
def test_the_key_function_gets_resolved_values_and_defaults_in_every_call_form():
    keys: list[Any] = []

    def key(context, parameters):
        keys.append(dict(parameters))
        return str(sorted(parameters.items()))

    calls: list[Any] = []
    noted = counting(calls, cache_key_fn=key)

    @task
    def give(x):
        return x

    @flow
    def parent():
        noted(1)
        noted(x=1, y=2)
        noted.submit(give.submit(1)).wait()
        noted.map([1])[0].wait()
        return 1

    parent()

    assert keys == [{"x": 1, "y": 2}] * 4
    assert calls == [(1, 2)]


@pytest.mark.behaviour("CACHE-2")
def test_the_key_function_is_called_once_per_run_before_it_is_running():
    seen = []

    def key(context, parameters):
        seen.append(context.task_run.state_name)
        return

    executions = []

    @task(cache_key_fn=key, retries=0)
    def noted():
        executions.append(1)

    in_a_flow(lambda: noted(return_state=True))

    assert seen == ["Pending"]


@pytest.mark.behaviour("CACHE-3")
def test_the_context_of_the_key_function_is_that_of_the_task_run():
    contexts = []

    def key(context, parameters):
        contexts.append(context)
        return

    @task(cache_key_fn=key)
    def noted():
        return 1

    (state,) = in_a_flow(lambda: noted(return_state=True))
    (context,) = contexts

    assert isinstance(context, TaskRunContext)
    assert context.task is noted
    assert context.task_run.id == state.state_details.task_run_id
    assert context.task_run.flow_run_id == state.state_details.flow_run_id


@pytest.mark.behaviour("CACHE-4")
@pytest.mark.parametrize("way", ["call", "submit", "map"])
def test_a_hit_is_a_completed_state_named_cached_with_the_same_result(runner: BaseTaskRunner, way: str):
    calls: list[Any] = []
    noted = counting(calls, cache_key_fn=one_key)

    @flow(task_runner=runner)
    def parent():
        first = noted(1, return_state=True)
        if way == "call":
            return [first, *[noted(2, return_state=True) for _ in range(2)]]
        if way == "submit":
            return [first, *[noted.submit(2).wait() for _ in range(2)]]
        return [first, *noted.map([2, 2], return_state=True)]

    states = parent(return_state=True).result()

    assert calls == [(1, 2)]
    assert [state.name for state in states] == ["Completed", "Cached", "Cached"]
    assert all(state.is_completed() for state in states)
    assert [state.result() for state in states] == [{"x": 1, "y": 2, "call": 1}] * 3
    assert stored_task_state(states[1]).name == "Cached"
    assert stored_task_state(states[1]).result() == {"x": 1, "y": 2, "call": 1}
    assert task_history(states[1]) == ["Pending", "Cached"]


@pytest.mark.behaviour("CACHE-4")
def test_a_hit_works_across_flow_runs():
    calls: list[Any] = []
    noted = counting(calls, cache_key_fn=one_key)

    for _ in range(3):
        in_a_flow(lambda: noted(1, return_state=True))
    (state,) = in_a_flow(lambda: noted(1, return_state=True))

    assert len(calls) == 1
    assert state.name == "Cached"
    assert state.result()["call"] == 1


@pytest.mark.behaviour("CACHE-4", "ORCH-6")
def test_only_completed_states_are_stored():
    calls = []

    @task(cache_key_fn=one_key)
    def fails_first():
        calls.append(1)
        if len(calls) == 1:
            raise CustomError("no")
        return "fine"

    states = in_a_flow(*[lambda: fails_first(return_state=True)] * 3)

    assert [state.name for state in states] == ["Failed", "Completed", "Cached"]
    assert len(calls) == 2


@pytest.mark.behaviour("CACHE-4")
def test_different_keys_do_not_hit():
    calls: list[Any] = []
    noted = counting(calls, cache_key_fn=lambda context, parameters: f"key {parameters['x']}")

    in_a_flow(lambda: noted(1, return_state=True), lambda: noted(2, return_state=True))

    assert calls == [(1, 2), (2, 2)]


@pytest.mark.behaviour("CACHE-5")
@pytest.mark.parametrize(
    ("expiration", "names"),
    [
        (timedelta(hours=1), ["Completed", "Cached"]),
        (None, ["Completed", "Cached"]),
        (timedelta(seconds=-5), ["Completed", "Completed"]),
    ],
    ids=["ahead", "none", "negative"],
)
def test_a_cached_result_serves_until_its_expiration(expiration: timedelta | None, names: list[str]):
    calls: list[Any] = []
    noted = counting(calls, cache_key_fn=one_key, cache_expiration=expiration)

    states = in_a_flow(*[lambda: noted(1, return_state=True)] * 2)

    assert [state.name for state in states] == names


@pytest.mark.behaviour("CACHE-5")
def test_the_expiration_counts_from_completion():
    calls: list[Any] = []
    noted = counting(calls, cache_key_fn=one_key, cache_expiration=timedelta(hours=1))

    (state,) = in_a_flow(lambda: noted(1, return_state=True))
    expiration = state.state_details.cache_expiration

    assert timedelta(minutes=59) < expiration - state.timestamp < timedelta(minutes=61)
    assert state.state_details.cache_key == "the one key"


@pytest.mark.behaviour("CACHE-5")
def test_a_result_past_its_expiration_is_made_again():
    calls: list[Any] = []
    noted = counting(calls, cache_key_fn=one_key, cache_expiration=timedelta(hours=1))

    with leaping_clock() as clock:
        in_a_flow(lambda: noted(1, return_state=True))
        clock.leap(59 * 60)
        (before,) = in_a_flow(lambda: noted(1, return_state=True))
        clock.leap(2 * 60)
        (after,) = in_a_flow(lambda: noted(1, return_state=True))

    assert (before.name, after.name) == ("Cached", "Completed")
    assert len(calls) == 2


@pytest.mark.behaviour("CACHE-6", "CACHE-7")
def test_refresh_executes_and_stores_anew_and_the_newest_entry_wins():
    calls: list[Any] = []
    noted = counting(calls, cache_key_fn=one_key)
    refreshing = noted.with_options(refresh_cache=True)

    states = in_a_flow(
        lambda: noted(1, return_state=True),
        lambda: refreshing(2, return_state=True),
        lambda: noted(3, return_state=True),
    )

    assert calls == [(1, 2), (2, 2)]
    assert [state.name for state in states] == ["Completed", "Completed", "Cached"]
    assert states[2].result()["x"] == 2


@pytest.mark.behaviour("CACHE-8")
@pytest.mark.parametrize(("option", "executions"), [(None, 2), (False, 1), (True, 2)])
def test_the_setting_refreshes_tasks_that_do_not_say_otherwise(option: bool | None, executions: int):
    calls: list[Any] = []
    noted = counting(calls, cache_key_fn=one_key, refresh_cache=option)

    with setting(TASKS_REFRESH_CACHE=True):
        in_a_flow(*[lambda: noted(1, return_state=True)] * 2)

    assert len(calls) == executions


@pytest.mark.behaviour("CACHE-9", "RES-POLICY-3")
def test_a_key_function_turns_persistence_on_unless_told_otherwise():
    kept, dropped = (
        counting([], cache_key_fn=one_key),
        counting([], cache_key_fn=lambda c, p: "k2", persist_result=False),
    )

    states: list[State] = in_a_flow(lambda: kept(1, return_state=True), lambda: dropped(1, return_state=True))

    assert stored_task_state(states[0]).result() == {"x": 1, "y": 2, "call": 1}
    with pytest.raises(MissingResult):
        stored_task_state(states[1]).result()


@pytest.mark.behaviour("CACHE-10")
def test_the_input_hash_hits_for_equal_arguments_and_misses_for_others():
    calls: list[Any] = []
    noted = counting(calls, cache_key_fn=task_input_hash)

    states = in_a_flow(
        lambda: noted(1, return_state=True),
        lambda: noted(x=1, y=2, return_state=True),
        lambda: noted(2, return_state=True),
        lambda: noted(1, return_state=True),
    )

    assert [state.name for state in states] == ["Completed", "Cached", "Completed", "Cached"]


@pytest.mark.behaviour("CACHE-10")
def test_the_input_hash_misses_for_another_task_and_for_a_changed_body():
    executed = []

    @task(cache_key_fn=task_input_hash)
    def one(x):
        executed.append("one")
        return x

    @task(cache_key_fn=task_input_hash)
    def two(x):
        executed.append("two")
        return x

    first = one

    @task(name="one", cache_key_fn=task_input_hash)
    def one(x):
        executed.append("changed")
        return x + x

    in_a_flow(lambda: first(1, return_state=True), lambda: two(1, return_state=True), lambda: one(1, return_state=True))

    assert executed == ["one", "two", "changed"]


@pytest.mark.behaviour("CACHE-10")
def test_the_input_hash_hits_for_the_same_body_defined_again():
    executed = []

    def define() -> Task[..., Any]:
        @task(cache_key_fn=task_input_hash)
        def again(x):
            executed.append(x)
            return x

        return again

    first, second = define(), define()
    states = in_a_flow(lambda: first(1, return_state=True), lambda: second(1, return_state=True))

    assert executed == [1]
    assert states[1].name == "Cached"


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


class Model(pydantic.BaseModel):
    x: int


@pytest.mark.behaviour("CACHE-11")
@pytest.mark.parametrize("make", [Point, Model, lambda x: b"%d" % x], ids=["instance", "model", "bytes"])
def test_the_input_hash_works_for_values_that_json_cannot_say(make: Any):
    executed = []

    @task(cache_key_fn=task_input_hash)
    def takes(value):
        executed.append(value)
        return 1

    def model_of(x: int) -> Any:
        return make(x=x) if make is Model else make(x)

    states = in_a_flow(
        lambda: takes(model_of(1), return_state=True),
        lambda: takes(model_of(1), return_state=True),
        lambda: takes(model_of(2), return_state=True),
    )

    assert [state.name for state in states] == ["Completed", "Cached", "Completed"]


@pytest.mark.behaviour("CACHE-11")
def test_a_value_that_cannot_be_hashed_is_not_cached():
    import threading

    executed = []

    @task(cache_key_fn=task_input_hash)
    def takes(lock):
        executed.append(1)
        return 1

    lock = threading.Lock()
    states = in_a_flow(lambda: takes(lock, return_state=True), lambda: takes(lock, return_state=True))

    assert [state.name for state in states] == ["Completed", "Completed"]
    assert len(executed) == 2


@pytest.mark.behaviour("CACHE-4", "PROP-7")
def test_a_cached_run_was_never_running():
    noted = counting([], cache_key_fn=one_key)

    _, state = in_a_flow(*[lambda: noted(1, return_state=True)] * 2)
    run = read_task_run(state)

    assert run.run_count == 0
    assert run.state_name == "Cached"
