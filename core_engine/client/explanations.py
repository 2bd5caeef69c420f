"""Why a run is where it is: why it waits, where a cached value came from, how it ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from core_engine import clock
from core_engine.client.waiting_texts import text_of
from core_engine.concurrency.waiting import Latch, run_blocking
from core_engine.exceptions import ObjectNotFound, StoreUnavailable
from core_engine.schemas.states import (
    CANCELLING,
    COMPLETED,
    FINAL_TYPES,
    PAUSED,
    PENDING,
    RUNNING,
    SCHEDULED,
    State,
)

if TYPE_CHECKING:
    from core_engine.client.embedded import EmbeddedClient
    from core_engine.schemas.records import FlowRun, TaskRun

# The process looks four times a second; what does not answer in this time is stopped, or blocked.
ANSWER_SECONDS = 1.0
LOOK_SECONDS = 0.02
MOST_UPSTREAMS = 5


@dataclass(slots=True, frozen=True)
class Explanation:
    """Why a run is in its state.

    Attributes:
        run_id: The flow run or task run.
        reason: One word: "ended", "cached", "running", "cancelling"; why it waits: "upstream", "slot", "retry",
            "scheduled", "paused", "order" (the runs before it, under a sequential runner), "runner" (a free worker),
            "window" (a place among the async runs under way), "process" (no process executes it); "not ready" (it
            never starts); "unknown".
        text: The same in a sentence or two for people.
        details: What belongs to the reason, as JSON says it: names, counts, times.
    """

    run_id: UUID
    reason: str
    text: str
    details: dict[str, Any] = field(default_factory=dict)


async def explain(client: EmbeddedClient, run_id: UUID) -> Explanation:
    """Says why a run is where it is; what only the process that executes it knows is asked of that process.

    Raises:
        ObjectNotFound: There is no flow run or task run of this id.
    """
    await run_blocking(client.store.reconcile, clock.now())
    try:
        flow_run = await client.read_flow_run(run_id)
    except ObjectNotFound:
        return await _explain_task_run(client, await _read_task_run(client, run_id))
    return _explain_flow_run(flow_run)


async def _read_task_run(client: EmbeddedClient, id: UUID) -> TaskRun:
    try:
        return await client.read_task_run(id)
    except ObjectNotFound:
        raise ObjectNotFound(f"There is no flow run or task run with the id {id}.") from None


# Flow runs ------------------------------------------------------------------------------------------------------------


def _explain_flow_run(run: FlowRun) -> Explanation:
    what = f"Flow run {run.name!r}"
    state = run.state
    if state is None:
        return Explanation(run.id, "unknown", f"{what} has no state yet.")
    if state._type in FINAL_TYPES:
        return Explanation(run.id, "ended", _ended_text(what, state, run.start_time, run.end_time))
    due = state.state_details.scheduled_time
    if state._type is SCHEDULED and due is not None and run.owner is not None:
        tries = f" (retry {run.run_count} of {run.retries})" if run.retries else ""
        text = f"{what} failed and is tried again at {due.isoformat()}{tries}{_because(state)}."
        return Explanation(run.id, "retry", text, {"due": due.isoformat()})
    if state._type is PAUSED:
        return Explanation(run.id, "paused", f"{what} {_paused_text(run, state)}", _paused_details(state))
    if run.owner is None:
        when = "" if due is None else f", due at {due.isoformat()}"
        text = (
            f"{what} is {state.name}{when}, and no process executes it. "
            f"Execute it: python -m core_engine.engine {run.id}"
        )
        return Explanation(run.id, "process", text, {} if due is None else {"due": due.isoformat()})
    if state._type is CANCELLING:
        return Explanation(run.id, "cancelling", f"{what} is being cancelled: its code is interrupted until it ends.")
    if state._type is RUNNING:
        since = "" if run.start_time is None else f" since {run.start_time.isoformat()}"
        return Explanation(run.id, "running", f"{what} is running{since}, in its attempt {run.run_count}.")
    if state.name == "NotReady":
        return Explanation(run.id, "not ready", f"{what} does not start: {state.message}")
    return Explanation(run.id, "upstream", f"{what} is {state.name}: its process prepares it, or waits for its inputs.")


def _paused_text(run: FlowRun, state: State) -> str:
    limit = state.state_details.pause_timeout
    until = "" if limit is None else f" until {limit.isoformat()}, when it fails"
    where = "waits in its process" if run.owner is not None else "has left its process"
    return f"is paused and {where}{until}. Have it go on: core-engine resume {str(run.id)[:8]}"


def _paused_details(state: State) -> dict[str, Any]:
    limit = state.state_details.pause_timeout
    return {"until": None if limit is None else limit.isoformat()}


def _because(state: State) -> str:
    return "" if not state.message else f", because of: {state.message}"


def _ended_text(what: str, state: State, start: datetime | None, end: datetime | None) -> str:
    took = "" if start is None or end is None else f" after {max(0.0, (end - start).total_seconds()):.3f} s"
    text = f"{what} ended as {state.name} at {state.timestamp.isoformat()}{took}"
    if state._type is COMPLETED:
        return f"{text}."
    return f"{text}. {state.message}" if state.message else f"{text}, without a message."


# Task runs ------------------------------------------------------------------------------------------------------------


async def _explain_task_run(client: EmbeddedClient, run: TaskRun) -> Explanation:
    what = f"Task run {run.name!r}"
    state = run.state
    if state is None:
        return Explanation(run.id, "unknown", f"{what} has no state yet.")
    if state._type in FINAL_TYPES:
        if state.name == "Cached":
            return await _explain_cached(client, run, state)
        return Explanation(run.id, "ended", _ended_text(what, state, run.start_time, run.end_time))
    if state._type is RUNNING:
        where = "" if run.worker is None else f" on {run.worker}"
        since = "" if run.start_time is None else f" since {run.start_time.isoformat()}"
        return Explanation(run.id, "running", f"{what} is running{since}{where}.")
    if state.name == "NotReady" and state._type is PENDING:
        return Explanation(run.id, "not ready", f"{what} does not start: {state.message}")
    flow_run = await client.read_flow_run(run.flow_run_id)
    flow_state = flow_run.state
    if flow_state is not None and flow_state._type in FINAL_TYPES:
        text = f"{what} never ended, and will not: its flow run {flow_run.name!r} ended as {flow_state.name}."
        return Explanation(run.id, "not ready", text)
    due = state.state_details.scheduled_time
    if state._type is SCHEDULED and due is not None and due > datetime.now(UTC):
        tries = f" (retry {run.run_count} of {run.policy.retries})"
        text = f"{what} failed and is tried again at {due.isoformat()}{tries}{_because(state)}."
        return Explanation(run.id, "retry", text, {"due": due.isoformat()})
    if flow_state is not None and flow_state._type is PAUSED:
        text = f"{what} waits, because its flow run {flow_run.name!r} {_paused_text(flow_run, flow_state)}"
        return Explanation(run.id, "paused", text, _paused_details(flow_state))
    if run.is_subflow and run.child_flow_run_id is not None:
        return _explain_flow_run(await client.read_flow_run(run.child_flow_run_id))
    return await _explain_waiting(client, run, flow_run)


async def _explain_cached(client: EmbeddedClient, run: TaskRun, state: State) -> Explanation:
    details = state.state_details
    key, source_id = details.cache_key, details.cached_from
    details_json = {"cache_key": key, "cached_from": None if source_id is None else str(source_id)}
    text = f"Task run {run.name!r} was not executed: a result is stored under its cache key {key!r}"
    if source_id is None:
        return Explanation(run.id, "cached", f"{text}.", details_json)
    try:
        source = await client.read_task_run(source_id)
        origin = await client.read_flow_run(source.flow_run_id)
        text += f", by task run {source.name!r} ({source_id}) of flow run {origin.name!r}."
    except ObjectNotFound:
        text += f", by the task run {source_id}, which has been deleted since."
    return Explanation(run.id, "cached", text, details_json)


async def _explain_waiting(client: EmbeddedClient, run: TaskRun, flow_run: FlowRun) -> Explanation:
    """Asks the process of the flow run; where that does not answer, the store says what it knows."""
    what = f"Task run {run.name!r}"
    answer = await _ask_owner(client, run, flow_run)
    if answer is None:
        return await _explain_by_the_store(client, run, flow_run)
    reason = answer.pop("reason")
    if reason in ("running", "ended", "unknown"):
        again = await client.read_task_run(run.id)
        has_moved = again.state is not None and run.state is not None and again.state.id != run.state.id
        if has_moved:
            return await _explain_task_run(client, again)
        if reason != "unknown":
            return Explanation(run.id, "running", f"{what} is about to be recorded as {reason}.")
        return await _explain_by_the_store(client, run, flow_run)
    return Explanation(run.id, reason, text_of(what, reason, answer), answer)


async def _ask_owner(client: EmbeddedClient, run: TaskRun, flow_run: FlowRun) -> dict[str, Any] | None:
    """Returns what the flow run's process says, None if it does not answer in time."""
    from core_engine.engine.active import active_flow_run
    from core_engine.engine.waits import why_it_waits

    here = active_flow_run(flow_run.id)
    if here is not None:
        return why_it_waits(here, run.id)
    if flow_run.owner is None:
        return None
    store = client.store
    try:
        request = await run_blocking(store.write_request, "why", run.id, {})
    except StoreUnavailable:  # it may only be read
        return None
    try:
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            answer = await run_blocking(store.read_answer, request)
            if answer is not None or time.monotonic() > deadline:
                return answer
            await Latch().arrive(LOOK_SECONDS)
    finally:
        await run_blocking(store.finish_request, request)


async def _explain_by_the_store(client: EmbeddedClient, run: TaskRun, flow_run: FlowRun) -> Explanation:
    what = f"Task run {run.name!r}"
    if flow_run.owner is None:
        text = f"{what} waits, because no process executes its flow run {flow_run.name!r}."
        return Explanation(run.id, "process", text)
    silent = f"The process of its flow run {flow_run.name!r} does not answer, so what else it waits for is not known."
    upstream = await _unfinished_upstream(client, run)
    if upstream:
        details = {"upstream": upstream[:MOST_UPSTREAMS], "count": len(upstream)}
        return Explanation(run.id, "upstream", f"{text_of(what, 'upstream', details)} {silent}", details)
    return Explanation(run.id, "unknown", f"{what} has not started. {silent}")


async def _unfinished_upstream(client: EmbeddedClient, run: TaskRun) -> list[str]:
    names = []
    for id in dict.fromkeys(one.id for inputs in run.task_inputs.values() for one in inputs):
        upstream = await client.read_task_run(id)
        if upstream.state is None or not upstream.state.is_final():
            names.append(upstream.name)
    return names
