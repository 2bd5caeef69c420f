"""Values that stay on the cluster cost each call a little, so that calls of tasks that have none do without (D12)."""

import subprocess
import sys

import pytest

from core_engine import State, flow, task
from core_engine.remote.values import ClusterResult, InlineResult
from core_engine.tasks import MapOptions
from runners.ray import RayTaskRunner
from runners.ray.habits import KNOWN_AFTER, Habits

LARGE = 300_000


def test_a_task_whose_calls_had_no_values_is_taken_to_have_none_until_one_has() -> None:
    habits = Habits()
    for _ in range(KNOWN_AFTER - 1):
        habits.take("small", 0)
    assert habits.leaves_values("small")
    habits.take("small", 0)
    assert not habits.leaves_values("small")
    assert habits.leaves_values("another")
    habits.take("small", 1)
    for _ in range(KNOWN_AFTER):
        habits.take("small", 0)

    assert habits.leaves_values("small")


@pytest.mark.behaviour("D12")
def test_a_value_that_was_not_expected_comes_with_the_report_and_the_next_ones_stay(ray_address: str) -> None:
    @task(map_options=MapOptions(batch_size=1))
    def letters(count: int) -> bytes:
        return b"x" * count

    def ended(counts: list[int]) -> list[State]:
        return [future.wait() for future in letters.map(counts)]

    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> tuple[list[type], list[int]]:
        states = [ended([1] * KNOWN_AFTER)[-1], *ended([LARGE]), *ended([LARGE, LARGE])]
        return [type(state.data) for state in states[1:]], [len(state.result()) for state in states]

    kinds, sizes = outer()

    assert kinds == [InlineResult, ClusterResult, ClusterResult]
    assert sizes == [1, LARGE, LARGE, LARGE]


def test_a_worker_imports_nothing_that_only_the_flows_process_needs() -> None:
    """Each fresh worker would take the longer to begin."""
    program = "import sys, ray, runners.ray.worker; print(*sys.modules)"
    imported = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()

    assert "core_engine.remote.worker" in imported
    assert not {"core_engine.remote.runner", "core_engine.remote.session", "runners.ray.runner"}.intersection(imported)
