"""FLOW-RETRY: retries of flows."""

import time

import pytest

from core_engine import State, flow, task
from core_engine.testing import leaping_clock
from tests.behaviours.helpers import (
    flow_history,
    flow_run_id,
    read_flow_run,
    read_flow_runs,
    read_task_run,
    read_task_runs,
    stored_task_state,
)


class CustomError(Exception):
    pass


def failing_first(times: int = 1):
    """Returns a function that raises in its first calls, and the list of its calls."""
    calls: list[int] = []

    def attempt():
        calls.append(len(calls) + 1)
        if len(calls) <= times:
            raise CustomError(f"call {len(calls)}")
        return f"call {len(calls)}"

    return attempt, calls


@pytest.mark.behaviour("FLOW-RETRY-1")
def test_a_flow_stops_at_its_first_success_and_returns_the_later_result():
    attempt, calls = failing_first(1)

    @flow(retries=3)
    def retried():
        return attempt()

    assert retried() == "call 2"
    assert calls == [1, 2]


@pytest.mark.behaviour("FLOW-RETRY-1")
def test_a_flow_that_always_fails_is_executed_once_more_than_its_retries():
    attempt, calls = failing_first(100)

    @flow(retries=2)
    def retried():
        return attempt()

    state = retried(return_state=True)

    assert state.is_failed()
    assert calls == [1, 2, 3]
    with pytest.raises(CustomError, match="call 3"):
        state.result()


@pytest.mark.behaviour("FLOW-RETRY-1")
@pytest.mark.anyio
async def test_an_async_flow_is_retried():
    attempt, calls = failing_first(1)

    @flow(retries=1)
    async def retried():
        return attempt()

    assert await retried() == "call 2"
    assert calls == [1, 2]


@pytest.mark.behaviour("FLOW-RETRY-2")
def test_a_retried_flow_waits_its_delay_and_keeps_its_whole_history():
    attempt, _ = failing_first(2)

    @flow(retries=2, retry_delay_seconds=300)
    def retried():
        return attempt()

    with leaping_clock() as clock:
        state = retried(return_state=True)

    assert clock.waits == pytest.approx([300, 300], abs=1)
    assert flow_history(state) == ["Pending", "Running", *["AwaitingRetry", "Running"] * 2, "Completed"]
    assert read_flow_run(state).run_count == 3


@pytest.mark.behaviour("FLOW-RETRY-2")
def test_the_delay_of_a_flow_retry_is_real():
    times = []

    @flow(retries=1, retry_delay_seconds=0.2)
    def retried():
        times.append(time.monotonic())
        if len(times) == 1:
            raise CustomError("once more")
        return 1

    retried()

    assert times[1] - times[0] >= 0.2


@pytest.mark.behaviour("FLOW-RETRY-2")
def test_the_state_between_two_executions_is_scheduled():
    from tests.behaviours.helpers import read_states

    attempt, _ = failing_first(1)

    @flow(retries=1)
    def retried():
        return attempt()

    state = retried(return_state=True)

    assert [str(one.type.value) for one in read_states(flow_run_id(state))] == [
        "PENDING",
        "RUNNING",
        "SCHEDULED",
        "RUNNING",
        "COMPLETED",
    ]


@pytest.mark.behaviour("FLOW-RETRY-3")
def test_failed_tasks_trigger_a_retry_of_a_flow_that_returns_nothing():
    attempt, calls = failing_first(1)
    executions = []

    @task
    def work():
        return attempt()

    @flow(retries=1)
    def retried():
        executions.append(1)
        work.submit()

    assert retried(return_state=True).is_completed()
    assert len(executions) == 2
    assert calls == [1, 2]


@pytest.mark.behaviour("FLOW-RETRY-4", "FLOW-RETRY-10")
def test_a_completed_task_is_not_executed_again_on_a_flow_retry():
    attempt, _ = failing_first(1)
    executed = []

    @task
    def once(x):
        executed.append(x)
        return {"result": x}

    @flow(retries=1)
    def retried():
        result = once("plain"), once.submit("submitted").result(), [f.result() for f in once.map(["m0", "m1"])]
        attempt()
        return result

    assert retried() == ({"result": "plain"}, {"result": "submitted"}, [{"result": "m0"}, {"result": "m1"}])
    assert sorted(executed) == ["m0", "m1", "plain", "submitted"]


@pytest.mark.behaviour("FLOW-RETRY-4")
def test_a_completed_task_whose_result_is_not_kept_is_executed_again_on_a_flow_retry():
    attempt, _ = failing_first(1)
    executed = []

    @task(persist_result=False)
    def again(x):
        executed.append(x)
        return {"result": x}

    @flow(retries=1)
    def retried():
        result = again("a")
        attempt()
        return result

    assert retried() == {"result": "a"}
    assert executed == ["a", "a"]


