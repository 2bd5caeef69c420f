"""RES-POLICY: when and how results are kept, seen through what can be read back."""

import json
from pathlib import Path
from typing import Any

import pytest

from core_engine import State, flow, task
from core_engine.context import get_run_context
from core_engine.exceptions import MissingResult
from tests.behaviours.helpers import child_flow_run, setting, stored_flow_state, stored_task_state

VALUE = {"a": "value"}


def is_kept(stored: State) -> bool:
    """Whether a state read back from the store gives the value."""
    try:
        return stored.result() == VALUE
    except MissingResult:
        return False


def flow_is_kept(**options: Any) -> bool:
    @flow(**options)
    def gives():
        return VALUE

    return is_kept(stored_flow_state(gives(return_state=True)))


def child_is_kept(parent_options: dict[str, Any], child_options: dict[str, Any]) -> bool:
    @flow(**child_options)
    def child():
        return VALUE

    @flow(**parent_options)
    def parent():
        return [child(return_state=True)]

    (state,) = parent(return_state=True).result()
    stored = child_flow_run(state).state
    assert stored is not None
    return is_kept(stored)


def task_is_kept(flow_options: dict[str, Any], task_options: dict[str, Any]) -> bool:
    @task(**task_options)
    def gives():
        return VALUE

    @flow(**flow_options)
    def parent():
        return [gives(return_state=True)]

    (state,) = parent(return_state=True).result()
    return is_kept(stored_task_state(state))


def key(context: Any, parameters: Any) -> str:
    return "key"


@pytest.mark.behaviour("RES-POLICY-1", "RES-1", "RES-2")
@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, False),
        ({"persist_result": True}, True),
        ({"persist_result": False}, False),
        ({"cache_result_in_memory": False}, True),
        ({"retries": 3}, False),
    ],
    ids=str,
)
def test_the_result_of_a_root_flow_is_kept_by_its_own_options(options: dict[str, Any], kept: bool):
    assert flow_is_kept(**options) is kept


@pytest.mark.behaviour("RES-POLICY-1", "RES-POLICY-3", "RES-POLICY-2")
def test_a_setting_keeps_what_does_not_say_otherwise():
    with setting(RESULTS_PERSIST_BY_DEFAULT=True):
        assert flow_is_kept()
        assert child_is_kept({}, {})
        assert task_is_kept({}, {})


@pytest.mark.behaviour("RES-POLICY-2", "RES-POLICY-4")
@pytest.mark.parametrize(
    ("parent_options", "child_options", "kept"),
    [
        ({}, {}, False),
        ({}, {"persist_result": True}, True),
        ({}, {"cache_result_in_memory": False}, True),
        ({"retries": 1}, {}, True),
        ({"retries": 1}, {"persist_result": False}, False),
        ({"persist_result": True}, {}, False),
        ({}, {"retries": 1}, False),
    ],
    ids=str,
)
def test_the_result_of_a_subflow_is_kept_by_its_options_and_its_parents_retries(
    parent_options: dict[str, Any], child_options: dict[str, Any], kept: bool
):
    assert child_is_kept(parent_options, child_options) is kept


@pytest.mark.behaviour("RES-POLICY-3", "RES-POLICY-4")
@pytest.mark.parametrize(
    ("flow_options", "task_options", "kept"),
    [
        ({}, {}, False),
        ({}, {"persist_result": True}, True),
        ({}, {"cache_key_fn": key}, True),
        ({}, {"cache_result_in_memory": False}, True),
        ({"retries": 1}, {}, True),
        ({}, {"retries": 1}, False),
        ({"persist_result": True}, {}, False),
        ({"retries": 1}, {"persist_result": False}, False),
        ({}, {"cache_key_fn": key, "persist_result": False}, False),
    ],
    ids=[
        "nothing",
        "explicit",
        "cache",
        "memory",
        "flow retries",
        "task retries",
        "flow kept",
        "off retries",
        "off cache",
    ],
)
def test_the_result_of_a_task_is_kept_by_its_options_and_its_flows_retries(
    flow_options: dict[str, Any], task_options: dict[str, Any], kept: bool
):
    assert task_is_kept(flow_options, task_options) is kept


