"""Random flows come to what a plain sequential evaluation of them comes to: results, states and lineage."""

import asyncio
import inspect
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from core_engine import State
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner
from tests.behaviours.helpers import input_ids, read_task_runs, setting
from tests.soak.programs import Evaluation, Execution, Program, programs

RUNNERS = pytest.mark.parametrize(
    "task_runner",
    [SequentialTaskRunner(), ConcurrentTaskRunner(), ConcurrentTaskRunner(max_workers=1)],
    ids=["sequential", "concurrent", "one-worker"],
)
SETTINGS = settings(
    deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def expect_what_a_plain_evaluation_gives(program: Program, task_runner: Any) -> None:
    expected = Evaluation(program)
    execution = Execution(task_runner, expected)
    called = execution.flow_of(program, ())
    with setting(LOGGING_LEVEL="CRITICAL"):
        state = called(0, return_state=True)
        if inspect.isawaitable(state):
            state = asyncio.run(_awaited(state))
    expect_equal_outcomes(expected, execution, state)
    expect_equal_lineage(expected, execution)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def expect_equal_outcomes(expected: Evaluation, execution: Execution, state: State) -> None:
    found = {place: (outcome.kind, outcome.value) for place, outcome in execution.outcomes.items()}
    assert found == {place: (outcome.kind, outcome.value) for place, outcome in expected.outcomes.items()}
    assert state.type.value == expected.of_flow.kind
    if expected.of_flow.value is not None:
        assert state.result() == expected.of_flow.value


def expect_equal_lineage(expected: Evaluation, execution: Execution) -> None:
    """What is recorded of each task run: its state, and the task runs that its inputs come from."""
    flow_runs = {read_flow_run_id(id) for id in execution.task_run_ids.values()}
    recorded = {run.id: run for id in flow_runs for run in read_task_runs(id)}
    places = {id: place for place, id in execution.task_run_ids.items()}
    assert recorded.keys() == places.keys()
    for id, run in recorded.items():
        outcome = expected.outcomes[places[id]]
        assert run.state.type.value == outcome.kind
        upstream = {name: {places[one] for one in ids} for name, ids in input_ids(run).items() if ids}
        assert upstream == {name: ones for name, ones in outcome.upstream.items() if ones}


def read_flow_run_id(task_run_id: Any) -> Any:
    from tests.behaviours.helpers import read_task_run

    return read_task_run(task_run_id).flow_run_id


@RUNNERS
def test_a_random_flow_comes_to_what_a_plain_evaluation_comes_to(task_runner: Any) -> None:
    @settings(SETTINGS, max_examples=12)
    @given(programs())
    def expect(program: Program) -> None:
        expect_what_a_plain_evaluation_gives(program, task_runner)

    expect()


@pytest.mark.faults
@pytest.mark.timeout(900)
@RUNNERS
def test_hundreds_of_random_flows_come_to_what_a_plain_evaluation_comes_to(task_runner: Any) -> None:
    @settings(SETTINGS, max_examples=300)
    @given(programs(depth=3, most_nodes=8))
    def expect(program: Program) -> None:
        expect_what_a_plain_evaluation_gives(program, task_runner)

    expect()
