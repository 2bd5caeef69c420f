"""Workers that die: each run ends in the right state, no finished one is executed twice, no line is lost or doubled."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from core_engine import State, flow, get_client, get_run_logger, task
from core_engine.concurrency.waiting import step
from core_engine.task_runners import BaseTaskRunner
from core_engine.tasks import MapOptions
from tests.support.starts import lines, note, starts

# Long enough for a start to be reported; a worker that dies sooner may not have told of it.
REPORTED_SECONDS = 0.3

MakeRunner = Callable[..., BaseTaskRunner]


def states_of(runner: BaseTaskRunner, make: Any) -> list[State]:
    @flow(task_runner=runner)
    def outer() -> Any:
        return make()

    return outer(return_state=True).result(raise_on_failure=False)


def kill_this_process() -> None:
    time.sleep(REPORTED_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


class LossesOnACluster:
    """The fixture `make_runner` makes runners with options for a cluster whose workers may be killed."""

    worker_prefix: ClassVar[str]

    @pytest.mark.behaviour("DASK-12", "D22")
    def test_a_worker_killed_in_the_middle_of_a_task_crashes_it_alone(
        self, make_runner: MakeRunner, tmp_path: Path
    ) -> None:
        path = tmp_path / "starts"

        @task(map_options=MapOptions(batch_size=1))
        def fragile(x: int) -> int:
            note(path, x)
            if x == 3:
                kill_this_process()
            return x

        states = states_of(make_runner(), lambda: fragile.map(range(20)))

        assert [x for x, state in enumerate(states) if not state.is_completed()] == [3]
        assert states[3].is_crashed()
        assert self.worker_prefix in (states[3].message or "")
        assert starts(path)["3"] == 1
        assert lines() == starts(path)

    @pytest.mark.faults
    @pytest.mark.behaviour("D22")
    def test_what_a_block_had_reported_is_kept_when_its_worker_is_killed(
        self, make_runner: MakeRunner, tmp_path: Path
    ) -> None:
        path = tmp_path / "starts"

        @task(map_options=MapOptions(batch_size=10))
        def fragile(x: int) -> int:
            note(path, x)
            if x == 5:
                kill_this_process()
            return x

        states = states_of(make_runner(), lambda: fragile.map(range(30)))

        assert [x for x, state in enumerate(states) if not state.is_completed()] == [5]
        assert [state.result() for state in states[:5]] == [0, 1, 2, 3, 4]
        assert starts(path) == Counter(map(str, range(30)))
        assert lines() == starts(path)

    @pytest.mark.faults
    @pytest.mark.behaviour("D22", "LOG-API-11")
    def test_lines_of_a_run_that_is_lost_are_there_once_and_others_go_on(
        self, make_runner: MakeRunner, tmp_path: Path
    ) -> None:
        path = tmp_path / "starts"

        @task(map_options=MapOptions(batch_size=5))
        def says(x: int) -> int:
            note(path, x)
            for line in range(10):
                get_run_logger().info("line %d of %d", line, x)
            time.sleep(REPORTED_SECONDS)
            if x == 7:
                os.kill(os.getpid(), signal.SIGKILL)
            get_run_logger().info("line 10 of %d", x)
            return x

        states = states_of(make_runner(), lambda: says.map(range(20)))
        stored = step(get_client().read_logs(states[0].state_details.flow_run_id))
        said = Counter(one.entry.message for one in stored if one.entry.message.startswith("line "))

        assert [x for x, state in enumerate(states) if not state.is_completed()] == [7]
        assert said == Counter(f"line {line} of {x}" for x in range(20) for line in range(11) if (line, x) != (10, 7))
        assert lines() == starts(path) == Counter(map(str, range(20)))

    @pytest.mark.faults
    @pytest.mark.behaviour("D22")
    def test_a_run_lost_with_its_worker_is_executed_again_within_the_runners_budget(
        self, make_runner: MakeRunner, tmp_path: Path
    ) -> None:
        path = tmp_path / "starts"

        @task
        def fragile() -> str:
            note(path, "x")
            if starts(path)["x"] == 1:
                kill_this_process()
            return "done"

        (state,) = states_of(make_runner(worker_loss_retries=1), lambda: [fragile.submit()])
        run_id = state.state_details.task_run_id
        assert run_id is not None

        assert state.result() == "done"
        history = [one.name for one in step(get_client().read_states(run_id))]
        assert history == ["Pending", "Running", "Rerunning", "Completed"]
        assert lines() == starts(path) == Counter({"x": 2})

    @pytest.mark.faults
    @pytest.mark.behaviour("D22")
    @pytest.mark.parametrize("persisted", [False, True], ids=["small", "persisted"])
    def test_a_finished_task_is_not_executed_again_and_its_value_outlives_its_worker(
        self, make_runner: MakeRunner, tmp_path: Path, persisted: bool
    ) -> None:
        path = tmp_path / "starts"
        size = 300_000 if persisted else 10

        @task(persist_result=persisted)
        def makes() -> bytes:
            note(path, "made")
            (tmp_path / "pid").write_text(str(os.getpid()))
            return bytes(size)

        @task
        def measures(made: bytes) -> int:
            note(path, "measured")
            return len(made)

        @flow(task_runner=make_runner(worker_loss_retries=3))
        def outer() -> tuple[int, int]:
            made = makes.submit()
            made.wait()
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
            return measures.submit(made).result(), len(made.result())

        assert outer() == (size, size)
        assert lines() == starts(path) == Counter({"made": 1, "measured": 1})

    @pytest.mark.faults
    @pytest.mark.behaviour("D22")
    def test_runs_that_kill_every_worker_end_all_of_them(self, make_runner: MakeRunner, tmp_path: Path) -> None:
        path = tmp_path / "starts"

        @task
        def dies(x: int) -> None:
            note(path, x)
            kill_this_process()

        states = states_of(make_runner(), lambda: dies.map(range(4)))

        assert all(state.is_crashed() for state in states)
        assert lines() == starts(path) == Counter("0123")

    @pytest.mark.faults
    @pytest.mark.behaviour("D22", "DASK-12")
    def test_runs_go_on_when_all_workers_died_at_once_and_others_came(
        self, make_runner: MakeRunner, tmp_path: Path
    ) -> None:
        path = tmp_path / "starts"

        @task(map_options=MapOptions(batch_size=1))
        def slow(x: int) -> int:
            (tmp_path / f"pid-{os.getpid()}").touch()
            note(path, x)
            time.sleep(REPORTED_SECONDS)
            return x

        @flow(task_runner=make_runner())
        def outer() -> Any:
            futures = slow.map(range(20))
            for future in futures[:4]:
                future.wait()
            for file in tmp_path.glob("pid-*"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(file.name.removeprefix("pid-")), signal.SIGKILL)
            return futures

        states = outer(return_state=True).result(raise_on_failure=False)

        crashed = [state for state in states if not state.is_completed()]
        assert len(crashed) <= 2
        assert all(state.is_crashed() and self.worker_prefix in (state.message or "") for state in crashed)
        assert len(starts(path)) == 20
        assert sum(starts(path).values()) <= 22
        # What was said in the last moment may be lost with the worker.
        assert lines() <= starts(path)
        assert sum(starts(path).values()) - lines().total() <= 2
