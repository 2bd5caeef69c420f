"""PROP: proposing states. D2 stands behind it: while a flow's process runs the flow, it alone proposes."""

import datetime
import sys
from typing import Any

import pytest

from core_engine import flow, get_client, task
from core_engine.context import get_run_context
from core_engine.engine import proposals, propose_state
from core_engine.exceptions import Abort, Pause
from core_engine.states import Completed, Crashed, Paused, Pending, Running, Scheduled
from core_engine.testing import leaping_clock
from tests.behaviours.helpers import flow_run_id, read_flow_run, read_task_run, stored_flow_state, stored_task_state


class CustomError(Exception):
    pass


@task
async def fails() -> None:
    raise CustomError("no")


@pytest.mark.behaviour("PROP-1", "ORCH-13")
@pytest.mark.anyio
async def test_an_accepted_state_is_completed_with_what_was_recorded():
    @flow
    async def parent():
        client = get_run_context().client
        failed = await fails(return_state=True)
        proposed = Running()
        answer = await propose_state(client, proposed, task_run_id=failed.state_details.task_run_id)
        assert answer is proposed
        done = await propose_state(client, Completed(data=1), task_run_id=failed.state_details.task_run_id)
        return [answer.id, answer.name, answer.state_details, done.is_completed(), failed.state_details.task_run_id]

    _, name, details, completed, task_run_id = await parent()

    assert name == "Rerunning"
    assert details.task_run_id == task_run_id
    assert details.flow_run_id is not None
    assert completed
    assert read_task_run(task_run_id).state_name == "Completed"


@pytest.mark.behaviour("PROP-1", "ORCH-11")
@pytest.mark.anyio
async def test_a_rejected_proposal_gives_the_state_that_stands():
    @task(persist_result=True)
    async def completes():
        return True

    @flow
    async def parent():
        state = await completes(return_state=True)
        return await propose_state(get_run_context().client, Pending(), task_run_id=state.state_details.task_run_id), 1

    answer, _ = await parent()

    assert answer.is_completed()
    assert stored_task_state(answer).is_completed()


@pytest.mark.behaviour("PROP-1", "ORCH-4")
@pytest.mark.anyio
async def test_a_proposal_told_to_wait_is_made_again_when_due():
    @flow
    async def parent():
        client = get_run_context().client
        failed = await fails(return_state=True)
        task_run_id = failed.state_details.task_run_id
        due = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
        await propose_state(client, Scheduled(scheduled_time=due), task_run_id=task_run_id)
        answer = await propose_state(client, Running(), task_run_id=task_run_id)
        await propose_state(client, Completed(), task_run_id=task_run_id)
        return answer.is_running(), (answer.timestamp - due).total_seconds()

    with leaping_clock() as clock:
        running, late = await parent()

    assert running
    assert 0 <= late < 60
    assert clock.waited == pytest.approx(3600, abs=60)


@pytest.mark.behaviour("PROP-1", "ORCH-10")
@pytest.mark.anyio
async def test_an_aborted_proposal_raises_abort_with_the_reason():
    @flow
    async def ends():
        return 1

    state = await ends(return_state=True)

    async with get_client() as client:
        with pytest.raises(Abort, match=r"\w+"):
            await propose_state(client, Crashed(), flow_run_id=state.state_details.flow_run_id)
    assert stored_flow_state(state).is_completed()


@pytest.mark.behaviour("PROP-3", "ORCH-17")
@pytest.mark.anyio
async def test_a_refusal_because_the_flow_is_paused_raises_the_pause_signal():
    @flow
    async def parent():
        client, run_id = get_run_context().client, get_run_context().flow_run.id
        failed = await fails(return_state=True)
        await propose_state(client, Paused(timeout_seconds=60), flow_run_id=run_id)
        with pytest.raises(Pause):
            await propose_state(client, Running(), task_run_id=failed.state_details.task_run_id)
        await propose_state(client, Running(), flow_run_id=run_id)
        return "went on"

    assert await parent() == "went on"


@pytest.mark.behaviour("PROP-4")
@pytest.mark.anyio
async def test_exactly_one_run_must_be_named():
    from uuid import uuid4

    async with get_client() as client:
        with pytest.raises(ValueError, match="flow_run_id|task_run_id"):
            await propose_state(client, Running())
        with pytest.raises(ValueError, match="flow_run_id|task_run_id"):
            await propose_state(client, Running(), flow_run_id=uuid4(), task_run_id=uuid4())


@pytest.mark.behaviour("PROP-6")
def test_a_run_whose_end_is_refused_goes_round_again_until_it_is_final():
    executions: list[Any] = []

    @task(retries=2)
    def work():
        executions.append(get_run_context().task_run.state_name)
        if len(executions) < 3:
            raise CustomError("once more")
        return "done"

    @flow
    def parent():
        return work()

    assert parent() == "done"
    assert executions == ["Running", "Retrying", "Retrying"]


@pytest.mark.behaviour("PROP-7")
def test_a_run_that_had_completed_before_is_not_called_again():
    executed, attempts = [], []

    @task
    def once():
        executed.append(1)
        return {"a": 1}

    @flow(retries=1)
    def parent():
        state = once.submit(return_state=True)
        attempts.append(state.state_details.task_run_id)
        if len(attempts) == 1:
            raise CustomError("once more")
        return state.name, state.result()

    assert parent() == ("Completed", {"a": 1})
    assert len(executed) == 1
    assert attempts[0] == attempts[1]


@pytest.mark.behaviour("PROP-8", "CRASH-6")
def test_an_abort_in_a_flow_passes_to_the_caller_and_leaves_the_state_alone():
    seen = []

    @flow
    def aborts():
        seen.append(flow_run_id(str(get_run_context().flow_run.id)))
        raise Abort("stop here")

    with pytest.raises(Abort, match="stop here"):
        aborts()

    assert read_flow_run(seen[0]).state_type not in ("CRASHED", "FAILED", "COMPLETED")


@pytest.mark.behaviour("PROP-2")
def test_any_number_of_waits_is_answered_one_after_the_other(monkeypatch: pytest.MonkeyPatch):
    waits = sys.getrecursionlimit() * 2
    real, asked = proposals.decide_task_run, []

    def decide(progress, proposed, policy, facts, force=False):
        decision = real(progress, proposed, policy, facts, force)
        if proposed.is_running() and len(asked) < waits:
            asked.append(1)
            decision.wait(30, "All slots are taken.")
        return decision

    monkeypatch.setattr(proposals, "decide_task_run", decide)

    @task
    def work():
        return "done"

    @flow
    def parent():
        return work()

    with leaping_clock() as clock:
        assert parent() == "done"

    assert len(asked) == waits
    assert clock.waited == pytest.approx(waits * 30, rel=0.01)
