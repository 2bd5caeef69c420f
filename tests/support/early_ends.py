"""Tests of runs that end before their code does, on any runner: cancellation, deadlines, failure policies, streams."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core_engine import MapOptions, State, flow, get_client, runtime, task
from core_engine.concurrency.waiting import step
from core_engine.schemas.records import TaskRun
from core_engine.task_runners import BaseTaskRunner
from tests.support.busy import WAYS, busy, keep_busy, times_of
from tests.support.promptness import soon
from tests.support.waiting import wait_for

# How late a state may come after its deadline.
LATE_SECONDS = 0.1


@contextmanager
def beside(action: Any) -> Iterator[None]:
    """Do something in a thread while the block is executed."""
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def only_task_run(flow_run_id: Any) -> TaskRun:
    (found,) = step(get_client().read_task_runs(flow_run_id))
    return found


def recorded(states: list[State]) -> list[str]:
    """Return what the store has of the runs that some states belong to."""
    ids = [state.state_details.task_run_id for state in states]
    return [step(get_client().read_task_run(id)).state.name for id in ids if id is not None]


class EarlyEnds:
    """What is promised of runs that end early holds on the runner of the fixture ``task_runner``."""

    @pytest.mark.behaviour("D20")
    @pytest.mark.parametrize("way", WAYS)
    def test_a_task_run_is_cancelled_by_its_id_within_a_second(
        self, task_runner: BaseTaskRunner, tmp_path: Path, way: str
    ) -> None:
        begun, asked, ids = tmp_path / "begun", [], []

        @flow(task_runner=task_runner)
        def outer() -> Any:
            ids.append(runtime.flow_run.id)
            return [busy(way).submit(begun)]

        def cancel() -> None:
            wait_for(begun.exists)
            # Its worker has not told of it yet, maybe.
            wait_for(lambda: only_task_run(ids[0]).state.is_running())
            asked.append(time.time())
            step(get_client().cancel_task_run(only_task_run(ids[0]).id))

        with beside(cancel):
            (state,) = outer(return_state=True).result(raise_on_failure=False)

        assert state.is_cancelled()
        times = times_of(state.state_details.task_run_id)
        assert list(times) == ["Pending", "Running", "Cancelled"]
        assert times["Cancelled"] - asked[0] < soon()

    @pytest.mark.behaviour("D20", "FLOW-HOOK-6", "FLOW-HOOK-9")
    @pytest.mark.parametrize("way", WAYS)
    def test_a_flow_run_is_cancelled_within_a_second_with_its_subflow_and_their_task_runs(
        self, task_runner: BaseTaskRunner, tmp_path: Path, way: str
    ) -> None:
        asked: list[float] = []
        ids: list[Any] = []
        hooks: list[str] = []

        def hook(flow: Any, flow_run: Any, state: State) -> None:
            hooks.append(f"{flow.name} {state.name}")

        @flow(task_runner=task_runner, on_cancellation=[hook])
        def child() -> Any:
            ids.append(runtime.flow_run.id)
            return busy(way).submit(tmp_path / "begun").result()

        @flow(task_runner=task_runner, on_cancellation=[hook])
        def outer() -> Any:
            ids.append(runtime.flow_run.id)
            return child()

        def cancel() -> None:
            wait_for((tmp_path / "begun").exists)
            asked.append(time.time())
            step(get_client().cancel_flow_run(ids[0]))

        with beside(cancel):
            state = outer(return_state=True)

        assert state.is_cancelled()
        for id in ids:
            assert list(times_of(id)) == ["Pending", "Running", "Cancelling", "Cancelled"]
            assert times_of(id)["Cancelled"] - asked[0] < soon()
            run = only_task_run(id)
            assert run.state_name == "Cancelled"
            assert times_of(run.id)["Cancelled"] - asked[0] < soon()
        assert hooks == ["child Cancelling", "outer Cancelling"]

    @pytest.mark.behaviour("D20", "TASK-TIME-1", "TASK-TIME-4", "RUN-10")
    @pytest.mark.parametrize("way", WAYS)
    def test_a_task_run_is_timed_out_at_its_deadline(
        self, task_runner: BaseTaskRunner, tmp_path: Path, way: str
    ) -> None:
        @flow(task_runner=task_runner)
        def outer() -> Any:
            limited = busy(way, timeout_seconds=0.5)
            # The first on a worker may have to wait for what is imported there.
            return [limited.submit(tmp_path / "begun", return_state=True) for _ in range(2)]

        states = outer(return_state=True).result(raise_on_failure=False)

        late = []
        for state in states:
            times = times_of(state.state_details.task_run_id)
            assert list(times) == ["Pending", "Running", "TimedOut"]
            late.append(times["TimedOut"] - times["Running"] - 0.5)
            with pytest.raises(TimeoutError):
                state.result()
        assert min(late) >= 0
        assert min(late) < soon(LATE_SECONDS)

    @pytest.mark.behaviour("FLOW-TIME-9", "FLOW-TIME-1")
    def test_a_subflow_that_waits_for_a_task_run_is_timed_out_at_its_parents_deadline(
        self, task_runner: BaseTaskRunner, tmp_path: Path
    ) -> None:
        ids: list[Any] = []

        @flow(task_runner=task_runner)
        def child() -> Any:
            ids.append(runtime.flow_run.id)
            return busy("sleeps", timeout_seconds=2).submit(tmp_path / "begun").result()

        @flow(task_runner=task_runner, timeout_seconds=1)
        def outer() -> Any:
            ids.append(runtime.flow_run.id)
            return child()

        state = outer(return_state=True)

        assert state.name == "TimedOut"
        parent, below = (times_of(id) for id in ids)
        for times in (parent, below):
            assert list(times) == ["Pending", "Running", "TimedOut"]
            assert 1 <= times["TimedOut"] - parent["Running"] < 1 + soon(LATE_SECONDS)

    @pytest.mark.behaviour("D8")
    @pytest.mark.parametrize("policy", ["continue", "drain", "cancel"])
    def test_every_index_of_a_map_with_a_failure_policy_ends_in_a_recorded_state(
        self, task_runner: BaseTaskRunner, tmp_path: Path, policy: str
    ) -> None:
        @task(map_options=MapOptions(max_failures=2, on_failure=policy))  # type: ignore[arg-type]
        def works(x: int) -> int:
            (tmp_path / str(x)).touch()
            if x % 10 == 3:
                raise ValueError(x)
            time.sleep(0.005)
            return x

        @flow(task_runner=task_runner)
        def outer() -> Any:
            return works.map(range(300))

        states = outer(return_state=True).result(raise_on_failure=False)

        names = Counter(state.name for state in states)
        assert recorded(states) == [state.name for state in states]
        begun = {int(path.name) for path in tmp_path.iterdir()}
        ended = {x for x, state in enumerate(states) if not state.is_cancelled()}
        if policy == "continue":
            assert names == {"Completed": 270, "Failed": 30}
        else:
            assert 3 <= names["Failed"] < 30
            assert names["Cancelled"] > 0
            assert names.total() == 300
        assert ended <= begun
        if policy == "drain" and task_runner.shares_memory:  # what was known to have begun went on to its own end
            assert begun == ended

    @pytest.mark.behaviour("D8", "D20")
    def test_a_map_that_is_cancelled_by_a_failure_interrupts_what_runs(
        self, task_runner: BaseTaskRunner, tmp_path: Path
    ) -> None:
        if task_runner.concurrency_type.value == "SEQUENTIAL":
            pytest.skip("nothing runs beside the run that fails")

        @task(map_options=MapOptions(max_failures=0, on_failure="cancel", batch_size=1))
        def works(x: int) -> None:
            if x == 0:
                keep_busy("sleeps", tmp_path / "begun")
            wait_for((tmp_path / "begun").exists)
            raise ValueError(x)

        @flow(task_runner=task_runner)
        def outer() -> Any:
            return works.map(range(4))

        states = outer(return_state=True).result(raise_on_failure=False)

        assert states[0].is_cancelled()
        assert recorded(states) == [state.name for state in states]
        failed = max(times_of(state.state_details.task_run_id).get("Failed", 0) for state in states)
        assert times_of(states[0].state_details.task_run_id)["Cancelled"] - failed < soon()

    @pytest.mark.behaviour("D8")
    @pytest.mark.parametrize("ordered", [True, False])
    def test_a_stream_yields_every_run_of_an_endless_source_until_it_is_left(
        self, task_runner: BaseTaskRunner, ordered: bool
    ) -> None:
        read: list[int] = []

        @task(map_options=MapOptions(window=20, ordered=ordered))
        def doubles(x: int) -> int:
            return 2 * x

        @flow(task_runner=task_runner)
        def outer() -> list[int]:
            source = (read.append(x) or x for x in itertools.count())
            found = []
            for future in doubles.stream(source):
                found.append(future.result())
                assert len(read) <= len(found) + 20
                if len(found) == 100:
                    return found
            raise AssertionError("it has no end")

        found = outer()

        assert len(read) <= 120
        assert len(set(found)) == 100
        assert found == [2 * x for x in range(100)] if ordered else set(found) <= {2 * x for x in range(120)}

    @pytest.mark.behaviour("D8", "D20")
    def test_what_is_in_flight_when_a_stream_is_left_is_cancelled(
        self, task_runner: BaseTaskRunner, tmp_path: Path
    ) -> None:
        if task_runner.concurrency_type.value == "SEQUENTIAL":
            pytest.skip("nothing is in flight there")
        ids: list[Any] = []

        @task(map_options=MapOptions(window=6, batch_size=1))
        def works(x: int) -> int:
            if x:
                keep_busy("sleeps", tmp_path / "begun")
            return x

        @flow(task_runner=task_runner)
        def outer() -> float:
            ids.append(runtime.flow_run.id)
            for future in works.stream(itertools.count()):
                assert future.result() == 0
                wait_for((tmp_path / "begun").exists)
                break
            return time.time()

        left = outer()

        runs = step(get_client().read_task_runs(ids[0]))
        assert [run.state_name for run in runs] == ["Completed"] + ["Cancelled"] * (len(runs) - 1)
        assert 2 <= len(runs) <= 7
        for run in runs[1:]:
            assert times_of(run.id)["Cancelled"] - left < soon()
