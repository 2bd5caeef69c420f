"""RT: what code can read of its run, ``core_engine.runtime``."""

import datetime
import subprocess
import sys
from typing import Any
from uuid import uuid4

import pytest

from core_engine import flow, runtime, tags, task
from core_engine.context import TaskRunContext, get_run_context
from core_engine.exceptions import ObjectNotFound
from core_engine.task_runners import BaseTaskRunner
from tests.behaviours.helpers import flow_run_id, read_flow_run

FLOW_ATTRIBUTES = {
    "id",
    "tags",
    "scheduled_start_time",
    "name",
    "flow_name",
    "parameters",
    "parent_flow_run_id",
    "parent_deployment_id",
    "run_count",
}
TASK_ATTRIBUTES = {"id", "tags", "name", "parameters", "run_count", "task_name"}


def flow_attributes() -> dict[str, Any]:
    return {name: getattr(runtime.flow_run, name) for name in FLOW_ATTRIBUTES}


@pytest.mark.behaviour("RT-1")
def test_the_attributes_are_listed():
    assert set(dir(runtime.flow_run)) == FLOW_ATTRIBUTES
    assert set(dir(runtime.task_run)) == TASK_ATTRIBUTES


@pytest.mark.behaviour("RT-1", "RT-2", "RT-6")
def test_in_a_flow_they_are_those_of_its_run():
    @flow(flow_run_name="named-{x}")
    def tells(x: int = 3):
        return flow_attributes()

    with tags("b", "a"):
        state = tells(return_state=True)

    run = read_flow_run(state)
    assert state.result() == {
        "id": str(run.id),
        "tags": ["a", "b"],
        "scheduled_start_time": run.expected_start_time,
        "name": "named-3",
        "flow_name": "tells",
        "parameters": {"x": 3},
        "parent_flow_run_id": None,
        "parent_deployment_id": None,
        "run_count": 1,
    }


@pytest.mark.behaviour("RT-1", "RT-2")
def test_in_a_task_they_are_those_of_its_run_and_of_the_flow_around(runner: BaseTaskRunner):
    @task(tags={"t"}, task_run_name="gives-{x}")
    def gives(x, y=2):
        own = {name: getattr(runtime.task_run, name) for name in TASK_ATTRIBUTES}
        return own, str(get_run_context().task_run.id), runtime.flow_run.id, runtime.flow_run.parameters

    @flow(task_runner=runner)
    def parent(p=1):
        return gives.submit(5).result(), runtime.flow_run.id

    (own, task_run_id, seen_flow, seen_parameters), flow_id = parent()

    assert own == {
        "id": task_run_id,
        "tags": ["t"],
        "name": "gives-5",
        "parameters": {"x": 5, "y": 2},
        "run_count": 1,
        "task_name": "gives",
    }
    assert (seen_flow, seen_parameters) == (flow_id, {"p": 1})


@pytest.mark.behaviour("RT-2")
def test_the_run_counts_are_those_of_the_attempt():
    seen = []

    @task(retries=1)
    def twice():
        seen.append(("task", runtime.task_run.run_count))
        if len(seen) == 1:
            raise ValueError("once more")

    @flow(retries=1)
    def parent():
        twice()
        seen.append(("flow", runtime.flow_run.run_count))
        if len(seen) == 3:
            raise ValueError("once more")

    parent()

    assert seen == [("task", 1), ("task", 2), ("flow", 1), ("flow", 2)]


@pytest.mark.behaviour("RT-2", "RT-5")
@pytest.mark.anyio
async def test_they_follow_the_context_in_async_code_with_the_live_values():
    class Thing:
        pass

    thing = Thing()

    @task
    async def inside(value):
        return runtime.task_run.parameters["value"] is thing

    @flow(validate_parameters=False)
    async def parent(value):
        return await inside(value), runtime.flow_run.parameters["value"] is thing

    assert await parent(thing) == (True, True)


@pytest.mark.behaviour("RT-3")
def test_outside_of_a_run_they_are_empty():
    before = datetime.datetime.now(datetime.UTC)
    found = flow_attributes()

    assert before <= found.pop("scheduled_start_time") <= datetime.datetime.now(datetime.UTC)
    assert found == {
        "id": None,
        "tags": [],
        "name": None,
        "flow_name": None,
        "parameters": {},
        "parent_flow_run_id": None,
        "parent_deployment_id": None,
        "run_count": 0,
    }
    assert {name: getattr(runtime.task_run, name) for name in TASK_ATTRIBUTES} == {
        "id": None,
        "tags": [],
        "name": None,
        "parameters": {},
        "run_count": 0,
        "task_name": None,
    }


@pytest.mark.behaviour("RT-4", "RT-5")
def test_the_environment_may_name_the_run_that_is_read_from_the_store(monkeypatch: pytest.MonkeyPatch):
    @flow
    def recorded(when: datetime.date):
        return when

    with tags("kept"):
        id = flow_run_id(recorded(datetime.date(2026, 3, 1), return_state=True))
    monkeypatch.setenv("CORE_ENGINE__FLOW_RUN_ID", str(id))

    run = read_flow_run(id)
    assert flow_attributes() == {
        "id": str(id),
        "tags": ["kept"],
        "scheduled_start_time": run.expected_start_time,
        "name": run.name,
        "flow_name": "recorded",
        "parameters": {"when": "2026-03-01"},
        "parent_flow_run_id": None,
        "parent_deployment_id": None,
        "run_count": 1,
    }