@pytest.mark.behaviour("FLOW-RETRY-5")
def test_a_failed_task_has_its_full_retries_anew_on_a_flow_retry():
    attempt, calls = failing_first(100)

    @task(retries=2)
    def hopeless():
        attempt()

    @flow(retries=1)
    def retried():
        hopeless()

    state = retried(return_state=True)

    assert state.is_failed()
    assert len(calls) == 6
    (run,) = read_task_runs(state)
    assert run.state_type == "FAILED"


@pytest.mark.behaviour("FLOW-RETRY-6")
def test_a_completed_subflow_is_not_run_again_on_a_flow_retry():
    attempt, _ = failing_first(1)
    executed = []

    @flow
    def child():
        executed.append(1)
        return {"from": "the child"}

    @flow(retries=1)
    def parent():
        result = child()
        attempt()
        return result

    state = parent(return_state=True)

    assert state.result() == {"from": "the child"}
    assert len(executed) == 1
    assert len(read_flow_runs(flow_name="child")) == 1


@pytest.mark.behaviour("FLOW-RETRY-7")
def test_a_failed_subflow_runs_again_as_a_new_child_run_of_the_same_parent_task_run():
    attempt, _ = failing_first(1)
    tasks_run = []

    @task
    def in_child():
        tasks_run.append(1)
        return 1

    @flow
    def child():
        in_child()
        return attempt()

    @flow(retries=1)
    def parent():
        return child()

    state = parent(return_state=True)

    assert state.result() == "call 2"
    children = sorted(read_flow_runs(flow_name="child"), key=lambda run: run.created)
    assert [run.state_type for run in children] == ["FAILED", "COMPLETED"]
    (parent_task_run,) = read_task_runs(state)
    assert parent_task_run.state_type == "COMPLETED"
    assert {run.parent_task_run_id for run in children} == {parent_task_run.id}
    assert parent_task_run.state.state_details.child_flow_run_id == children[1].id
    assert len(tasks_run) == 2


@pytest.mark.behaviour("FLOW-RETRY-8")
def test_the_retries_of_a_subflow_lie_inside_one_execution_of_its_parent_and_are_renewed_for_each():
    attempt, calls = failing_first(3)
    parent_executions = []

    @flow(retries=1)
    def child():
        return attempt()

    @flow(retries=1)
    def parent():
        parent_executions.append(len(calls))
        return child()

    assert parent() == "call 4"
    assert calls == [1, 2, 3, 4]
    assert parent_executions == [0, 2]


@pytest.mark.behaviour("FLOW-RETRY-10", "RES-POLICY-3")
def test_retries_of_a_flow_turn_on_persistence_for_its_tasks_and_not_otherwise():
    @task
    def gives():
        return {"a": 1}

    def run_with(retries: int) -> State:
        @flow(retries=retries)
        def has_retries():
            return gives(return_state=True)

        return stored_task_state(has_retries(return_state=True).result())

    from core_engine.exceptions import MissingResult

    assert run_with(1).result() == {"a": 1}
    with pytest.raises(MissingResult):
        run_with(0).result()


@pytest.mark.behaviour("FLOW-RETRY-10", "RES-POLICY-2")
def test_retries_of_a_flow_turn_on_persistence_for_its_subflows():
    from tests.behaviours.helpers import child_flow_run

    @flow
    def child():
        return {"a": 1}

    @flow(retries=1)
    def parent():
        return child(return_state=True)

    child_state = parent(return_state=True).result()

    assert child_flow_run(child_state).state.result() == {"a": 1}


@pytest.mark.behaviour("D1", "FLOW-RETRY-5")
def test_a_flow_retry_leaves_the_final_state_of_a_failed_task_and_keeps_its_history():
    attempt, _ = failing_first(1)

    @task
    def work():
        return attempt()

    @flow(retries=1)
    def retried():
        return work()

    state = retried(return_state=True)
    (run,) = read_task_runs(state)

    from tests.behaviours.helpers import task_history

    history = task_history(run.id)
    assert history[:3] == ["Pending", "Running", "Failed"]
    assert history[-1] == "Completed"
    assert read_task_run(run.id).state_name == "Completed"


@pytest.mark.behaviour("FLOW-RETRY-9")
def test_a_flow_that_calls_otherwise_in_its_second_attempt_is_given_what_the_first_attempt_came_to():
    executed, attempts = [], []

    @task
    def double(x):
        executed.append(x)
        return x * 2

    @flow(retries=1)
    def retried():
        attempts.append(1)
        if len(attempts) == 1:
            double(1)
            raise CustomError("once more")
        return double(100)

    # A documented limitation (docs/decisions.md, 14): calls are matched by key and index alone.
    assert retried() == 2
    assert executed == [1]
