"""The engine's functions, by name: parameters, and what is promised of those that flows and tasks call for users."""

import inspect
from typing import Any

import pytest

from core_engine import State, allow_failure, engine, flow, quote, runtime, task
from core_engine.concurrency.waiting import step
from core_engine.exceptions import UpstreamTaskError
from tests.behaviours.helpers import read_flow_runs, read_task_runs

TASK_CALL = ["task", "flow_run_context", "parameters", "wait_for", "return_type", "task_runner"]
FLOW_CALL = ["flow", "parameters", "wait_for", "return_type"]
BEGINS_FLOW = ["flow", "parameters", "wait_for", "return_type", "client", "user_thread"]
ASYNC = {
    "create_then_begin_flow_run": BEGINS_FLOW,
    "create_and_begin_subflow_run": BEGINS_FLOW,
    "retrieve_flow_then_begin_flow_run": ["flow_run_id", "client", "user_thread"],
    "begin_flow_run": ["flow", "flow_run", "parameters", "client", "user_thread"],
    "orchestrate_flow_run": [
        *("flow", "flow_run", "parameters", "wait_for", "interruptible", "client"),
        *("partial_flow_run_context", "user_thread"),
    ],
    "begin_task_map": TASK_CALL,
    "get_task_call_return_value": [*TASK_CALL, "extra_task_inputs"],
    "create_task_run_future": ["task", "flow_run_context", "parameters", "wait_for", "task_runner"],
    "create_task_run_then_submit": [],
    "begin_task_run": ["task", "task_run", "parameters", "wait_for", "result_factory", "log_prints", "settings"],
    "orchestrate_task_run": [
        *("task", "task_run", "parameters", "wait_for", "result_factory", "log_prints"),
        *("interruptible", "client"),
    ],
    "collect_task_run_inputs": ["expr", "max_depth"],
    "resolve_inputs": ["parameters", "return_data", "max_depth"],
    "propose_state": ["client", "state", "force", "task_run_id", "flow_run_id"],
    "check_api_reachable": ["client", "fail_message"],
}
SYNC = {
    "enter_flow_run_engine_from_flow_call": FLOW_CALL,
    "enter_flow_run_engine_from_subprocess": ["flow_run_id"],
    "enter_task_run_engine": ["task", "parameters", "wait_for", "return_type", "task_runner", "mapped"],
    "link_state_to_result": ["state", "result"],
    "get_state_for_result": ["obj"],
    "report_flow_run_crashes": ["flow_run", "client", "flow"],
    "report_task_run_crashes": ["task_run", "client"],
    "pause_flow_run": ["flow_run_id", "timeout", "poll_interval", "reschedule", "key"],
    "resume_flow_run": ["flow_run_id"],
}
DEFAULTS = {
    "collect_task_run_inputs": {"max_depth": -1},
    "resolve_inputs": {"return_data": True, "max_depth": -1},
    "propose_state": {"force": False, "task_run_id": None, "flow_run_id": None},
    "pause_flow_run": {"flow_run_id": None, "timeout": 300, "poll_interval": 10, "reschedule": False, "key": None},
}


@pytest.mark.parametrize("name", sorted({**ASYNC, **SYNC}))
def test_a_function_has_its_name_and_parameters(name: str) -> None:
    function = getattr(engine, name)
    parameters = inspect.signature(function).parameters

    assert inspect.iscoroutinefunction(function) == (name in ASYNC)
    assert {**ASYNC, **SYNC}[name] == list(parameters)[: len({**ASYNC, **SYNC}[name])]
    further = list(parameters.values())[len({**ASYNC, **SYNC}[name]) :]
    if name != "create_task_run_then_submit":
        assert all(parameter.default is not parameter.empty for parameter in further)
    for parameter, default in DEFAULTS.get(name, {}).items():
        assert parameters[parameter].default == default
    assert name in engine.__all__
    exec(f"from core_engine.engine import {name}", {})


@task
def gives(x: Any = 1) -> Any:
    return x


