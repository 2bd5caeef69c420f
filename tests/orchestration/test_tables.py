"""Every cell of the two tables of moves: what comes of it, and that its rules stand in the specified order."""

import itertools

import pytest

from core_engine.exceptions import IllegalTransition
from core_engine.orchestration import common_rules as common
from core_engine.orchestration import flow_rules as flows
from core_engine.orchestration import task_rules as tasks
from core_engine.orchestration.decisions import Answer, Decision
from core_engine.schemas.states import RUNNING, StateType
from tests.orchestration.builders import ask_flow, ask_task, fields_of, flow_run_in, state, task_run_in

# Of a run without policy, limits, cache, deployment or process, in a flow that runs:
# A accepted, S stays as it is (REJECT), G another state is given instead (REJECT), X ABORT, - illegal.
COLUMNS = ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "CRASHED", "PAUSED", "CANCELLING"]
TASK_ANSWERS = """
SCHEDULED   A A A - A A A A A
PENDING     A A A - A A A A A
RUNNING     A A A A A A A A A
COMPLETED   A A A S S S X X X
FAILED      A A A S S S X X X
CANCELLED   A A A S S S X X X
CRASHED     A A A S S S X X X
PAUSED      A A A - A A A A A
CANCELLING  S S S A A A A S S
"""
FLOW_ANSWERS = """
NONE        A A - - A - - X -
SCHEDULED   A A A - A A A S G
PENDING     A X A - A A A S A
RUNNING     A X A A A A A A A
COMPLETED   X A A S S S X X X
FAILED      X A A S S S X X X
CANCELLED   X X S S S S X X X
CRASHED     X A A S S S X X X
PAUSED      A S A A A A A S S
CANCELLING  S X S S S A S S S
"""
TASK_ORDER = [
    tasks.use_cached_state,
    common.abort_after_end,
    common.stay_final,
    common.keep_stored_result,
    common.stay_cancelling,
    tasks.require_running_flow,
    tasks.require_slots,
    common.copy_scheduled_time,
    common.wait_until_scheduled,
    tasks.retry_failed,
    tasks.name_rerun,
    tasks.store_cache,
]
FLOW_ORDER = [
    common.abort_after_end,
    common.keep_stored_result,
    flows.require_deployment,
    common.stay_final,
    common.stay_cancelling,
    flows.cancel_without_process,
    flows.abort_second_submission,
    flows.abort_pause_before_start,
    flows.stay_unpaused,
    flows.pause,
    flows.stay_paused,
    flows.resume,
    common.copy_scheduled_time,
    common.wait_until_scheduled,
    flows.retry_failed,
]
COMPLETING = {common.copy_scheduled_time, tasks.name_rerun, tasks.store_cache}


def cells(grid: str) -> list[tuple[StateType | None, StateType, str]]:
    read = []
    for row in grid.strip().splitlines():
        left, *letters = row.split()
        from_type = None if left == "NONE" else StateType(left)
        read += [(from_type, StateType(to), letter) for to, letter in zip(COLUMNS, letters, strict=True)]
    return read


def letter_of(decision: Decision) -> str:
    if decision.answer is Answer.REJECT:
        return "G" if decision.records else "S"
    return {Answer.ACCEPT: "A", Answer.ABORT: "X", Answer.WAIT: "W"}[decision.answer]


@pytest.mark.behaviour("ORCH-1", "ORCH-10", "ORCH-11", "ORCH-13", "ORCH-20", "I9")
@pytest.mark.parametrize(("left", "entered", "expected"), cells(TASK_ANSWERS))
def test_a_task_run_may_make_the_moves_of_the_table(left: StateType, entered: StateType, expected: str) -> None:
    run = task_run_in(left)
    before = fields_of(run)
    proposed = state(entered)
    if expected == "-":
        with pytest.raises(IllegalTransition, match=rf"Task run add-1 is in .*{left.value}"):
            ask_task(run, proposed)
    else:
        decision = ask_task(run, proposed)
        assert letter_of(decision) == expected
        assert (decision.reason is None) == (expected == "A")
        if expected == "A":
            assert decision.state is proposed
    assert fields_of(run) == before


