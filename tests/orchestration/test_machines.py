"""Runs that are proposed anything, in any order, with any facts: what holds after every step."""

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from core_engine import ids
from core_engine.exceptions import IllegalTransition, ObjectNotFound
from core_engine.orchestration.decisions import Answer, Decision
from core_engine.orchestration.facts import SLOTS_GRANTED, FlowFacts, SlotAnswer, TaskFacts
from core_engine.orchestration.flow_rules import decide_flow_run
from core_engine.orchestration.progress import FlowRunProgress, TaskRunProgress, record_flow_state, record_task_state
from core_engine.orchestration.task_rules import decide_task_run
from core_engine.schemas.records import TaskPolicy
from core_engine.schemas.states import (
    CANCELLING,
    COMPLETED,
    DEFAULT_NAMES,
    FAILED,
    PAUSED,
    PENDING,
    RUNNING,
    SCHEDULED,
    State,
    StateType,
)
from tests.orchestration.builders import (
    START,
    LostRecord,
    StoredRecord,
    content_of,
    fields_of,
    flow_run,
    is_final,
    moment,
    state,
    task_run,
    task_run_in,
)

LEGAL_NAMES = {type: {name} for type, name in DEFAULT_NAMES.items()}
LEGAL_NAMES[SCHEDULED] |= {"AwaitingRetry"}
LEGAL_NAMES[RUNNING] |= {"Retrying", "Rerunning"}
LEGAL_NAMES[COMPLETED] |= {"Cached"}
LEGAL_NAMES[PAUSED] |= {"NotReady"}

