"""The common outcome of many runs."""

import pytest

from core_engine.orchestration.aggregate import aggregate_states, count_states
from core_engine.schemas.states import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    CRASHED,
    FAILED,
    PAUSED,
    PENDING,
    RUNNING,
    StateType,
)
from tests.orchestration.builders import state


def outcome(*types: StateType) -> tuple[StateType, str]:
    return aggregate_states(state(type) for type in types)


@pytest.mark.behaviour("FLOW-RET-8", "FLOW-RET-9")
def test_all_completed_is_completed_and_says_so() -> None:
    type, message = outcome(COMPLETED, COMPLETED)
    assert type is COMPLETED
    assert "All 2" in message
    assert "completed" in message


@pytest.mark.behaviour("FLOW-RET-8", "FLOW-RET-9")
def test_failed_and_crashed_count_together() -> None:
    type, message = outcome(FAILED, COMPLETED, CRASHED)
    assert type is FAILED
    assert "2/3" in message
    assert "failed" in message


@pytest.mark.behaviour("FLOW-RET-9")
def test_one_crashed_run_fails_the_whole() -> None:
    type, message = outcome(CRASHED)
    assert type is FAILED
    assert "1/1" in message


@pytest.mark.behaviour("FLOW-RET-8", "FLOW-RET-9")
def test_any_cancelled_run_goes_before_failures_and_pauses() -> None:
    type, message = outcome(FAILED, CANCELLED, PAUSED)
    assert type is CANCELLED
    assert "1/3" in message
    assert "cancelled" in message


@pytest.mark.behaviour("FLOW-RET-8", "FLOW-RET-9")
def test_any_paused_run_goes_before_failures() -> None:
    type, message = outcome(FAILED, COMPLETED, PAUSED)
    assert type is PAUSED
    assert "1/3" in message
    assert "paused" in message


@pytest.mark.behaviour("FLOW-RET-9")
@pytest.mark.parametrize("unfinished", [PENDING, RUNNING, CANCELLING])
def test_unfinished_runs_without_failures_are_a_failure_that_says_so(unfinished: StateType) -> None:
    type, message = outcome(unfinished, COMPLETED, unfinished)
    assert type is FAILED
    assert "2/3" in message
    assert "not final" in message


@pytest.mark.behaviour("FLOW-RET-9")
def test_failures_go_before_unfinished_runs() -> None:
    type, message = outcome(PENDING, FAILED, PENDING)
    assert type is FAILED
    assert "1/3" in message
    assert "not final" not in message


def test_no_runs_are_completed() -> None:
    assert aggregate_states([])[0] is COMPLETED


@pytest.mark.behaviour("FLOW-RET-9")
def test_counts_alone_are_enough() -> None:
    type, message = aggregate_states({COMPLETED: 99_998, FAILED: 1, CRASHED: 1, PENDING: 0})
    assert type is FAILED
    assert "2/100000" in message


def test_states_are_counted_by_type() -> None:
    assert count_states([state(FAILED), state(COMPLETED), state(FAILED)]) == {FAILED: 2, COMPLETED: 1}
