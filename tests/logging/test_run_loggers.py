"""Loggers: their names, and what lines of runs carry."""

import logging
import pickle
from uuid import uuid4

import pytest

from core_engine.context import FlowRunContext
from core_engine.exceptions import MissingContextError
from core_engine.logging import (
    disable_logger,
    disable_run_logger,
    flow_run_logger,
    get_logger,
    get_run_logger,
    task_run_logger,
)
from core_engine.schemas.records import FlowRun, TaskRun
from tests.logging.conftest import Runs


@pytest.fixture
def flow_run() -> FlowRun:
    return FlowRun(id=uuid4(), name="brave-otter", flow_name="my-flow")


@pytest.fixture
def task_run(flow_run: FlowRun) -> TaskRun:
    return TaskRun(id=uuid4(), name="load-0", flow_run_id=flow_run.id, task_key="k", task_name="load", dynamic_key="0")


@pytest.mark.behaviour("LOG-5")
@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, "core_engine"),
        ("", "core_engine"),
        ("core_engine", "core_engine"),
        ("x", "core_engine.x"),
        ("core_engine.x", "core_engine.x"),
        ("core_engines", "core_engine.core_engines"),
    ],
)
def test_a_logger_is_the_librarys_or_its_child(given: str | None, name: str) -> None:
    assert get_logger(given).name == name


@pytest.mark.behaviour("LOG-1")
def test_the_run_logger_is_that_of_the_task_else_that_of_the_flow(runs: Runs) -> None:
    with runs.flow() as flow_context:
        assert get_run_logger().logger.name == "core_engine.flow_runs"
        with runs.task(flow_context.flow_run.id):
            assert get_run_logger().logger.name == "core_engine.task_runs"
        assert get_run_logger().logger.name == "core_engine.flow_runs"


@pytest.mark.behaviour("LOG-1")
def test_outside_of_runs_there_is_no_run_logger() -> None:
    with pytest.raises(MissingContextError, match="disable_run_logger"):
        get_run_logger()


@pytest.mark.behaviour("LOG-2")
def test_lines_of_a_flow_carry_its_names_and_id(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "core_engine.flow_runs"), runs.flow(name="brave-otter") as context:
        get_run_logger().info("hello")

    record = caplog.records[0].__dict__
    assert record["flow_run_name"] == "brave-otter"
    assert record["flow_run_id"] == str(context.flow_run.id)
    assert record["flow_name"] == "my-flow"
    assert "task_run_id" not in record


@pytest.mark.behaviour("LOG-2")
def test_lines_of_a_task_carry_the_flows_and_its_own(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "core_engine.task_runs"), runs.flow(name="brave-otter") as flow_context:
        with runs.task(flow_context.flow_run.id, name="load-0") as context:
            get_run_logger().info("hello")

    record = caplog.records[0].__dict__
    assert record["flow_run_name"] == "brave-otter"
    assert record["flow_run_id"] == str(flow_context.flow_run.id)
    assert record["flow_name"] == "my-flow"
    assert record["task_run_name"] == "load-0"
    assert record["task_run_id"] == str(context.task_run.id)
    assert record["task_name"] == "my-task"


@pytest.mark.behaviour("LOG-2")
def test_what_is_not_known_of_a_run_is_said_to_be_unknown(runs: Runs, task_run: TaskRun) -> None:
    with runs.task(task_run.flow_run_id):
        of_task = get_run_logger().extra
    with FlowRunContext():
        of_flow = get_run_logger().extra

    assert (of_task["flow_run_name"], of_task["flow_name"]) == ("<unknown>", "<unknown>")
    assert of_task["flow_run_id"] == str(task_run.flow_run_id)
    assert set(of_flow.values()) == {"<unknown>"}


@pytest.mark.behaviour("LOG-3")
def test_a_context_that_is_given_wins_over_the_current_one(runs: Runs) -> None:
    other = runs.flow(name="other")
    with runs.flow() as context, runs.task(context.flow_run.id):
        logger = get_run_logger(other)

    assert logger.logger.name == "core_engine.flow_runs"
    assert logger.extra["flow_run_name"] == "other"


