"""FLOW-NAME: names of flow runs."""

import logging

import pytest

from core_engine import flow, get_run_logger, runtime
from tests.behaviours.conftest import LogRecords
from tests.behaviours.helpers import read_flow_run


@pytest.mark.behaviour("FLOW-NAME-1")
def test_a_text_is_a_template_over_parameters_and_defaults():
    @flow(flow_run_name="{foo}-and-{bar}")
    def named(foo, bar="default"):
        return runtime.flow_run.name

    state = named("x", return_state=True)

    assert read_flow_run(state).name == "x-and-default"
    assert state.result() == "x-and-default"


@pytest.mark.behaviour("FLOW-NAME-2")
def test_a_callable_makes_the_name_inside_the_run_context():
    def make_name():
        return f"{runtime.flow_run.flow_name} of {runtime.flow_run.parameters['x']}"

    @flow(flow_run_name=make_name)
    def named(x):
        return 1

    assert read_flow_run(named(5, return_state=True)).name == "named of 5"


@pytest.mark.behaviour("FLOW-NAME-3")
def test_a_callable_that_gives_no_text_fails_the_run_with_a_type_error():
    def makes_a_number():
        return 5

    @flow(flow_run_name=makes_a_number)
    def named():
        pytest.fail("The function ran")

    with pytest.raises(TypeError, match=r"(?s)(?=.*makes_a_number)(?=.*flow_run_name)(?=.*int)"):
        named()


@pytest.mark.behaviour("FLOW-NAME-4")
def test_a_name_is_made_once_per_run_and_not_per_retry():
    made = []

    def make_name():
        made.append(1)
        return f"name {len(made)}"

    executions = []

    @flow(flow_run_name=make_name, retries=1)
    def named():
        executions.append(1)
        if len(executions) == 1:
            raise ValueError("once more")
        return 1

    first = named(return_state=True)
    assert len(executions) == 2
    assert read_flow_run(first).name == "name 1"

    second = named(return_state=True)
    assert read_flow_run(second).name == "name 2"
    assert len(made) == 2


@pytest.mark.behaviour("FLOW-NAME-4")
def test_a_template_is_filled_anew_for_every_call():
    @flow(flow_run_name="run {x}")
    def named(x):
        return x

    assert [read_flow_run(named(x, return_state=True)).name for x in (1, 2)] == ["run 1", "run 2"]


@pytest.mark.behaviour("FLOW-NAME-4")
def test_a_subflow_is_named_from_its_own_parameters():
    @flow(flow_run_name="child {x}")
    def child(x):
        return runtime.flow_run.name

    @flow(flow_run_name="parent {x}")
    def parent(x):
        return runtime.flow_run.name, child(x + 1), runtime.flow_run.name

    assert parent(1) == ("parent 1", "child 2", "parent 1")


@pytest.mark.behaviour("FLOW-NAME-5")
def test_an_invalid_name_set_later_fails_at_run_time():
    @flow
    def named():
        return 1

    named.flow_run_name = 5

    with pytest.raises(TypeError, match=r"(?s)flow_run_name.*int"):
        named()


@pytest.mark.behaviour("FLOW-NAME-5")
def test_log_lines_after_the_renaming_carry_the_new_name(log: LogRecords):
    @flow(flow_run_name="the new name")
    def named():
        get_run_logger().info("from inside")
        return 1

    named()
    (record,) = [record for record in log.records if record.getMessage() == "from inside"]

    assert record.flow_run_name == "the new name"
    assert any("the new name" in str(vars(record)) for record in log.records if record.levelno >= logging.INFO)
