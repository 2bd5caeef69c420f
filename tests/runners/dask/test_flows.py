"""Flows on a cluster of Dask: values, logs, large data, cancellation, and the census."""

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

from core_engine import State, as_completed, flow, get_client, get_run_logger, task, unmapped
from core_engine.concurrency.waiting import step
from core_engine.task_runners import BaseTaskRunner
from runners.dask import DaskTaskRunner
from tests.support.waiting import wait_for


@dataclasses.dataclass
class Point:
    x: int
    y: int


@pytest.mark.behaviour("DASK-10")
def test_dataclasses_travel_by_value_future_and_map(task_runner: BaseTaskRunner) -> None:
    @task
    def flip(point: Point) -> Point:
        return Point(point.y, point.x)

    @task
    def flip_all(points: list[Point]) -> list[Point]:
        return [Point(point.y, point.x) for point in points]

    @flow(task_runner=task_runner)
    def points() -> Any:
        once = flip.submit(Point(1, 2))
        twice = flip.submit(once)
        mapped = flip.map([Point(3, 4), twice])
        return twice.result(), flip_all.submit(mapped).result(), flip_all([Point(5, 6)])

    assert points() == (Point(1, 2), [Point(3, 4), Point(1, 2)], [Point(6, 5)])


@pytest.mark.behaviour("DASK-11")
def test_wait_for_orders_tasks_of_different_workers(task_runner: BaseTaskRunner, tmp_path: Path) -> None:
    @task
    def write(name: str) -> None:
        time.sleep(0.05)
        (tmp_path / name).touch()

    @task
    def list_names() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir())

    @flow(task_runner=task_runner)
    def ordered() -> list[str]:
        return list_names.submit(wait_for=[write.submit("a"), write.submit("b")]).result()

    assert ordered() == ["a", "b"]


@pytest.mark.behaviour("DASK-14")
def test_futures_are_yielded_in_the_order_in_which_their_runs_end(task_runner: BaseTaskRunner, tmp_path: Path) -> None:
    @task
    def ends(mine: str, after: str | None) -> str:
        wait_for(lambda: after is None or (tmp_path / after).exists())
        return mine

    @flow(task_runner=task_runner)
    def completing() -> list[str]:
        order = []
        for future in as_completed([ends.submit("second", "go"), ends.submit("first", None)]):
            order.append(future.result())
            (tmp_path / "go").touch()
        return order

    assert completing() == ["first", "second"]


@pytest.mark.behaviour("DASK-8", "D12", "I6")
def test_large_values_pass_the_flows_process_only_when_asked_for(dask_cluster: LocalCluster) -> None:
    @task
    def make(x: int) -> bytes:
        return os.urandom(4_000_000)

    @task
    def measure(data: bytes, other: bytes) -> int:
        return len(data) + len(other)

    @flow(task_runner=DaskTaskRunner(cluster=dask_cluster))
    def chain() -> tuple[int, list[int]]:
        before = received()
        first, second = make.map(range(4)), make.map(range(4))
        total = sum(future.result() for future in measure.map(first, second))
        return total, [received() - before, len(first[0].result())]

    total, (passed, fetched) = chain()

    assert total == 32_000_000
    assert fetched == 4_000_000
    assert passed < 320_000  # less than 1% of the values' bytes


@pytest.mark.behaviour("D31")
def test_large_values_that_nobody_can_ask_for_leave_the_cluster(dask_cluster: LocalCluster) -> None:
    @task
    def make(x: int) -> bytes:
        return bytes([x]) * 200_000

    def kept() -> list[str]:
        return [key for key in map(str, list(dask_cluster.scheduler.tasks)) if key.startswith("core-engine-value-")]

    @flow(task_runner=DaskTaskRunner(cluster=dask_cluster))
    def forgetful() -> tuple[bool, list[str]]:
        for number in range(4):
            future = make.submit(number)
            future.wait()
            was_there = bool(kept())
            del future
        deadline = time.monotonic() + 30
        while kept() and time.monotonic() < deadline:
            time.sleep(0.05)
        return was_there, kept()

    assert forgetful() == (True, [])


def received() -> int:
    """Return how many bytes this process has read so far, from anywhere."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("rchar"):
            return int(line.split()[1])
    pytest.skip("The system does not count what a process reads")


@pytest.mark.behaviour("LOG-API-1", "LOG-API-11")
def test_lines_arrive_while_the_task_runs_and_once(task_runner: BaseTaskRunner, tmp_path: Path) -> None:
    @task
    def says() -> None:
        for line in range(100):
            get_run_logger().info("line %d", line)
        wait_for(lambda: (tmp_path / "heard").exists())

    @flow(task_runner=task_runner)
    def listens() -> Any:
        future = says.submit()
        wait_for(lambda: "line 99" in messages(future.task_run.flow_run_id))
        (tmp_path / "heard").touch()
        return [future]

    (state,) = listens(return_state=True).result()

    said = messages(state.state_details.flow_run_id)
    assert [line for line in said if line.startswith("line")] == [f"line {line}" for line in range(100)]


def messages(flow_run_id: Any) -> list[str]:
    return [stored.entry.message for stored in step(get_client().read_logs(flow_run_id))]


@pytest.mark.behaviour("D20")
def test_a_running_task_is_cancelled_within_a_second(task_runner: BaseTaskRunner, tmp_path: Path) -> None:
    @task
    def long() -> None:
        (tmp_path / "started").touch()
        try:
            while True:
                time.sleep(0.01)
        finally:
            (tmp_path / "ended").touch()

    @flow(task_runner=task_runner)
    def cancels() -> Any:
        future = long.submit()
        wait_for((tmp_path / "started").exists)
        asked = time.monotonic()
        future.cancel()
        future.wait()
        return [future], time.monotonic() - asked

    (state,), seconds = cancels(return_state=True).result(raise_on_failure=False)

    assert state.is_cancelled()
    assert seconds < 1.5
    assert (tmp_path / "ended").exists()


@pytest.mark.behaviour("D15")
def test_mapped_children_that_meet_are_not_kept_apart_by_blocks(task_runner: BaseTaskRunner, tmp_path: Path) -> None:
    @task
    def meets(x: int) -> int:
        if x >= 200:
            (tmp_path / str(x)).touch()
            wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        return x

    @flow(task_runner=task_runner)
    def barrier() -> int:
        return sum(future.result() for future in meets.map(range(202)))

    assert barrier() == sum(range(202))


@pytest.mark.behaviour("I2", "I9")
def test_ten_thousand_mapped_runs_are_all_recorded_in_order(task_runner: BaseTaskRunner) -> None:
    @task
    def add(x: int, y: int) -> int:
        return x + y

    @flow(task_runner=task_runner)
    def many() -> list[State]:
        return add.map(range(10_000), unmapped(1), return_state=True)

    states = many()
    flow_run_id = states[0].state_details.flow_run_id
    assert flow_run_id is not None
    runs = step(get_client().read_task_runs(flow_run_id))

    assert [state.result() for state in states] == [x + 1 for x in range(10_000)]
    assert len(runs) == 10_000
    assert all(run.state_name == "Completed" for run in runs)
    assert [one.name for one in step(get_client().read_states(runs[5_000].id))] == ["Pending", "Running", "Completed"]
