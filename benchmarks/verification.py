"""Reading the store back after a round: what it must hold is known, and anything else makes the round void.

The parent reads, over connections of its own, while the process that wrote is still there.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.contenders import by_hand
from benchmarks.contenders.engine import home_of
from benchmarks.contenders.flows import CASES, Expected
from benchmarks.processes import QUIET, Spec
from core_engine.backend.sqlite import SqliteStore
from core_engine.settings import Settings

# Up to this many task runs every state change is read as an event; above, every row, and the histories of some.
EVERY_EVENT_UP_TO = 20_000
SAMPLED_HISTORIES = 200


def check_round(spec: Spec, size: int, folder: Path, answer: dict[str, Any]) -> list[str]:
    """Returns what is wrong with a round of any contender."""
    if spec.target.startswith("benchmarks.contenders.engine:"):
        expected = CASES[spec.arguments["case"]].expected(size)
        if spec.environment == QUIET:
            expected = replace(expected, lines=0)
        return check_flow_run(folder, answer, expected)
    if spec.records:
        return check_rows(folder, size)
    return []


def check_rows(folder: Path, expected: int) -> list[str]:
    """Returns what is wrong with a file that was written by hand."""
    with closing(by_hand.open_file(folder)) as db:
        rows = db.execute("SELECT count(*), count(DISTINCT owner || '-' || number) FROM task_run").fetchone()
    return [] if rows == (expected, expected) else [f"{rows[0]} rows, {rows[1]} distinct, instead of {expected}"]


def check_flow_run(folder: Path, answer: dict[str, Any], expected: Expected) -> list[str]:
    """Returns what is wrong with the flow run that a round recorded."""
    home = home_of(folder)
    settings = Settings.from_values({"home": home})
    store = SqliteStore(settings.database_path)
    try:
        problems = _compare("value", answer["value"], expected.value)
        return problems + _check_store(store, UUID(answer["flow_run_id"]), expected, settings.local_storage_path)
    finally:
        store.close()


def _check_store(store: SqliteStore, flow_run_id: UUID, expected: Expected, storage: Path) -> list[str]:
    flow_run = store.read_flow_run(flow_run_id)
    if flow_run is None or flow_run.state is None:
        return ["the flow run is not in the store"]
    problems = []
    if flow_run.state.name != expected.flow_state:
        problems.append(f"flow run {flow_run.name} is {flow_run.state} instead of {expected.flow_state}")
    counted: Counter[str] = Counter()
    for count in store.count_task_runs(flow_run_id):
        counted[count.state_name] += count.count
    problems += _compare("task runs by state", dict(counted), expected.states)
    lines = sum(1 for line in store.read_logs(flow_run_id) if line.entry.task_run_id is not None)
    problems += _compare("log lines of task runs", lines, expected.lines)
    if expected.task_runs <= EVERY_EVENT_UP_TO:
        problems += _check_changes(store, flow_run_id, expected)
        problems += _check_results(store, flow_run_id, expected, storage)
    else:
        problems += _check_times(store, flow_run_id, expected)
    return problems


def _check_changes(store: SqliteStore, flow_run_id: UUID, expected: Expected) -> list[str]:
    """Every state change, each once."""
    events = [event for event in store.read_events(flow_run_id) if event.task_run_id is not None]
    problems = _compare("state changes", len(events), expected.changes)
    problems += _compare("distinct state changes", len({event.id for event in events}), expected.changes)
    return problems + _compare("distinct runs", len({event.task_run_id for event in events}), expected.task_runs)


def _check_results(store: SqliteStore, flow_run_id: UUID, expected: Expected, storage: Path) -> list[str]:
    """Every stored result: a record in the run's state, and a file that holds something."""
    runs = store.read_task_runs(flow_run_id)
    records = sum(1 for run in runs if run.state is not None and run.state.data is not None)
    files = sum(1 for file in storage.rglob("*") if file.is_file() and file.stat().st_size)
    return _compare("results", records, expected.results) + _compare("files of results", files, expected.results)


def _check_times(store: SqliteStore, flow_run_id: UUID, expected: Expected) -> list[str]:
    """Every run's row, with the times of its three states; and the whole history of some runs."""
    times = list(store.task_run_times(flow_run_id))
    whole = sum(1 for run in times if run.start is not None and run.end is not None and run.created <= run.start)
    problems = _compare("runs with all their times", whole, expected.task_runs)
    problems += _compare("distinct runs", len({(run.task_name, run.index) for run in times}), expected.task_runs)
    states_of_each = expected.changes // expected.task_runs
    groups = store.read_task_groups(flow_run_id)
    step = max(1, expected.task_runs // SAMPLED_HISTORIES)
    for number, group in enumerate(groups):
        # Of large groups every so many runs, of small ones the first now and then.
        if group.count < step and number % max(1, len(groups) // SAMPLED_HISTORIES):
            continue
        for index in range(0, group.count, step):
            name, states = group.run_name(index), store.read_states(group.run_id(index))
            problems += _compare(f"states of {name}", len(states), states_of_each)
    return problems


def _compare(what: str, found: Any, expected: Any) -> list[str]:
    return [] if found == expected else [f"{what}: {found!r} instead of {expected!r}"]
