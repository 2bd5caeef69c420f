"""Tests of what flows do on a cluster with two workers, whichever it is."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from core_engine import State, as_completed, flow, get_client, task, unmapped
from core_engine.concurrency.waiting import step
from core_engine.task_runners import BaseTaskRunner
from core_engine.tasks import MapOptions
from runners.sequential import SequentialTaskRunner
from tests.support.waiting import wait_for


@dataclasses.dataclass
class Point:
    x: int
    y: int


@task
def double(x: int) -> int:
    return 2 * x


class FlowsOnACluster:
    """Values, large ones too, order, waiting, cancellation, many runs, and several flows at once."""

    @pytest.fixture
    def bytes_received(self) -> Callable[[], int]:
        """Return what tells how many bytes have come from the cluster to this process so far."""
        raise NotImplementedError

    # Values

    @pytest.mark.behaviour("DASK-10")
    def test_dataclasses_travel_by_value_future_and_map(self, task_runner: BaseTaskRunner) -> None:
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

    @pytest.mark.behaviour("DASK-10")
    @pytest.mark.parametrize("rows", [10, 100_000])
    def test_dataframes_travel_by_value_future_and_map(self, task_runner: BaseTaskRunner, rows: int) -> None:
        import pandas

        @task
        def double_x(frame: pandas.DataFrame) -> pandas.DataFrame:
            return frame.assign(x=2 * frame["x"])

        @flow(task_runner=task_runner)
        def frames() -> Any:
            frame = pandas.DataFrame({"x": range(rows), "name": [f"row {row}" for row in range(rows)]})
            once = double_x.submit(frame)
            twice, direct = [future.result() for future in double_x.map([once, frame])]
            return frame, [once.result(), direct, twice]

        frame, (once, direct, twice) = frames()

        pandas.testing.assert_frame_equal(once, frame.assign(x=2 * frame["x"]))
        pandas.testing.assert_frame_equal(direct, once)
        pandas.testing.assert_frame_equal(twice, frame.assign(x=4 * frame["x"]))

    @pytest.mark.behaviour("DASK-8", "RAY-6", "D12", "I6")
    def test_large_values_pass_the_flows_process_only_when_asked_for(
        self, task_runner: BaseTaskRunner, bytes_received: Callable[[], int]
    ) -> None:
        @task
        def make(x: int) -> bytes:
            return os.urandom(4_000_000)

        @task
        def measure(data: bytes, other: bytes) -> int:
            return len(data) + len(other)

        @flow(task_runner=task_runner)
        def chain() -> tuple[int, int, int]:
            before = bytes_received()
            first, second = make.map(range(4)), make.map(range(4))
            total = sum(future.result() for future in measure.map(first, second))
            passed = bytes_received() - before
            assert len(first[0].result()) == 4_000_000
            return total, passed, bytes_received() - before - passed

        total, passed, fetched = chain()

        assert total == 32_000_000
        assert passed < 320_000  # less than 1% of the values' bytes
        assert fetched > 4_000_000

    @pytest.mark.behaviour("DASK-8", "RAY-6", "D12")
    def test_values_of_async_tasks_and_nested_ones_become_values_on_the_worker(
        self, task_runner: BaseTaskRunner
    ) -> None:
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
    def test_large_values_can_be_read_after_the_runner_has_stopped(self, task_runner: BaseTaskRunner) -> None:
        @task(map_options=MapOptions(batch_size=3))
        def make(x: int) -> bytes:
            return bytes([x]) * 300_000

        @flow(task_runner=task_runner)
        def outer() -> Any:
            return [*make.map(range(5)), make.submit(5)]

        states = outer(return_state=True).result()

        assert [(state.result()[0], len(state.result())) for state in states] == [(x, 300_000) for x in range(6)]

    # Order, waiting, and ends

    @pytest.mark.behaviour("DASK-11", "RAY-6")
    def test_wait_for_orders_tasks_of_different_workers(self, task_runner: BaseTaskRunner, tmp_path: Path) -> None:
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
    def test_futures_are_yielded_in_the_order_in_which_their_runs_end(
        self, task_runner: BaseTaskRunner, tmp_path: Path
    ) -> None:
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

    @pytest.mark.behaviour("RAY-7", "RUN-8")
    def test_a_wait_that_is_over_too_early_ends_nothing(self, task_runner: BaseTaskRunner, tmp_path: Path) -> None:
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

    @pytest.mark.behaviour("DASK-12", "RAY-7", "RUN-9")
    def test_an_interrupt_in_a_task_is_its_end_and_not_an_exception_of_whoever_waits(
        self, task_runner: BaseTaskRunner
    ) -> None:
        @task
        def interrupted() -> None:
            raise KeyboardInterrupt

        @flow(task_runner=task_runner)
        def outer() -> list[Any]:
            future = interrupted.submit()
            future.wait()
            return [future, double.submit(2)]

        first, second = outer(return_state=True).result(raise_on_failure=False)

        assert (first.name, first.type.value) == ("Crashed", "CRASHED")
        assert second.result() == 4

    @pytest.mark.behaviour("D20")
    def test_a_cancelled_task_may_clean_up(self, task_runner: BaseTaskRunner, tmp_path: Path) -> None:
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
            future.cancel()
            return [future]

        (state,) = cancels(return_state=True).result(raise_on_failure=False)

        assert state.is_cancelled()
        assert (tmp_path / "ended").exists()

    # Many

    @pytest.mark.behaviour("D15")
    def test_mapped_children_that_meet_are_not_kept_apart_by_blocks(
        self, task_runner: BaseTaskRunner, tmp_path: Path
    ) -> None:
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
    def test_ten_thousand_mapped_runs_are_all_recorded_in_order(self, task_runner: BaseTaskRunner) -> None:
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
        history = [one.name for one in step(get_client().read_states(runs[5_000].id))]
        assert history == ["Pending", "Running", "Completed"]

    @pytest.mark.behaviour("RAY-9")
    def test_many_quick_submits_and_async_tasks_on_the_workers_own_loop(self, task_runner: BaseTaskRunner) -> None:
        @task
        async def where(x: int) -> tuple[int, bool]:
            await asyncio.sleep(0)
            return os.getpid(), asyncio.get_running_loop().is_running()

        @flow(task_runner=task_runner)
        def outer() -> tuple[list[int], set[int]]:
            futures = [double.submit(x) for x in range(200)]
            places: Any = where.map(range(20))
            return [future.result() for future in futures], {place.result()[0] for place in places}

        values, pids = outer()

        assert values == [2 * x for x in range(200)]
        assert os.getpid() not in pids

    # Several flows

    @pytest.mark.behaviour("DASK-5", "RAY-3", "D28")
    def test_flows_at_once_on_one_cluster_keep_to_themselves(self, task_runner: BaseTaskRunner) -> None:
        @flow(task_runner=task_runner)
        def sums(start: int) -> int:
            return sum(future.result() for future in double.map(range(start, start + 300)))

        with ThreadPoolExecutor(3) as pool:
            totals = list(pool.map(sums, [0, 1_000, 2_000]))

        assert totals == [2 * sum(range(start, start + 300)) for start in (0, 1_000, 2_000)]

    @pytest.mark.behaviour("RUN-7", "RAY-4", "FLOW-SUB-1")
    def test_subflows_use_the_same_cluster_or_a_runner_of_their_own(self, task_runner: BaseTaskRunner) -> None:
        @task
        def process() -> int:
            return os.getpid()

        @flow(task_runner=task_runner)
        def same(x: int) -> tuple[int, int]:
            return double.submit(x).result(), process.submit().result()

        @flow(task_runner="sequential")
        def own(x: int) -> tuple[int, int]:
            return double.submit(x).result(), process.submit().result()

        @flow(task_runner=task_runner)
        def parent() -> Any:
            before = double.submit(1)
            return same(before), own(before), double.submit(before).result()

        (first, there), (second, here), after = parent()

        assert (first, second, after) == (4, 4, 4)
        assert here == os.getpid() != there

    @pytest.mark.behaviour("FLOW-CALL-4", "RUN-7")
    def test_flows_are_called_where_a_loop_runs_as_in_a_notebook(self, task_runner: BaseTaskRunner) -> None:
        @task
        async def double_async(x: int) -> int:
            await asyncio.sleep(0)
            return 2 * x

        @flow(task_runner=task_runner)
        async def asynchronous() -> list[int]:
            futures = await double_async.map(range(3))
            return [await future.result() for future in futures]

        @flow(task_runner=task_runner)
        def synchronous() -> list[int]:
            return [future.result() for future in double.map(range(3))]

        async def cell() -> Any:
            return await asynchronous(), synchronous(), await asyncio.gather(asynchronous(), asynchronous())

        assert asyncio.run(cell()) == ([0, 2, 4], [0, 2, 4], [[0, 2, 4], [0, 2, 4]])

    # Examples

    def test_the_census_counts_the_same_as_sequentially(self, task_runner: BaseTaskRunner, tmp_path: Path) -> None:
        from examples.source_census import census

        sources = tmp_path / "sources"
        sources.mkdir()
        for number in range(40):
            text = f"import os\n\ndef f{number}(x):\n    return x\n" * (1 + number % 5)
            (sources / f"file_{number}.py").write_text(text)
        (sources / "broken.py").write_text("def (:\n")

        def count(runner: BaseTaskRunner, name: str) -> Any:
            counted = census.with_options(task_runner=runner, on_completion=None)
            return counted(100, [sources], tmp_path / name)

        assert count(task_runner, "there.html") == count(SequentialTaskRunner(), "here.html")

    @pytest.mark.behaviour("I6", "D12", "DASK-8", "RAY-6")
    def test_less_than_one_percent_of_large_arrays_passes_the_flows_process(
        self, task_runner: BaseTaskRunner, bytes_received: Callable[[], int]
    ) -> None:
        from examples.large_arrays import landscape

        tiles, size = 24, 700
        bytes_of_arrays = 2 * tiles * size * size * 8  # as made, and blurred

        expected = landscape.with_options(task_runner=SequentialTaskRunner())(tiles, size, 2)
        on_cluster = landscape.with_options(task_runner=task_runner)
        before = bytes_received()
        # What came from another worker may lie elsewhere in memory, for which numpy adds in another order.
        assert on_cluster(tiles, size, 2) == pytest.approx(expected, rel=1e-9)
        passed = bytes_received() - before

        assert passed < bytes_of_arrays / 100, f"{passed:,} of {bytes_of_arrays:,} bytes"