@task
def fails() -> None:
    raise ValueError("no")


def inside_a_flow(question: Any) -> Any:
    """Ask something in a flow, and return the answer."""
    answers = []

    @flow
    def outer() -> None:
        answers.append(question())

    outer(return_state=True)
    return answers[0]


def test_the_return_type_of_a_call_is_one_of_those_there_are() -> None:
    parameters: dict[str, Any] = {"flow": flow(gives.fn, name="flow"), "parameters": {"x": 1}, "wait_for": None}

    with pytest.raises(ValueError, match="return_type.*'future'"):
        engine.enter_flow_run_engine_from_flow_call(**parameters, return_type="future")
    assert read_flow_runs() == []

    def of_a_task() -> str:
        with pytest.raises(ValueError, match="return_type.*'both'") as error:
            engine.enter_task_run_engine(gives, {"x": 1}, None, "both", None, False)
        assert read_task_runs(runtime.flow_run.id) == []
        return str(error.value)

    assert inside_a_flow(of_a_task)


@pytest.mark.behaviour("DEP-1", "UP-2")
def test_inputs_are_collected_and_resolved_as_deep_as_is_asked_for() -> None:
    def question() -> bool:
        future, state = gives.submit("deep"), gives("state", return_state=True)
        expr = {"direct": future, "nested": [state, {"more": future}], "quoted": quote([future])}

        found = step(engine.collect_task_run_inputs(expr))
        assert {run.id for run in found} == {future.task_run_id, state.state_details.task_run_id}
        assert step(engine.collect_task_run_inputs(expr, max_depth=0)) == set()
        (direct,) = step(engine.collect_task_run_inputs(expr, max_depth=1))
        assert direct.id == future.task_run_id
        assert step(engine.collect_task_run_inputs(quote([future]))) == set()

        everything = step(engine.resolve_inputs(expr))
        assert everything == {"direct": "deep", "nested": ["state", {"more": "deep"}], "quoted": [future]}
        at_the_top = step(engine.resolve_inputs({"direct": future, "nested": [state]}, max_depth=1))
        assert at_the_top == {"direct": "deep", "nested": [state]}
        states = step(engine.resolve_inputs({"direct": future}, return_data=False))
        assert isinstance(states["direct"], State)

        with pytest.raises(UpstreamTaskError, match="did not reach a COMPLETED state"):
            step(engine.resolve_inputs({"x": [fails(return_state=True)]}))
        allowed = step(engine.resolve_inputs({"x": allow_failure(fails(return_state=True))}))
        assert repr(allowed["x"]) == "ValueError('no')"
        return True

    assert inside_a_flow(question)


@pytest.mark.behaviour("DEP-5", "I10")
def test_a_value_is_linked_to_the_state_that_it_came_from() -> None:
    def question() -> bool:
        state = gives(return_state=True)
        value, member = {"part": [1]}, [1]
        value["part"] = member

        engine.link_state_to_result(state, value)

        for linked in (value, member):
            found = engine.get_state_for_result(linked)
            assert found is not None
            assert found.state_details.task_run_id == state.state_details.task_run_id
        assert engine.get_state_for_result(True) is None
        assert engine.get_state_for_result([1]) is None
        return True

    assert inside_a_flow(question)
    assert engine.get_state_for_result([1]) is None


@pytest.mark.behaviour("DEP-5")
@pytest.mark.parametrize("way", ["call", "submit", "map"])
def test_an_iterator_that_is_given_to_a_task_is_left_for_the_task(way: str) -> None:
    @task
    def total(numbers: Any, others: Any = ()) -> int:
        return sum(numbers) + sum(others)

    def question() -> Any:
        gives([1, 2])  # from here on values are looked for in what tasks are given
        numbers = iter([1, 2, 3])
        if way == "call":
            return total(numbers)
        if way == "submit":
            return total.submit(numbers).result()
        return total.map([[1, 2, 3]], others=[iter([])])[0].result()

    assert inside_a_flow(question) == 6
