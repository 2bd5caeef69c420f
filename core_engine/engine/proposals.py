"""Proposing states: facts are gathered, the pure rules decide, the journal records."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from core_engine import clock
from core_engine.backend.entries import CacheStored, FlowRunChanged, TaskRunChanged
from core_engine.engine.active import ActiveFlowRun, ActiveTaskRun
from core_engine.exceptions import Abort, Pause
from core_engine.orchestration.decisions import REJECT, WAIT, Decision
from core_engine.orchestration.facts import FlowFacts, SlotAnswer, TaskFacts
from core_engine.orchestration.flow_rules import decide_flow_run
from core_engine.orchestration.progress import mirror_of, record_flow_state, record_task_state
from core_engine.orchestration.task_rules import decide_task_run
from core_engine.schemas.states import PAUSED, State

if TYPE_CHECKING:
    from core_engine.client.embedded import EmbeddedClient

# The position of a state that the journal did not take: none is ever committed up to it, so nobody sees it as recorded.
NEVER = sys.maxsize


async def propose_task_state(
    run: ActiveTaskRun,
    proposed: State,
    *,
    cached: State | None = None,
    force: bool = False,
    execution: int | None = None,
) -> State:
    """Proposes a state for a task run that this process executes, and returns the state that the run is in then.

    Parameters:
        run: The run; its progress is brought up to date.
        proposed: What it wants to be in.
        cached: The stored state under the proposed cache key, None if there is none.
        force: Skips the rules.
        execution: The execution that the proposal comes from; None when it comes from outside of any.

    Raises:
        Abort: The execution is to end; the recorded state stands.
        Pause: The flow run is paused, and the run with it.
    """
    decision = decide_task(run, proposed, cached=cached, force=force, execution=execution)
    while decision.answer is WAIT:
        await clock.current.wait_until(clock.now() + decision.seconds, run.flow_run.woken)
        if run.flow_run.stopping is not None:
            raise Abort("The flow run is being ended.")
        decision = decide_task(run, proposed, cached=cached, force=force, execution=execution)
    return answer(decision)


def decide_task(
    run: ActiveTaskRun,
    proposed: State,
    *,
    cached: State | None = None,
    slots: SlotAnswer | None = None,
    force: bool = False,
    execution: int | None = None,
) -> Decision:
    """Decides on a proposal and records what is decided; parameters as ``propose_task_state``. Any thread."""
    flow_run = run.flow_run
    with flow_run.decisions:
        progress = flow_run.progress
        flow_state = progress.state
        facts = TaskFacts(
            clock.now(),
            None if flow_state is None else flow_state._type,
            progress.run_count,
            True,
            cached,
            slots,
            random.random() if run.group.policy.retry_jitter_factor is not None else 0.5,
            execution,
        )
        decision = decide_task_run(run, proposed, run.group.policy, facts, force)
        if decision.state is not None and decision.state is not decision.current:
            record_task(run, decision.state, progress.run_count)
            if decision.store_cache:
                _store_cache(run, decision.state)
            if decision.answer is REJECT and decision.state._type is PAUSED:
                flow_run.refused_start = True
    if decision.release_slots and run.holds_slots:
        flow_run.client.release_slots(run)
    return decision


def record_task(run: ActiveTaskRun, state: State, flow_run_count: int) -> None:
    """Puts a task run into a state that was decided, and writes it into the journal. Its flow run's lock is held."""
    record_task_state(run, state, flow_run_count)
    state._position = NEVER
    state._position = run.flow_run.client.journal.append(
        TaskRunChanged(
            state,
            run.run_count,
            run.flow_run_count,
            run.start_time,
            run.end_time,
            run.total_run_time,
            run.execution,
            run.worker,
        )
    )


def _store_cache(run: ActiveTaskRun, state: State) -> None:
    details = state.state_details
    assert details.cache_key is not None
    expires = None if details.cache_expiration is None else details.cache_expiration.timestamp()
    state._position = run.flow_run.client.journal.append(CacheStored(details.cache_key, expires, state))


async def propose_flow_state(run: ActiveFlowRun, proposed: State, *, force: bool = False) -> State:
    """Proposes a state for a flow run that this process executes; otherwise as ``propose_task_state``.

    A subflow's state is mirrored to the task run that stands for it in its parent.
    """
    decision = decide_flow(run, proposed, force=force)
    while decision.answer is WAIT:
        await clock.current.wait_until(clock.now() + decision.seconds, run.woken)
        if run.stopping is not None and not run.cancelling:
            raise run.stopping
        decision = decide_flow(run, proposed, force=force)
    return answer(decision)


def decide_flow(run: ActiveFlowRun, proposed: State, *, force: bool = False) -> Decision:
    """Decides on a proposal for a flow run and records what is decided. Any thread."""
    hold = None
    with run.decisions:
        facts = FlowFacts(clock.now(), has_process=True, new_pause_key=uuid4().hex)
        decision = decide_flow_run(run.progress, proposed, facts, force)
        state = decision.state
        if state is not None and decision.records:
            record_flow_state(run.progress, state)
            run.record = run.progress.to_record(run.record)
            state._position = run.client.journal.append(FlowRunChanged(run.record))
            if run.stand_in is not None:
                _mirror(run, run.stand_in, state)
            if state._type is not PAUSED:
                hold, run.hold = run.hold, None
    if hold is not None:
        hold.released.set()
    return decision


def _mirror(run: ActiveFlowRun, stand_in: ActiveTaskRun, state: State) -> None:
    """Gives the parent's task run that stands for this flow run the same state."""
    if state._ordinal == 1:
        return  # both were created Pending
    mirrored = mirror_of(state, run.id)
    with stand_in.flow_run.decisions:
        record_task(stand_in, mirrored, stand_in.flow_run.progress.run_count)
    state._position = mirrored._position


def answer(decision: Decision) -> State:
    """Turns a decision into what the proposer gets: the state, or a signal."""
    state = decision.state
    if state is None:
        raise Abort(decision.reason)
    if decision.answer is REJECT and state._type is PAUSED:
        raise Pause(decision.reason, state=state)
    return state


async def propose_state(
    client: EmbeddedClient,
    state: State,
    force: bool = False,
    task_run_id: UUID | None = None,
    flow_run_id: UUID | None = None,
) -> State:
    """Asks orchestration for a change of state of one run, and waits as long as it says.

    Parameters:
        client: The client through which the run is known.
        state: The proposed state.
        force: Skips the rules.
        task_run_id, flow_run_id: The run; exactly one of them.

    Returns:
        The given state, completed with id, time and details, if it was accepted; else the state that the run is in.

    Raises:
        ValueError: None or both of the ids are given.
        Abort: Orchestration refuses to go on; the message is its reason.
        Pause: The run is paused instead.
        ObjectNotFound: There is no such run.
    """
    if (task_run_id is None) == (flow_run_id is None):
        raise ValueError("propose_state takes exactly one of task_run_id and flow_run_id.")
    return await client.propose(state, force=force, task_run_id=task_run_id, flow_run_id=flow_run_id)
