"""However entries fall into batches, and however often a batch is sent: what is read back is the same."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core_engine.backend.entries import Entry, FlowRunChanged, FlowRunCreated, TaskRunChanged, TaskRunsCreated
from core_engine.backend.sqlite import SqliteStore
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
    State,
    StateDetails,
    make_state,
)
from tests.backend.builders import START, TaskRunScript, all_said, flow_run, group, moved, recorded, said

pytestmark = pytest.mark.behaviour("I2", "D5")


def _persisted(key: str) -> PersistedResult[Any]:
    return PersistedResult(serializer_type="pickle", storage_path="/results", storage_key=key, value_type="int")


# What a task run may go through after Pending: one list of moves is one run's life.
_LIVES: dict[str, list[dict[str, Any]]] = {
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


@st.composite
def batches(draw: st.DrawFn, lives: st.SearchStrategy[list[str]]) -> tuple[list[str], list[list[int]]]:
    """Some lives, and the order in which their runs move, cut into batches."""
    chosen = draw(lives)
    turns = [index for index, life in enumerate(chosen) for _ in _LIVES[life]]
    order = draw(st.permutations(turns))
    cuts = draw(st.lists(st.integers(0, len(order)), max_size=6).map(sorted))
    edges = [0, *cuts, len(order)]
    return chosen, [list(order[start:stop]) for start, stop in pairwise(edges)]


_SOME_LIVES = st.lists(st.sampled_from(sorted(_LIVES)), min_size=1, max_size=8)


def _play(chosen: list[str], plan: list[list[int]], flow_run_id: Any) -> tuple[list[TaskRunScript], list[list[Entry]]]:
    """Returns the runs, and the batches of entries that the plan makes of them."""
    tasks = group(flow_run_id, len(chosen))
    scripts = [TaskRunScript(tasks, index) for index in range(len(chosen))]
    moves = [iter(_LIVES[life]) for life in chosen]
    played: list[list[Entry]] = [[TaskRunsCreated(tasks)]]
    played += [[scripts[index].to(**next(moves[index])) for index in batch] for batch in plan]
    return scripts, played


def _check(store: SqliteStore, scripts: list[TaskRunScript]) -> None:
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


_SETTINGS = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@_SETTINGS
@given(batches(_SOME_LIVES))
def test_history_does_not_depend_on_how_entries_fall_into_batches(
    store: SqliteStore, drawn: tuple[list[str], list[list[int]]]
) -> None:
    run, _ = recorded(store)
    scripts, played = _play(*drawn, run.id)
    for batch in played:
        store.apply(batch)
    _check(store, scripts)


@_SETTINGS
@given(batches(_SOME_LIVES), st.data())
def test_a_resent_batch_changes_nothing_also_when_it_begins_earlier_or_is_sent_in_part(
    store: SqliteStore, drawn: tuple[list[str], list[list[int]]], data: st.DataObject
) -> None:
    run, _ = recorded(store)
    scripts, played = _play(*drawn, run.id)
    sent: list[Entry] = []
    for batch in played:
        sent += batch
        # What a sender whose answer got lost may send: the batch, with some before it, or a first part of it.
        start = data.draw(st.integers(0, len(sent)))
        for piece in (batch, batch, sent[start:], sent[start : start + 2]):
            store.apply(piece)
    _check(store, scripts)


def test_events_read_on_by_cursor_are_those_read_at_once_without_gap_or_repetition(store: SqliteStore) -> None:
    run, _ = recorded(store)
    lives = [*_LIVES, "plain", "plain"]
    moves = [index for round in range(5) for index, life in enumerate(lives) if len(_LIVES[life]) > round]
    scripts, played = _play(lives, [moves[start : start + 7] for start in range(0, len(moves), 7)], run.id)
    followed: list[Event] = []
    for batch in played:
        store.apply(batch)
        while True:
            after = followed[-1].cursor if followed else None
            read = store.read_events(run.id, after=after, limit=4)
            if not read:
                break
            followed += read
    assert followed == store.read_events(run.id)
    assert len(followed) == 1 + sum(len(script.states) for script in scripts)


def test_events_of_a_commit_are_in_the_order_of_their_times(store: SqliteStore) -> None:
    run, tasks = recorded(store, count=2)
    slow, quick = TaskRunScript(tasks, 0), TaskRunScript(tasks, 1)
    store.apply([slow.to(RUNNING), quick.to(RUNNING, seconds=0.7), slow.to(COMPLETED, seconds=5), quick.to(FAILED)])
    ends = [event.to_name for event in store.read_events(run.id)]
    assert ends == ["Pending", "Pending", "Pending", "Running", "Running", "Failed", "Completed"]


def test_a_clock_that_is_set_back_does_not_turn_a_runs_events_round(store: SqliteStore) -> None:
    run, tasks = recorded(store, count=1)
    script = TaskRunScript(tasks)
    store.apply([script.to(RUNNING, seconds=60), script.to(COMPLETED, seconds=-30)])
    events = [event for event in store.read_events(run.id) if event.task_run_id]
    assert [event.to_name for event in events] == ["Pending", "Running", "Completed"]
    assert events[-1].occurred < events[-2].occurred


def test_a_cursor_that_is_none_is_refused_with_its_text(store: SqliteStore) -> None:
    run, _ = recorded(store)
    with pytest.raises(ValueError, match="'yesterday' is no cursor"):
        store.read_events(run.id, after="yesterday")


def test_flow_runs_have_events_and_states_too(store: SqliteStore) -> None:
    run = flow_run()
    running = moved(run, RUNNING, at=START + 1)
    failed = moved(running, FAILED, at=START + 2, message="1/3 task runs failed")
    store.apply([FlowRunCreated(run), FlowRunChanged(running), FlowRunChanged(failed)])
    states = [run.state, running.state, failed.state]
    assert all_said(store.read_states(run.id)) == [said(state) for state in states]
    events = store.read_events(run.id)
    assert [event.id for event in events] == [state.id for state in states if state]
    assert [event.follows for event in events] == [None, run.state and run.state.id, running.state and running.state.id]
    assert events[-1].message == "1/3 task runs failed"
    assert all(event.task_run_id is None and event.flow_run_id == run.id for event in events)


@pytest.mark.behaviour("I9", "D1")
def test_a_final_state_is_not_left_within_its_execution(store: SqliteStore) -> None:
    run, tasks = recorded(store, count=2)
    for index, apart in enumerate((True, False)):
        script = TaskRunScript(tasks, index)
        entries = [*script.done(), script.to(FAILED)]
        for batch in [[entry] for entry in entries] if apart else [entries]:
            store.apply(batch)
        assert [state.name for state in store.read_states(tasks.run_id(index))] == ["Pending", "Running", "Completed"]
    ended = moved(run, COMPLETED, at=START + 5)
    store.apply([FlowRunChanged(ended), FlowRunChanged(moved(ended, CRASHED, at=START + 6))])
    assert [state.name for state in store.read_states(run.id)] == ["Pending", "Completed"]


@pytest.mark.behaviour("D1")
def test_an_entry_of_an_older_execution_changes_nothing_whatever_its_number(store: SqliteStore) -> None:
    _, tasks = recorded(store, count=1)
    script = TaskRunScript(tasks)
    store.apply([*script.done(), script.to(RUNNING, new_execution=True)])
    for late in ([_late(script, 5, RUNNING)], [_late(script, 6, RUNNING), _late(script, 7, FAILED)]):
        store.apply(late)
    names = [state.name for state in store.read_states(tasks.run_id(0))]
    assert names == ["Pending", "Running", "Completed", "Running"]
    store.apply([_late(script, 8, FAILED), script.to(COMPLETED)])
    assert [state.name for state in store.read_states(tasks.run_id(0))] == [*names, "Completed"]


def _late(script: TaskRunScript, ordinal: int, type: Any) -> TaskRunChanged:
    state = make_state(type, script.time, script.group, script.index, ordinal)
    return TaskRunChanged(state, 1, 1, script.start_time, None, 0.0, 1, "worker-late")


def test_when_a_run_started_is_kept_exactly_through_a_sender_that_knows_it_in_microseconds(store: SqliteStore) -> None:
    _, tasks = recorded(store, count=1)
    script = TaskRunScript(tasks)
    script.time += 1e-7
    store.apply(script.done())
    script.start_time = round(script.start_time or 0, 6)
    store.apply([script.to(RUNNING, new_execution=True), script.to(COMPLETED)])
    assert all_said(store.read_states(tasks.run_id(0))) == all_said(script.states)


def test_looking_at_the_details_of_a_running_state_does_not_give_it_a_row_of_its_own(store: SqliteStore) -> None:
    _, tasks = recorded(store, count=1)
    entries = TaskRunScript(tasks).done()
    for entry in entries:
        assert isinstance(entry, TaskRunChanged)
        assert entry.state.state_details.task_run_id == tasks.run_id(0)
    store.apply(entries)
    with store._pool.reading() as db:
        assert db.execute("SELECT count(*) FROM past_state").fetchone() == (0,)
    assert len(store.read_states(tasks.run_id(0))) == 3


def test_a_state_that_is_read_knows_its_run(store: SqliteStore) -> None:
    run, tasks = recorded(store, count=3)
    store.apply(TaskRunScript(tasks, 2).done())
    state: State = store.read_states(tasks.run_id(2))[-1]
    assert state.state_details.task_run_id == tasks.run_id(2)
    assert state.state_details.flow_run_id == run.id
    assert store.read_states(run.id)[0].state_details.flow_run_id == run.id
