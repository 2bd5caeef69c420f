"""Lives of task runs, and the check that a store tells them as they were, however they came to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from core_engine.backend.entries import Entry, TaskRunsCreated
from core_engine.backend.store import Store
from core_engine.results import LiteralResult, PersistedResult, UnpersistedResult
from core_engine.schemas.records import Event, TaskRun
from core_engine.schemas.states import (
    CANCELLED,
    COMPLETED,
    CRASHED,
    FAILED,
    PAUSED,
    PENDING,
    RUNNING,
    SCHEDULED,
    StateDetails,
)
from core_engine.testing.stores.builders import TaskRunScript, all_said, group, said


def _persisted(key: str) -> PersistedResult[Any]:
    return PersistedResult(serializer_type="pickle", storage_path="/results", storage_key=key, value_type="int")


# What a task run may go through after Pending: one list of moves is one run's life.
LIVES: dict[str, list[dict[str, Any]]] = {
    "never started": [],
    "running": [{"type": RUNNING}],
    "plain": [{"type": RUNNING}, {"type": COMPLETED, "data": UnpersistedResult(3)}],
    "literal": [{"type": RUNNING}, {"type": COMPLETED, "data": LiteralResult(None)}],
    "persisted": [{"type": RUNNING}, {"type": COMPLETED, "data": _persisted("a")}],
    "cached": [{"type": COMPLETED, "name": "Cached", "data": _persisted("b")}],
    "failed": [{"type": RUNNING}, {"type": FAILED, "message": "ValueError: Grüße\n\udc80"}],
    "named running": [{"type": RUNNING, "name": "Warming up"}, {"type": COMPLETED}],
    "running with details": [{"type": RUNNING, "details": StateDetails(cache_key="k")}, {"type": COMPLETED}],
    "not ready": [{"type": PENDING, "name": "NotReady", "message": "upstream failed"}],
    "retried": [
        {"type": RUNNING},
        {"type": SCHEDULED, "name": "AwaitingRetry", "message": "again"},
        {"type": RUNNING, "name": "Retrying"},
        {"type": FAILED, "message": "no"},
    ],
    "re-run": [
        {"type": RUNNING},
        {"type": FAILED, "message": "no"},
        {"type": SCHEDULED, "name": "AwaitingRetry", "new_execution": True},
        {"type": RUNNING},
        {"type": COMPLETED},
    ],
    "paused": [{"type": RUNNING}, {"type": PAUSED}, {"type": RUNNING}, {"type": CANCELLED}],
    "crashed at once": [{"type": CRASHED, "message": "gone"}],
}


def _expected(script: TaskRunScript) -> list[Any]:
    """What is read back: the states as they were, except that text holds escapes for what UTF-8 cannot say."""
    return [
        tuple(part.replace("\udc80", "\\udc80") if isinstance(part, str) else part for part in state)
        for state in all_said(script.states)
    ]


def play(
    chosen: Sequence[str], plan: Sequence[Sequence[int]], flow_run_id: UUID
) -> tuple[list[TaskRunScript], list[list[Entry]]]:
    """Returns the runs, and the batches of entries that the plan makes of them.

    Parameters:
        chosen: For each run of a group which of LIVES it lives.
        plan: Batches, each a list of indexes: which run moves next.
        flow_run_id: The flow run that they belong to.
    """
    tasks = group(flow_run_id, len(chosen))
    scripts = [TaskRunScript(tasks, index) for index in range(len(chosen))]
    moves = [iter(LIVES[life]) for life in chosen]
    played: list[list[Entry]] = [[TaskRunsCreated(tasks)]]
    played += [[scripts[index].to(**next(moves[index])) for index in batch] for batch in plan]
    return scripts, played


def check_history(store: Store, scripts: list[TaskRunScript]) -> None:
    """Asserts that the store reads back what the runs went through: runs, states, counts and events."""
    tasks = scripts[0].group
    runs = store.read_task_runs(tasks.flow_run_id)
    assert [said(run.state) for run in runs] == [_expected(script)[-1] for script in scripts]
    for script, run in zip(scripts, runs, strict=True):
        assert all_said(store.read_states(tasks.run_id(script.index))) == _expected(script)
        assert _but_state(store.read_task_run(run.id)) == _but_state(run)
        assert run.run_count == script.run_count
        assert run.start_time == (None if script.start_time is None else _first_running(script))
        assert (run.end_time is None) == (script.end_time is None)
    counted = {(count.state_type, count.state_name): count.count for count in store.count_task_runs(tasks.flow_run_id)}
    names = [(script.states[-1].type, script.states[-1].name) for script in scripts]
    assert counted == {name: names.count(name) for name in names}
    _check_events(store.read_events(tasks.flow_run_id), scripts)


def _but_state(run: TaskRun | None) -> TaskRun:
    assert run is not None
    return replace(run, state=None)


def _first_running(script: TaskRunScript) -> Any:
    return next(state.timestamp for state in script.states if state.is_running())


def _check_events(events: list[Event], scripts: list[TaskRunScript]) -> None:
    for script in scripts:
        of_run = [event for event in events if event.task_run_id == script.group.run_id(script.index)]
        ids = [state.id for state in script.states]
        assert [event.id for event in of_run] == ids
        assert [event.follows for event in of_run] == [None, *ids[:-1]]
        assert [event.to_type for event in of_run] == [state.type for state in script.states]
        assert [event.from_type for event in of_run] == [None, *[state.type for state in script.states[:-1]]]
        assert [event.occurred for event in of_run] == [state.timestamp for state in script.states]


def plan_of_all(size: int) -> list[list[int]]:
    """Returns a plan for ``list(LIVES)``: the runs move in turns, in batches of `size` entries."""
    longest = max(map(len, LIVES.values()))
    moves = [index for turn in range(longest) for index, life in enumerate(LIVES.values()) if len(life) > turn]
    return [moves[start : start + size] for start in range(0, len(moves), size)]