@pytest.mark.behaviour("LOG-3")
def test_something_else_for_a_context_is_an_error_that_names_its_type() -> None:
    with pytest.raises(TypeError, match="dict"):
        get_run_logger({})  # type: ignore[arg-type]


@pytest.mark.behaviour("LOG-3")
def test_further_fields_are_added_and_may_replace_those_of_the_run(runs: Runs) -> None:
    with runs.flow(name="brave-otter"):
        logger = get_run_logger(flow_run_name="mine", shard=3)
        assert (logger.extra["flow_run_name"], logger.extra["shard"]) == ("mine", 3)
        assert get_run_logger().extra["flow_run_name"] == "brave-otter"


@pytest.mark.behaviour("LOG-3")
def test_fields_of_one_line_win_over_those_of_the_logger(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "core_engine.flow_runs"), runs.flow():
        get_run_logger(shard=3).info("hello", extra={"shard": 4})

    assert caplog.records[0].__dict__["shard"] == 4


@pytest.mark.behaviour("LOG-4")
def test_in_a_subflow_the_ids_are_the_childs(runs: Runs) -> None:
    with runs.flow(), runs.flow() as child:
        assert get_run_logger().extra["flow_run_id"] == str(child.flow_run.id)
        with runs.task(child.flow_run.id):
            assert get_run_logger().extra["flow_run_id"] == str(child.flow_run.id)


def test_a_task_of_another_flow_run_than_the_current_one_does_not_take_its_names(runs: Runs, task_run: TaskRun) -> None:
    with runs.flow(), runs.task(task_run.flow_run_id):
        assert get_run_logger().extra["flow_run_id"] == str(task_run.flow_run_id)
        assert get_run_logger().extra["flow_run_name"] == "<unknown>"


@pytest.mark.behaviour("LOG-6")
def test_loggers_of_records_carry_what_the_records_say(flow_run: FlowRun, task_run: TaskRun) -> None:
    of_flow = flow_run_logger(flow_run, shard=1)
    of_task = task_run_logger(task_run, flow_run=flow_run, shard=2)

    assert of_flow.logger.name == "core_engine.flow_runs"
    assert of_flow.extra == {
        "flow_run_name": "brave-otter",
        "flow_run_id": str(flow_run.id),
        "flow_name": "my-flow",
        "shard": 1,
    }
    assert of_task.logger.name == "core_engine.task_runs"
    assert of_task.extra == {
        "flow_run_name": "brave-otter",
        "flow_run_id": str(flow_run.id),
        "flow_name": "my-flow",
        "task_run_name": "load-0",
        "task_run_id": str(task_run.id),
        "task_name": "load",
        "shard": 2,
    }
    assert task_run_logger(task_run).extra["flow_run_name"] == "<unknown>"


@pytest.mark.behaviour("LOG-6")
def test_a_child_of_a_run_logger_keeps_and_extends_its_fields(flow_run: FlowRun) -> None:
    child = flow_run_logger(flow_run, shard=1).getChild("part", {"piece": 2})

    assert child.logger.name == "core_engine.flow_runs.part"
    assert child.extra["flow_run_name"] == "brave-otter"
    assert (child.extra["shard"], child.extra["piece"]) == (1, 2)


@pytest.mark.behaviour("LOG-7")
def test_a_disabled_logger_is_silent_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("somebody")
    with disable_logger("somebody"):
        logger.error("silent")
        with disable_logger("somebody"):
            pass
        logger.error("still silent")
    logger.error("loud")

    assert caplog.messages == ["loud"]


@pytest.mark.behaviour("LOG-7")
def test_with_run_loggers_disabled_code_that_logs_runs_outside_of_runs(caplog: pytest.LogCaptureFixture) -> None:
    with disable_run_logger():
        get_run_logger().error("silent", extra={"x": 1})

    assert not caplog.records
    with pytest.raises(MissingContextError):
        get_run_logger()


def test_a_line_points_at_the_users_code(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    with runs.flow():
        get_run_logger().warning("here")

    assert caplog.records[0].pathname == __file__


def test_ids_in_records_travel_as_plain_text(runs: Runs) -> None:
    with runs.flow() as context:
        copy = pickle.loads(pickle.dumps(get_run_logger().extra["flow_run_id"]))

    assert type(copy) is str
    assert copy == str(context.flow_run.id)