# Half of what is proposed is a start or a pause: the long ways through the tables lead over them.
types = st.one_of(st.sampled_from(list(StateType)), st.sampled_from([RUNNING, RUNNING, PAUSED, COMPLETED]))
datas = st.sampled_from([None, "value", StoredRecord(), LostRecord()])
# Mostly forward, sometimes back: clocks are set.
steps = st.one_of(st.floats(0, 20), st.floats(-5, 0))
settled = settings(
    max_examples=100,
    derandomize=True,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@dataclass(frozen=True)
class Recorded:
    """A state of a run's history, what it said when it was recorded, and the execution that it belongs to."""

    state: State
    content: tuple[Any, ...]
    execution: int


class RunMachine(RuleBasedStateMachine):
    """What task runs and flow runs have in common."""

    progress: Any

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.history: list[Recorded] = []
        self.decisions = itertools.count()

    def remember(self) -> None:
        current = self.progress.state
        self.history.append(Recorded(current, content_of(current), self.progress.execution))

    def maybe_recorded(self, proposed: State, takes_old: bool) -> State:
        """Now and then a state that was recorded before is proposed again."""
        return self.history[len(self.history) // 2].state if takes_old and self.history else proposed

    def check_answer(self, decision: Decision, proposed: State, force: bool, execution: int | None) -> None:
        run = self.progress
        assert decision.records == (decision.state is not None and decision.state is not run.state)
        if execution is not None and execution < run.execution:
            assert decision.answer is Answer.ABORT
        if decision.records and not force and run.state is not None and is_final(run.state):
            assert decision.state is not None
            assert not is_final(decision.state) or decision.state.name == "Cached"
            assert execution is None
        if decision.answer is Answer.ACCEPT:
            assert (decision.state is proposed) == (proposed._ordinal == 0)
            assert decision.reason is None
        else:
            assert decision.reason
        if decision.answer in (Answer.WAIT, Answer.ABORT):
            assert decision.state is None
        assert (decision.seconds > 0) == (decision.answer is Answer.WAIT)
        if force and decision.answer is not Answer.ACCEPT:
            assert execution is not None, "only a finished execution resists force"

    @invariant()
    def history_is_numbered_from_one_without_a_gap(self) -> None:
        assert [entry.state._ordinal for entry in self.history] == list(range(1, len(self.history) + 1))
        assert len({entry.state.id for entry in self.history}) == len(self.history)

    @invariant()
    def recorded_states_never_change(self) -> None:
        for entry in self.history:
            assert content_of(entry.state) == entry.content

    @invariant()
    def time_runs_forward(self) -> None:
        times = [entry.state._time for entry in self.history]
        assert times == sorted(times)

    @invariant()
    def final_is_final_within_an_execution(self) -> None:
        for entry, following in itertools.pairwise(self.history):
            assert following.execution == entry.execution + is_final(entry.state)

    @invariant()
    def times_and_durations_agree_with_the_history(self) -> None:
        run = self.progress
        starts = [entry.state._time for entry in self.history if entry.state._type is RUNNING]
        assert run.start_time == (starts[0] if starts else None)
        if self.history:
            current = self.history[-1].state
            assert run.state is current
            assert run.end_time == (current._time if is_final(current) else None)
        ran = [b.state._time - a.state._time for a, b in itertools.pairwise(self.history) if a.state._type is RUNNING]
        assert run.total_run_time == pytest.approx(sum(ran))

    @invariant()
    def names_are_legal(self) -> None:
        for entry in self.history:
            assert entry.state.name in LEGAL_NAMES[entry.state.type]


class TaskRunMachine(RunMachine):
    """A task run, and beside it the concurrency slots that it should hold."""

    progress: TaskRunProgress

    @initialize(
        retries=st.integers(0, 3),
        delays=st.lists(st.floats(0, 30), max_size=3),
        factor=st.one_of(st.none(), st.floats(0, 3)),
        expiration=st.one_of(st.none(), st.floats(-10, 100)),
        refresh=st.booleans(),
    )
    def create(
        self, retries: int, delays: list[float], factor: float | None, expiration: float | None, refresh: bool
    ) -> None:
        self.policy = TaskPolicy(retries, tuple(delays), factor, None, refresh, expiration)
        self.progress = task_run()
        self.slots_taken = False
        self.flow_run_count = 1
        self.remember()

    @rule()
    def retry_the_flow(self) -> None:
        self.flow_run_count += 1

    @rule(
        type=types,
        step=steps,
        data=datas,
        key=st.sampled_from([None, "key"]),
        due=st.one_of(st.none(), st.floats(-20, 20)),
        flow_type=st.sampled_from([None, RUNNING, RUNNING, RUNNING, PAUSED, CANCELLING]),
        is_found=st.sampled_from([True, True, True, False]),
        is_cached=st.booleans(),
        slots=st.sampled_from([None, SLOTS_GRANTED, SLOTS_GRANTED, SlotAnswer.full("db"), SlotAnswer.zero("db")]),
        jitter=st.floats(0, 1, exclude_max=True),
        execution_back=st.sampled_from([None, None, 0, 1]),
        force=st.sampled_from([False, False, False, True]),
        takes_old=st.sampled_from([False] * 7 + [True]),
    )
    def propose(
        self,
        type: StateType,
        step: float,
        data: Any,
        key: str | None,
        due: float | None,
        flow_type: StateType | None,
        is_found: bool,
        is_cached: bool,
        slots: SlotAnswer | None,
        jitter: float,
        execution_back: int | None,
        force: bool,
        takes_old: bool,
    ) -> None:
        self.now += step
        run = self.progress
        proposed = state(
            type,
            data=data,
            cache_key=key,
            scheduled_time=None if due is None else moment(self.now + due),
        )
        proposed = self.maybe_recorded(proposed, takes_old)
        execution = None if execution_back is None else run.execution - execution_back
        facts = TaskFacts(
            self.now,
            flow_type,
            self.flow_run_count,
            is_found,
            task_run_in(COMPLETED, data=data).state if is_cached else None,
            slots if proposed._type is RUNNING and not run.holds_slots else None,
            jitter,
            execution,
        )
        if facts.slots is SLOTS_GRANTED:
            self.slots_taken = True
        before = fields_of(run)
        try:
            decision = decide_task_run(run, proposed, self.policy, facts, force)
        except (IllegalTransition, ObjectNotFound):
            # The engine gives back what it took for a start that raised.
            self.slots_taken = run.holds_slots
            assert fields_of(run) == before
            return
        assert fields_of(run) == before
        self.check_answer(decision, proposed, force, execution)
        if decision.answer is Answer.ACCEPT and proposed._type is FAILED and run.state._type is RUNNING and not force:
            assert run.run_count > self.policy.retries
        self.follow(decision)

    def follow(self, decision: Decision) -> None:
        run = self.progress
        left = run.state
        if decision.records:
            assert decision.state is not None
            record_task_state(run, decision.state, self.flow_run_count)
            self.remember()
        assert decision.store_cache <= (decision.answer is Answer.ACCEPT and run.state._type is COMPLETED)
        if decision.release_slots:
            assert self.slots_taken, "slots go back that were never taken"
            self.slots_taken = False
        run.holds_slots = self.slots_taken
        if decision.answer is Answer.REJECT and decision.records and run.state.name == "AwaitingRetry":
            assert left._type is RUNNING
            assert run.run_count <= self.policy.retries

    @invariant()
    def slots_are_held_by_running_and_cancelling_runs_only(self) -> None:
        if self.progress.holds_slots:
            assert self.progress.state._type in (RUNNING, CANCELLING)

    @invariant()
    def run_count_counts_the_running_states_of_the_execution(self) -> None:
        run = self.progress
        running = [e for e in self.history if e.execution == run.execution and e.state._type is RUNNING]
        assert run.run_count == len(running)


class FlowRunMachine(RunMachine):
    """A flow run, with or without a deployment, a parent and retries."""

    progress: FlowRunProgress

    @initialize(
        retries=st.one_of(st.none(), st.integers(0, 3)),
        delay=st.one_of(st.none(), st.floats(0, 30)),
        has_deployment=st.booleans(),
        is_subflow=st.booleans(),
        first=st.sampled_from([None, PENDING, PENDING, PENDING]),
    )
    def create(
        self,
        retries: int | None,
        delay: float | None,
        has_deployment: bool,
        is_subflow: bool,
        first: StateType | None,
    ) -> None:
        self.progress = flow_run(
            retries=retries,
            retry_delay_seconds=delay,
            has_deployment=has_deployment,
            parent_task_run_id=ids.new_id() if is_subflow else None,
        )
        self.expected_count = 0
        self.follows_pause = False
        if first is not None:
            record_flow_state(self.progress, state(first))
            self.remember()

    @rule(
        type=types,
        step=steps,
        data=datas,
        key=st.sampled_from([None, "1", "2"]),
        reschedule=st.booleans(),
        timeout=st.one_of(st.none(), st.floats(-5, 20)),
        has_process=st.booleans(),
        execution_back=st.sampled_from([None, None, 0, 1]),
        force=st.sampled_from([False, False, False, True]),
        takes_old=st.sampled_from([False] * 7 + [True]),
    )
    def propose(
        self,
        type: StateType,
        step: float,
        data: Any,
        key: str | None,
        reschedule: bool,
        timeout: float | None,
        has_process: bool,
        execution_back: int | None,
        force: bool,
        takes_old: bool,
    ) -> None:
        self.now += step
        run = self.progress
        details: dict[str, Any] = {}
        if type is PAUSED:
            details = {"pause_key": key, "pause_reschedule": reschedule}
            details["pause_timeout"] = None if timeout is None else moment(self.now + timeout)
        proposed = state(type, data=data, **details)
        proposed = self.maybe_recorded(proposed, takes_old)
        execution = None if execution_back is None else run.execution - execution_back
        facts = FlowFacts(self.now, has_process, f"drawn-{next(self.decisions)}", execution)
        before = fields_of(run)
        used_keys = run.pause_keys
        try:
            decision = decide_flow_run(run, proposed, facts, force)
        except IllegalTransition:
            assert fields_of(run) == before
            return
        assert fields_of(run) == before
        self.check_answer(decision, proposed, force, execution)
        if not decision.records:
            return
        assert decision.state is not None
        record_flow_state(run, decision.state)
        self.remember()
        self.count(decision.state)
        if decision.state._type is PAUSED and not force:
            new_key = decision.state.state_details.pause_key
            assert new_key is not None
            assert new_key not in used_keys
            assert new_key in run.pause_keys

    def count(self, entered: State) -> None:
        """Counts RUNNING, unless a pause lies between it and the RUNNING or final state before it."""
        if entered._type is RUNNING:
            self.expected_count += not self.follows_pause
            self.follows_pause = False
        else:
            self.follows_pause = entered._type is PAUSED or (self.follows_pause and not is_final(entered))

    @invariant()
    def run_count_counts_the_running_states_that_follow_no_pause(self) -> None:
        assert self.progress.run_count == self.expected_count

    @invariant()
    def every_state_carries_the_ids_of_its_run(self) -> None:
        for entry in self.history:
            assert entry.state.state_details.flow_run_id == self.progress.flow_run_id
            assert entry.state.state_details.task_run_id == self.progress.parent_task_run_id

    @invariant()
    def only_a_run_that_goes_on_after_a_pause_is_resuming(self) -> None:
        if self.progress.resuming:
            assert any(entry.state._type is PAUSED for entry in self.history)
            assert not is_final(self.history[-1].state)


@pytest.mark.behaviour("D1", "I9", "ORCH-12", "ORCH-23", "ORCH-25", "ORCH-26")
def test_a_task_run_keeps_its_invariants_whatever_is_proposed() -> None:
    run_machine(TaskRunMachine)


@pytest.mark.behaviour("D1", "I9", "ORCH-18", "ORCH-25", "ORCH-26")
def test_a_flow_run_keeps_its_invariants_whatever_is_proposed() -> None:
    run_machine(FlowRunMachine)


def run_machine(machine: type[RunMachine]) -> None:
    run_state_machine_as_test(machine, settings=settled)
