"""What a Ray keeps of flows that have ended."""

import psutil
import pytest

from core_engine import flow, task
from core_engine.task_runners import BaseTaskRunner
from tests.runners.ray.support import RayProcesses, expect_clean


def state_of_head(processes: RayProcesses) -> dict[str, int]:
    """Return what the head holds: its memory, by process, and the functions and classes that it has for workers."""
    from ray.experimental.internal_kv import _internal_kv_list

    below = psutil.Process(processes.processes[0].pid).children()
    resident = {one.name(): one.memory_info().rss for one in below if one.name() in ("gcs_server", "raylet")}
    assert len(resident) == 2
    return {**resident, "exported": len(_internal_kv_list("", namespace="fun"))}


@pytest.mark.faults
@pytest.mark.behaviour("I10", "RAY-3")
def test_ten_thousand_runs_leave_nothing_in_the_head(ray_processes: RayProcesses, task_runner: BaseTaskRunner) -> None:
    @task
    def tiny(x: int) -> int:
        return x + 1

    @flow(task_runner=task_runner)
    def many() -> int:
        return sum(future.result() for future in tiny.map(range(10_000)))

    rounds = []
    for _ in range(4):
        assert many() == sum(range(1, 10_001))
        expect_clean()
        rounds.append(state_of_head(ray_processes))

    # The first one loads code. The head itself keeps a note of each of the last hundred thousand calls.
    first, last = rounds[1], rounds[-1]
    for process in ("gcs_server", "raylet"):
        assert last[process] - first[process] < 10_000_000
    assert last["exported"] == first["exported"]