@pytest.mark.behaviour("ORCH-2", "ORCH-10", "ORCH-14", "ORCH-16", "ORCH-18", "ORCH-19", "ORCH-20", "ORCH-21", "I9")
@pytest.mark.parametrize(("left", "entered", "expected"), cells(FLOW_ANSWERS))
def test_a_flow_run_may_make_the_moves_of_the_table(left: StateType | None, entered: StateType, expected: str) -> None:
    run = flow_run_in(left)
    before = fields_of(run)
    proposed = state(entered)
    if expected == "-":
        with pytest.raises(IllegalTransition, match=f"Flow run {run.flow_run_id} .* cannot .*force=True"):
            ask_flow(run, proposed)
    else:
        decision = ask_flow(run, proposed)
        assert letter_of(decision) == expected
        assert (decision.reason is None) == (expected == "A")
        if expected == "A":
            assert decision.state is proposed
    assert fields_of(run) == before


def test_the_tables_have_no_cells_beyond_those_listed_here() -> None:
    assert set(tasks.TASK_RULES) == {(left, to) for left, to, letter in cells(TASK_ANSWERS) if letter != "-"}
    assert set(flows.FLOW_RULES) == {(left, to) for left, to, letter in cells(FLOW_ANSWERS) if letter != "-"}


@pytest.mark.behaviour("ORCH-1")
def test_the_rules_of_each_move_of_a_task_run_stand_in_the_order_of_the_specification() -> None:
    for cell, rules in tasks.TASK_RULES.items():
        places = [TASK_ORDER.index(rule) for rule in rules]
        assert places == sorted(places), cell


@pytest.mark.behaviour("ORCH-2")
def test_the_rules_of_each_move_of_a_flow_run_stand_in_the_order_of_the_specification() -> None:
    for cell, rules in flows.FLOW_RULES.items():
        places = [FLOW_ORDER.index(rule) for rule in rules]
        assert places == sorted(places), cell


@pytest.mark.behaviour("ORCH-3")
def test_no_rule_that_may_answer_follows_one_that_completes_the_proposed_state() -> None:
    for rules in itertools.chain(tasks.TASK_RULES.values(), flows.FLOW_RULES.values()):
        completes = [rule in COMPLETING for rule in rules]
        assert completes == sorted(completes)


def test_every_rule_has_a_cell() -> None:
    used = set(itertools.chain(*tasks.TASK_RULES.values(), *flows.FLOW_RULES.values()))
    assert used == {*TASK_ORDER, *FLOW_ORDER}


@pytest.mark.behaviour("ORCH-3")
@pytest.mark.parametrize(("left", "entered"), list(itertools.product(StateType, StateType)))
def test_force_records_any_state(left: StateType, entered: StateType) -> None:
    for decision in (
        ask_task(task_run_in(left), state(entered), force=True),
        ask_flow(flow_run_in(left), state(entered), force=True),
    ):
        assert decision.answer is Answer.ACCEPT
        assert decision.records


def test_an_illegal_move_is_refused_with_where_the_run_stands_and_the_way_out() -> None:
    run = task_run_in(StateType.PAUSED)
    with pytest.raises(IllegalTransition) as raised:
        ask_task(run, state(StateType.COMPLETED))
    message = str(raised.value)
    assert "Paused" in message
    assert "state 3 of its history" in message
    assert "execution 1" in message
    assert "force=True" in message


def test_a_first_state_that_a_flow_run_cannot_have_is_refused_as_such() -> None:
    with pytest.raises(IllegalTransition, match="no state yet, so it cannot begin as Running"):
        ask_flow(flow_run_in(None), state(RUNNING))
