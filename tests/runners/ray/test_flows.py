"""Flows on Ray: values, logs, large data, cancellation, and the census."""

import asyncio
import dataclasses
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from core_engine import State, as_completed, flow, get_client, get_run_logger, task, unmapped
from core_engine.concurrency.waiting import step
from core_engine.settings import temporary_settings
from core_engine.task_runners import BaseTaskRunner
from core_engine.tasks import MapOptions
from runners.ray import RayTaskRunner
from runners.sequential import SequentialTaskRunner
from tests.runners.ray.support import messages
from tests.support.waiting import wait_for


@dataclasses.dataclass
class Point:
    x: int
    y: int


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


@pytest.mark.behaviour("RAY-6")
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


@pytest.mark.behaviour("RAY-6", "D12", "I6")
def test_large_values_pass_the_flows_process_only_when_asked_for(task_runner: BaseTaskRunner) -> None:
    @task
    def make(x: int) -> bytes:
        return os.urandom(4_000_000)

    @task
    def measure(data: bytes, other: bytes) -> int:
        return len(data) + len(other)

    @flow(task_runner=task_runner)
    def chain() -> tuple[int, list[int]]:
        before = received()
        first, second = make.map(range(4)), make.map(range(4))
        total = sum(future.result() for future in measure.map(first, second))
        return total, [received() - before, len(first[0].result())]

    total, (passed, fetched) = chain()

    assert total == 32_000_000
    assert fetched == 4_000_000
    assert passed < 320_000  # less than 1% of the values' bytes


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


def test_the_census_counts_the_same_as_sequentially(task_runner: BaseTaskRunner, tmp_path: Path) -> None:
    from examples.source_census import census

    sources = tmp_path / "sources"
    sources.mkdir()
    for number in range(40):
        (sources / f"file_{number}.py").write_text(f"import os\n\ndef f{number}(x):\n    return x\n" * (1 + number % 5))
    (sources / "broken.py").write_text("def (:\n")

    def count(runner: BaseTaskRunner, name: str) -> Any:
        counted = census.with_options(task_runner=runner, on_completion=None)
        return counted(100, [sources], tmp_path / name)

    assert count(task_runner, "ray.html") == count(SequentialTaskRunner(), "here.html")


@pytest.mark.behaviour("RAY-7", "RUN-9")
def test_an_interrupt_in_a_task_is_its_end_and_not_an_exception_of_whoever_waits(task_runner: BaseTaskRunner) -> None:
    @task
    def interrupted() -> None:
        raise KeyboardInterrupt

    @flow(task_runner=task_runner)
    def outer() -> list[Any]:
        future = interrupted.submit()
        future.wait()
        return [future, alive.submit()]

    @task
    def alive() -> str:
        return "alive"

    first, second = outer(return_state=True).result(raise_on_failure=False)

    assert (first.name, first.type.value) == ("Crashed", "CRASHED")
    assert second.result() == "alive"


@pytest.mark.behaviour("RAY-7", "RUN-8")
def test_a_wait_that_is_over_too_early_ends_nothing(task_runner: BaseTaskRunner, tmp_path: Path) -> None:
    @task
    def waits() -> str:
        wait_for((tmp_path / "go").exists)
        return "done"

    @flow(task_runner=task_runner)
    def outer() -> tuple[Any, str]:
        future = waits.submit()
        early = future.wait(timeout=0.1)
        (tmp_path / "go").touch()
        return early, future.result()

    assert outer() == (None, "done")


@pytest.mark.behaviour("RAY-6", "D12")
def test_values_of_async_tasks_and_nested_ones_become_values_on_the_worker(task_runner: BaseTaskRunner) -> None:
    @task
    async def make(x: int) -> bytes:
        await asyncio.sleep(0.01 * x)
        return bytes([x]) * 500_000

    @task
    def measure(nested: dict[str, list[bytes]], *, more: bytes) -> list[int]:
        return [len(one) for one in nested["all"]] + [more[0]]

    @flow(task_runner=task_runner)
    def outer() -> list[int]:
        made: Any = make.map(range(4))
        return measure.submit({"all": made}, more=made[3]).result()

    assert outer() == [500_000] * 4 + [3]