@pytest.mark.behaviour("RT-4")
@pytest.mark.anyio
async def test_the_store_is_read_from_async_code_too(monkeypatch: pytest.MonkeyPatch):
    @flow
    async def recorded():
        return 1

    id = flow_run_id(await recorded(return_state=True))
    monkeypatch.setenv("CORE_ENGINE__FLOW_RUN_ID", str(id))

    assert runtime.flow_run.flow_name == "recorded"


@pytest.mark.behaviour("RT-4")
def test_a_live_context_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch):
    @flow
    def tells():
        return runtime.flow_run.id, runtime.flow_run.flow_name

    monkeypatch.setenv("CORE_ENGINE__FLOW_RUN_ID", str(uuid4()))
    state = tells(return_state=True)

    assert state.result() == (str(flow_run_id(state)), "tells")
    assert runtime.flow_run.id != str(flow_run_id(state))


@pytest.mark.behaviour("RT-4")
def test_an_environment_that_names_no_run_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CORE_ENGINE__FLOW_RUN_ID", str(uuid4()))
    with pytest.raises(ObjectNotFound):
        runtime.flow_run.name
    monkeypatch.setenv("CORE_ENGINE__FLOW_RUN_ID", "mine")
    with pytest.raises(ValueError, match="CORE_ENGINE__FLOW_RUN_ID.*'mine'"):
        runtime.flow_run.name


@pytest.mark.behaviour("RT-2")
def test_in_a_task_context_made_by_hand_the_flow_run_is_read_by_its_id():
    found = []

    @task
    def work():
        found.append(get_run_context().task_run)

    @flow
    def recorded():
        work()

    id = flow_run_id(recorded(return_state=True))

    with TaskRunContext(task=work, task_run=found[0]):
        assert (runtime.flow_run.id, runtime.flow_run.flow_name) == (str(id), "recorded")


@pytest.mark.behaviour("RT-6")
def test_the_parent_of_a_subflow_is_its_flow_run(monkeypatch: pytest.MonkeyPatch):
    @flow
    def child():
        return runtime.flow_run.id, runtime.flow_run.parent_flow_run_id

    @flow
    def parent():
        return child()

    state = parent(return_state=True)
    child_id, seen = state.result()
    assert seen == str(flow_run_id(state))

    monkeypatch.setenv("CORE_ENGINE__FLOW_RUN_ID", child_id)
    assert runtime.flow_run.parent_flow_run_id == str(flow_run_id(state))


@pytest.mark.behaviour("RT-7")
def test_an_unknown_attribute_is_an_error_that_names_it():
    with pytest.raises(AttributeError, match="nonsense"):
        runtime.flow_run.nonsense
    with pytest.raises(AttributeError, match="nonsense"):
        runtime.task_run.nonsense
    with pytest.raises(ImportError, match="nonsense"):
        from core_engine.runtime.flow_run import nonsense  # noqa: F401


@pytest.mark.behaviour("RT-8")
@pytest.mark.parametrize(
    ("module", "name", "text", "value"),
    [
        ("flow_run", "name", "mocked", "mocked"),
        ("flow_run", "id", "42", "42"),
        ("flow_run", "run_count", "7", 7),
        (
            "flow_run",
            "scheduled_start_time",
            "2026-03-01T12:00:00",
            datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC),
        ),
        (
            "flow_run",
            "scheduled_start_time",
            "2026-03-01T12:00:00+01:00",
            datetime.datetime(2026, 3, 1, 11, tzinfo=datetime.UTC),
        ),
        ("task_run", "run_count", "7", 7),
        ("task_run", "name", "mocked", "mocked"),
        ("flow_run", "new_one", "text", "text"),
        ("task_run", "new_one", "1", "1"),
    ],
)
def test_the_environment_may_give_a_value_of_the_real_type(
    module: str, name: str, text: str, value: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(f"CORE_ENGINE__RUNTIME__{module.upper()}__{name.upper()}", text)

    found = getattr(getattr(runtime, module), name)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.behaviour("RT-8")
@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("False", False), ("off", False)])
def test_truth_values_and_numbers_are_cast(text: str, value: bool):
    from core_engine.runtime.mocks import cast_like

    assert cast_like(text, True, "flag") is value
    assert cast_like("2.5", 1.0, "share") == 2.5


@pytest.mark.behaviour("RT-8")
def test_a_mocked_value_holds_inside_a_run_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CORE_ENGINE__RUNTIME__FLOW_RUN__NAME", "mocked")

    @flow
    def tells():
        return runtime.flow_run.name

    assert tells() == "mocked"


@pytest.mark.behaviour("RT-8")
@pytest.mark.parametrize("name", ["tags", "parameters"])
def test_lists_and_mappings_cannot_be_given_so(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(f"CORE_ENGINE__RUNTIME__FLOW_RUN__{name.upper()}", "x")
    with pytest.raises(ValueError, match=f"'{name}'.*(list|dict).*cannot|'{name}'.*(list|dict).*no environment"):
        getattr(runtime.flow_run, name)


@pytest.mark.behaviour("RT-8")
def test_a_text_that_is_no_such_value_is_an_error_that_names_the_attribute(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CORE_ENGINE__RUNTIME__FLOW_RUN__RUN_COUNT", "many")
    with pytest.raises(ValueError, match=r"'many'.*'run_count'.*int"):
        runtime.flow_run.run_count


@pytest.mark.behaviour("RT-8")
def test_variables_of_mocks_are_no_unknown_settings():
    code = "import core_engine.settings as s; s.get_current_settings(); print('fine')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"CORE_ENGINE__RUNTIME__FLOW_RUN__NAME": "x", "CORE_ENGINE__FLOW_RUN_ID": "y", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")
