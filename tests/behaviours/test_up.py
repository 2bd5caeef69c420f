"""UP: runs whose upstream did not complete."""

from typing import Any

import pytest

from core_engine import State, flow, task
from core_engine.exceptions import UnfinishedRun
from core_engine.states import Cancelled, Crashed, Failed, Pending, Running, Scheduled
from core_engine.task_runners import BaseTaskRunner
from tests.behaviours.helpers import read_task_run, stored_task_state, task_run_id


class CustomError(Exception):
    pass


@task
def give(x: Any = 1) -> Any:
    return x


@task
def fail() -> None:
    raise CustomError("no")


@task
def never(x: Any = None) -> None:
    pytest.fail("The function ran")


@pytest.mark.behaviour("UP-1")
@pytest.mark.parametrize("kind", [Failed, Crashed, Cancelled, Pending, Running, Scheduled])
@pytest.mark.parametrize("place", ["argument", "nested", "wait_for"])
def test_a_task_whose_upstream_is_not_completed_does_not_run(kind: Any, place: str):
    @flow
    def parent():
        upstream = kind()
        if place == "argument":
            state = never(upstream, return_state=True)
        elif place == "nested":
            state = never({"a": [(upstream,)]}, return_state=True)
        else:
            state = never(wait_for=[upstream], return_state=True)
        return state.type.value, state.name

    assert parent() == ("PENDING", "NotReady")


@pytest.mark.behaviour("UP-1", "UP-2")
@pytest.mark.parametrize("kind", [Failed, Crashed, Cancelled])
def test_a_run_that_ended_badly_makes_its_dependants_not_ready(runner: BaseTaskRunner, kind: Any):
    @task
    def ends():
        return kind(message="by hand")

    @flow(task_runner=runner)
    def parent():
        upstream = ends.submit()
        return [upstream, never.submit([upstream]), never.submit(wait_for=[upstream])]

    upstream, *dependants = parent(return_state=True).result(raise_on_failure=False)

    for state in dependants:
        assert isinstance(state, State)
        assert state.is_pending()
        assert state.name == "NotReady"
        assert str(task_run_id(upstream)) in state.message
        assert "COMPLETED" in state.message.upper()
        assert stored_task_state(state).name == "NotReady"
        assert read_task_run(state).run_count == 0


@pytest.mark.behaviour("UP-3")
def test_not_ready_spreads_with_the_id_of_the_run_before():
    @flow
    def parent():
        first = fail.submit()
        second = never.submit(first)
        return [first, second, never.submit(second)]

    first, second, third = parent(return_state=True).result(raise_on_failure=False)

    assert second.name == third.name == "NotReady"
    assert str(task_run_id(first)) in second.message
    assert str(task_run_id(second)) in third.message
    assert str(task_run_id(first)) not in third.message


@pytest.mark.behaviour("UP-4")
def test_other_tasks_of_the_flow_go_on():
    @flow
    def parent():
        bad = fail.submit()
        never.submit(bad)
        return give.submit("fine").result()

    assert parent() == "fine"


@pytest.mark.behaviour("UP-5", "FLOW-RET-9")
def test_a_flow_that_returns_or_aggregates_such_states_is_failed():
    @flow
    def returns():
        return never(fail(return_state=True), return_state=True)

    @flow
    def aggregates():
        never.submit(fail.submit())

    returned, aggregated = returns(return_state=True), aggregates(return_state=True)

    assert returned.is_failed()
    assert "1/1" in returned.message
    assert "not final" in returned.message.lower()
    assert aggregated.is_failed()


@pytest.mark.behaviour("UP-5")
def test_the_result_of_a_run_that_is_not_ready_raises_unfinished_run():
    @flow
    def parent():
        state = never.submit(fail.submit()).wait()
        with pytest.raises(UnfinishedRun, match="PENDING"):
            state.result()
        return 1

    assert parent() == 1


@pytest.mark.behaviour("UP-6")
def test_the_name_of_a_run_that_was_pending_changes_to_not_ready():
    from tests.behaviours.helpers import task_history

    @flow
    def parent():
        return never(fail(return_state=True), return_state=True)

    state = parent(return_state=True).result(raise_on_failure=False)

    assert task_history(state) == ["Pending", "NotReady"]
