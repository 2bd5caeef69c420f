"""Reading many task runs costs little; what is read is the suite's affair."""

from __future__ import annotations

import time

from core_engine.backend.sqlite import SqliteStore
from tests.backend.builders import TaskRunScript, recorded


def test_a_hundred_thousand_children_are_read_for_drawing_within_a_second_of_work(store: SqliteStore) -> None:
    run, tasks = recorded(store, count=100_000)
    store.apply([entry for index in range(0, 100_000, 10) for entry in TaskRunScript(tasks, index).done()])
    started = time.thread_time()
    assert sum(1 for _ in store.task_run_times(run.id)) == 100_000
    assert sum(count.count for count in store.count_task_runs(run.id)) == 100_000
    assert [run.name for run in store.read_task_runs(run.id, limit=1, offset=99_999)] == ["measure-99999"]
    assert store.read_task_run(tasks.run_id(99_999)) is not None
    assert time.thread_time() - started < 1.0