@pytest.mark.behaviour("D26")
def test_large_values_can_be_read_after_the_runner_has_stopped(task_runner: BaseTaskRunner) -> None:
    @task(map_options=MapOptions(batch_size=3))
    def make(x: int) -> bytes:
        return bytes([x]) * 300_000

    @flow(task_runner=task_runner)
    def outer() -> Any:
        return [*make.map(range(5)), make.submit(5)]

    states = outer(return_state=True).result()

    assert [(state.result()[0], len(state.result())) for state in states] == [(x, 300_000) for x in range(6)]


@pytest.mark.behaviour("RAY-9")
def test_many_quick_submits_and_async_tasks_on_the_workers_own_loop(task_runner: BaseTaskRunner) -> None:
    @task
    def quick(x: int) -> int:
        return x

    @task
    async def where(x: int) -> tuple[int, int]:
        await asyncio.sleep(0)
        return os.getpid(), id(asyncio.get_running_loop()) % 1

    @flow(task_runner=task_runner)
    def outer() -> tuple[list[int], set[int]]:
        futures = [quick.submit(x) for x in range(200)]
        places: Any = where.map(range(20))
        return [future.result() for future in futures], {place.result()[0] for place in places}

    values, pids = outer()
    assert values == list(range(200))
    assert os.getpid() not in pids


@pytest.mark.behaviour("RAY-4")
def test_a_subflow_with_a_runner_of_its_own_and_the_outer_flow_share_one_ray(task_runner: BaseTaskRunner) -> None:
    @task
    def double(x: int) -> int:
        return 2 * x

    @flow(task_runner=RayTaskRunner())
    def inner(x: int) -> int:
        return double.submit(x).result()

    @flow(task_runner=task_runner)
    def outer() -> list[int]:
        first = double.submit(1)
        return [inner(first), double.submit(first).result()]

    assert outer() == [4, 4]


def test_a_flow_can_be_called_where_a_loop_runs_as_in_a_notebook(task_runner: BaseTaskRunner) -> None:
    @task
    async def double(x: int) -> int:
        return 2 * x

    @flow(task_runner=task_runner)
    def sync_flow() -> int:
        futures: Any = double.map([1, 2])
        return sum(future.result() for future in futures)

    @flow(task_runner=task_runner)
    async def async_flow() -> int:
        futures: Any = await double.map([3, 4])  # type: ignore[misc]
        return sum([await future.result() for future in futures])

    async def cell() -> tuple[int, int]:
        return sync_flow(), await async_flow()

    assert asyncio.run(cell()) == (6, 14)


@pytest.mark.behaviour("D28")
def test_two_flows_at_once_log_each_by_its_own_level(
    task_runner: BaseTaskRunner, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    @task
    def says(name: str, other: str) -> None:
        (tmp_path / name).touch()
        wait_for((tmp_path / other).exists)
        logger = get_run_logger()
        logger.debug("debug of %s", name)
        logger.error("error of %s", name)

    @flow(task_runner=task_runner)
    def outer(name: str, other: str) -> Any:
        return [says.submit(name, other)]

    def run(level: str, name: str, other: str) -> list[str]:
        with temporary_settings({"LOGGING_LEVEL": level}):
            (state,) = outer(name, other, return_state=True).result()
        return [line for line in messages(state.state_details.flow_run_id) if " of " in line]

    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(run, "DEBUG", "a", "b"), threads.submit(run, "ERROR", "b", "a")]
        stored = [one.result() for one in asked]

    assert stored == [["debug of a", "error of a"], ["error of b"]]
    shown = capfd.readouterr().err
    assert [shown.count(line) for line in ("error of a", "error of b")] == [1, 1]


@pytest.mark.faults
@pytest.mark.behaviour("D20")
@pytest.mark.parametrize("size", [1, 2])
def test_a_worker_that_cannot_be_interrupted_is_replaced_when_the_flow_ends(
    task_runner: BaseTaskRunner, tmp_path: Path, size: int
) -> None:
    @task(map_options=MapOptions(batch_size=size))
    def stuck(x: int) -> None:
        (tmp_path / f"pid-{os.getpid()}").touch()
        time.sleep(300)

    @flow(task_runner=task_runner)
    def outer() -> list[Any]:
        futures = stuck.map(range(size))
        wait_for(lambda: any(tmp_path.glob("pid-*")))
        for future in futures:
            future.cancel()
        return futures

    started = time.monotonic()
    states = outer(return_state=True).result(raise_on_failure=False)

    assert all(state.is_cancelled() for state in states)
    assert time.monotonic() - started < 30
    stuck_in = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in stuck_in))
