"""What recording costs, as CPU time in proportion to a loop of plain Python that is timed beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from core_engine.backend.entries import Entry
from core_engine.backend.sqlite import SqliteStore
from core_engine.results import UnpersistedResult
from tests.backend.builders import TaskRunScript, log_line, recorded

_RUNS = 5_000


def cpu_seconds(function: Callable[[], Any]) -> float:
    started = time.thread_time()
    function()
    return time.thread_time() - started


def calibration() -> None:
    """About 1.4 microseconds for each run, on the machine that the budgets were set on."""
    total = 0
    for number in range(_RUNS * 40):
        total += number


def in_proportion(measure: Callable[[], Callable[[], Any]]) -> float:
    """Returns how many calibration units a run costs: the best of three, each beside its own calibration."""
    return min(cpu_seconds(measure()) / cpu_seconds(calibration) for _ in range(3))


def in_batches(store: SqliteStore, entries: Sequence[Entry], size: int) -> Callable[[], None]:
    def write() -> None:
        for start in range(0, len(entries), size):
            store.apply(entries[start : start + size])

    return write


def test_a_mapped_task_run_that_starts_and_ends_in_one_batch_stays_within_its_budget(store: SqliteStore) -> None:
    def measure() -> Callable[[], None]:
        _, tasks = recorded(store, count=_RUNS)
        result = UnpersistedResult(None)
        entries = [entry for index in range(_RUNS) for entry in TaskRunScript(tasks, index).done(result)]
        return in_batches(store, entries, 2_000)

    assert in_proportion(measure) < 6


def test_a_log_line_stays_within_its_budget(store: SqliteStore) -> None:
    def measure() -> Callable[[], None]:
        run, tasks = recorded(store, count=1)
        lines = [log_line(run.id, f"Finished in state Completed() {n}", tasks.run_id(0)) for n in range(_RUNS)]
        return in_batches(store, lines, 2_000)

    assert in_proportion(measure) < 6


def test_the_cost_of_a_task_run_does_not_grow_with_the_size_of_its_map(store: SqliteStore) -> None:
    def cost(count: int, first: int) -> float:
        _, tasks = recorded(store, count=count)
        entries = [entry for index in range(first, first + _RUNS) for entry in TaskRunScript(tasks, index).done()]
        return cpu_seconds(in_batches(store, entries, 2_000))

    cost(_RUNS, 0)
    ratios = [cost(1_000_000, 990_000) / cost(_RUNS, 0) for _ in range(3)]
    assert min(ratios) < 1.5
