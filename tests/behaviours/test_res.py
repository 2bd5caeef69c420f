"""RES: result records of a running engine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core_engine import State, flow, task
from core_engine.exceptions import MissingResult
from core_engine.states import Cancelled, Completed, Failed
from core_engine.task_runners import BaseTaskRunner
from tests.behaviours.helpers import setting, stored_flow_state, stored_task_state


class CustomError(Exception):
    pass


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    """The folder in which results are kept during the test."""
    with setting(LOCAL_STORAGE_PATH=str(tmp_path / "storage")):
        yield tmp_path / "storage"


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def task_state(value: Any, runner: BaseTaskRunner | None = None, **options: Any) -> State:
    """Returns the state of a task that gives `value`, after its flow has ended."""

    @task(**options)
    def gives():
        return value

    @flow(task_runner=runner)
    def parent():
        return [gives.submit(return_state=True)]

    (state,) = parent(return_state=True).result(raise_on_failure=False)
    return state


def flow_state(value: Any, **options: Any) -> State:
    @flow(**options)
    def gives():
        return value

    return gives(return_state=True)


VALUES = ["text", 5, 1.5, [], {}, (), {"type": "literal", "value": 1}, {"type": "reference"}, [None], {"data": None}]


@pytest.mark.behaviour("RES-1", "RES-8")
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_result_that_is_not_persisted_is_in_the_process_and_not_in_the_store(value: Any):
    of_task, of_flow = task_state(value), flow_state(value)

    assert of_task.result() == of_flow.result() == value
    for stored in (stored_task_state(of_task), stored_flow_state(of_flow)):
        with pytest.raises(MissingResult):
            stored.result()


@pytest.mark.behaviour("RES-2", "RES-8")
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_persisted_result_is_in_the_process_and_in_the_store(value: Any):
    of_task, of_flow = task_state(value, persist_result=True), flow_state(value, persist_result=True)

    assert of_task.result() == of_flow.result() == value
    assert stored_task_state(of_task).result() == value
    assert stored_flow_state(of_flow).result() == value
    assert type(stored_task_state(of_task).result()) is type(value)


@pytest.mark.behaviour("RES-2")
def test_a_persisted_result_is_kept_on_every_runner(runner: BaseTaskRunner):
    assert stored_task_state(task_state({"a": 1}, runner, persist_result=True)).result() == {"a": 1}


@pytest.mark.behaviour("RES-3")
@pytest.mark.parametrize("value", [True, False, None], ids=repr)
def test_a_persisted_constant_is_kept_in_the_store_without_a_file(storage: Path, value: Any):
    of_task, of_flow = task_state(value, persist_result=True), flow_state(value, persist_result=True)

    assert stored_task_state(of_task).result() is value
    assert stored_flow_state(of_flow).result() is value
    assert files_in(storage) == []


@pytest.mark.behaviour("RES-3")
def test_another_persisted_value_is_a_reference_to_a_file(storage: Path):
    state = task_state({"a": 1}, persist_result=True)
    (file,) = files_in(storage)

    assert state.data.serializer_type == "pickle"
    assert Path(state.data.storage_key).name == file.name
    assert stored_task_state(state).data.storage_key == state.data.storage_key


@pytest.mark.behaviour("RES-5")
def test_a_value_held_nowhere_is_missing():
    state = flow_state({"a": 1}, persist_result=False, cache_result_in_memory=False)

    with pytest.raises(MissingResult):
        state.result()
    with pytest.raises(MissingResult):
        task_state({"a": 1}, persist_result=False, cache_result_in_memory=False).result()


@pytest.mark.behaviour("RES-5")
def test_none_stays_available_in_the_process_and_is_missing_in_the_store():
    for options in ({}, {"persist_result": False, "cache_result_in_memory": False}):
        state = task_state(None, **options)
        assert state.result() is None
        with pytest.raises(MissingResult):
            stored_task_state(state).result()


@pytest.mark.behaviour("RES-6")
def test_a_persisted_value_that_is_not_held_in_memory_is_read_each_time(storage: Path):
    value = {"a": 1}
    state = flow_state(value, persist_result=True, cache_result_in_memory=False)

    assert not state.data.has_cached_object()
    first, second = state.result(), state.result()
    assert first == second == value
    assert first is not value
    assert first is not second
    assert not state.data.has_cached_object()


@pytest.mark.behaviour("RES-6")
def test_a_state_read_from_the_store_holds_its_value_after_the_first_read(storage: Path):
    stored = stored_flow_state(flow_state({"a": 1}, persist_result=True, cache_result_in_memory=False))

    assert not stored.data.has_cached_object()
    first = stored.result()
    assert stored.data.has_cached_object()
    assert stored.result() is first


@pytest.mark.behaviour("RES-6")
def test_a_constant_counts_as_held_in_memory():
    assert flow_state(True, persist_result=True, cache_result_in_memory=False).data.has_cached_object()


@pytest.mark.behaviour("RES-6")
def test_a_value_that_is_not_held_in_memory_reaches_later_tasks():
    @task(persist_result=True, cache_result_in_memory=False)
    def gives():
        return {"a": 1}

    @task
    def takes(value):
        return value

    @flow
    def parent():
        return takes(gives()), takes.submit(gives.submit()).result()

    assert parent() == ({"a": 1}, {"a": 1})


@pytest.mark.behaviour("RES-7")
def test_a_persisted_exception_is_raised_after_reading_back():
    @task(persist_result=True)
    def fails():
        raise CustomError("a", 1)

    @flow(persist_result=True)
    def parent():
        return fails()

    state = parent(return_state=True)
    stored = stored_flow_state(state)

    assert stored.is_failed()
    with pytest.raises(CustomError) as caught:
        stored.result()
    assert caught.value.args == ("a", 1)


@pytest.mark.behaviour("RES-7")
def test_a_persisted_exception_of_a_task_is_raised_after_reading_back():
    @task(persist_result=True)
    def fails():
        raise CustomError("a", 1)

    @flow
    def parent():
        return [fails(return_state=True)]

    (state,) = parent(return_state=True).result(raise_on_failure=False)

    with pytest.raises(CustomError) as caught:
        stored_task_state(state).result()
    assert caught.value.args == ("a", 1)


@pytest.mark.behaviour("RES-7", "STATE-10")
def test_an_exception_that_was_not_persisted_is_known_by_its_text_after_reading_back():
    from core_engine.exceptions import FailedRun

    @flow
    def fails():
        raise CustomError("what went wrong")

    with pytest.raises(FailedRun, match="what went wrong"):
        stored_flow_state(fails(return_state=True)).result()


@pytest.mark.behaviour("RES-9")
@pytest.mark.parametrize("make", [Completed, Failed, Cancelled])
def test_the_data_of_a_state_made_by_hand_is_kept_by_the_same_policy(make: Any):
    kept, dropped = flow_state(make(data="my data"), persist_result=True), flow_state(make(data="my data"))

    assert kept.result(raise_on_failure=False) == dropped.result(raise_on_failure=False) == "my data"
    assert stored_flow_state(kept).result(raise_on_failure=False) == "my data"


@pytest.mark.behaviour("RES-9")
def test_a_state_made_by_hand_that_is_not_persisted_is_missing_in_the_store():
    with pytest.raises(MissingResult):
        stored_flow_state(flow_state(Completed(data="my data"))).result()


@pytest.mark.behaviour("RES-10")
def test_results_are_read_in_sync_and_async_code():
    import anyio

    stored = stored_flow_state(flow_state({"a": 1}, persist_result=True))

    async def read() -> Any:
        return await stored.result(fetch=True)

    assert anyio.run(read) == {"a": 1}
    assert stored.result() == {"a": 1}


@pytest.mark.behaviour("RES-11")
def test_a_storage_key_is_a_template_over_parameters_and_runtime_attributes(storage: Path):
    @task(persist_result=True, result_storage_key="{flow_run.flow_name}-{parameters[x]}-{parameters[y]}.json")
    def gives(x, y="default"):
        return {"x": x}

    @flow
    def parent():
        return [gives("one", return_state=True), gives.submit("two")]

    states = parent(return_state=True).result()

    assert [state.data.storage_key for state in states] == ["parent-one-default.json", "parent-two-default.json"]
    assert {file.name for file in files_in(storage)} == {"parent-one-default.json", "parent-two-default.json"}
    assert [stored_task_state(state).result() for state in states] == [{"x": "one"}, {"x": "two"}]