@pytest.mark.behaviour("RES-POLICY-4")
def test_an_explicit_false_beats_the_setting_and_every_feature():
    with setting(RESULTS_PERSIST_BY_DEFAULT=True):
        assert not flow_is_kept(persist_result=False)
        assert not flow_is_kept(persist_result=False, cache_result_in_memory=False)
        assert not child_is_kept({"retries": 1}, {"persist_result": False})
        assert not task_is_kept({"retries": 1}, {"persist_result": False, "cache_key_fn": key})


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


@pytest.mark.behaviour("RES-POLICY-5")
def test_results_lie_in_the_folder_of_the_setting_at_run_time(tmp_path: Path):
    @flow(persist_result=True)
    def gives():
        return VALUE

    with setting(LOCAL_STORAGE_PATH=str(tmp_path / "one")):
        gives()
    with setting(LOCAL_STORAGE_PATH=str(tmp_path / "two")):
        gives()

    assert len(files_below(tmp_path / "one")) == 1
    assert len(files_below(tmp_path / "two")) == 1


@pytest.mark.behaviour("RES-POLICY-5")
@pytest.mark.parametrize(
    ("flow_options", "task_options", "expected"),
    [
        ({}, {}, "pickle"),
        ({"result_serializer": "json"}, {}, "json"),
        ({"result_serializer": "json"}, {"result_serializer": "pickle"}, "pickle"),
        ({}, {"result_serializer": "json"}, "json"),
    ],
    ids=["default", "from the flow", "own", "own alone"],
)
def test_the_serializer_is_the_tasks_own_or_its_flows_or_the_default(
    flow_options: dict[str, Any], task_options: dict[str, Any], expected: str
):
    @task(persist_result=True, **task_options)
    def gives():
        return VALUE

    @flow(**flow_options)
    def parent():
        return [gives(return_state=True)], get_run_context().result_factory.serializer.type

    found = parent()
    (state,) = found[0]

    assert state.data.serializer_type == expected
    assert state.result() == VALUE
    assert found[1] == flow_options.get("result_serializer", "pickle")


@pytest.mark.behaviour("RES-POLICY-5")
def test_the_default_serializer_is_a_setting_read_at_run_time():
    @flow(persist_result=True)
    def gives():
        return VALUE

    with setting(RESULTS_DEFAULT_SERIALIZER="json"):
        state = gives(return_state=True)

    assert state.data.serializer_type == "json"
    assert gives(return_state=True).data.serializer_type == "pickle"


@pytest.mark.behaviour("RES-POLICY-5")
def test_a_subflow_takes_the_serializer_of_its_parent_and_does_not_change_it():
    @flow
    def inherits():
        return get_run_context().result_factory.serializer.type

    @flow(result_serializer="pickle")
    def has_its_own():
        return get_run_context().result_factory.serializer.type

    @flow(result_serializer="json")
    def parent():
        return inherits(), has_its_own(), get_run_context().result_factory.serializer.type

    assert parent() == ("json", "pickle", "json")


@pytest.mark.behaviour("RES-POLICY-6")
def test_holding_results_in_memory_is_not_inherited():
    @task
    def inside():
        return get_run_context().result_factory.cache_result_in_memory

    @flow
    def child():
        return get_run_context().result_factory.cache_result_in_memory

    @flow(cache_result_in_memory=False)
    def parent():
        own = get_run_context().result_factory.cache_result_in_memory
        return json.dumps([own, inside(), child()])

    assert json.loads(parent()) == [False, True, True]


@pytest.mark.behaviour("RES-POLICY-8")
def test_the_result_factory_of_the_context_says_how_results_are_kept():
    @task(persist_result=True, cache_result_in_memory=False, result_serializer="json")
    def inside():
        factory = get_run_context().result_factory
        return [factory.persist_result, factory.cache_result_in_memory, factory.serializer.type]

    @flow
    def parent():
        factory = get_run_context().result_factory
        return [factory.persist_result, factory.cache_result_in_memory, factory.serializer.type], inside()

    assert parent() == ([False, True, "pickle"], [True, False, "json"])


@pytest.mark.behaviour("RES-POLICY-9")
@pytest.mark.parametrize("option", ["result_storage", "result_serializer"])
def test_a_wrong_type_of_storage_or_serializer_is_a_type_error(option: str):
    with pytest.raises(TypeError, match="int"):

        @flow(persist_result=True, **{option: 5})
        def gives():
            return VALUE

        gives()
