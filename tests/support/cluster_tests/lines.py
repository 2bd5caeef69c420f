"""Lines of tasks on a cluster."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar

import pytest

from core_engine import flow, get_client, get_run_logger, task
from core_engine.concurrency.waiting import step
from core_engine.logging.records import LogEntry
from core_engine.settings import temporary_settings
from core_engine.task_runners import BaseTaskRunner
from tests.support.promptness import soon
from tests.support.waiting import wait_for

RUNS, LINES = 1_000, 100


def entries(flow_run_id: Any) -> list[LogEntry]:
    return [one.entry for one in step(get_client().read_logs(flow_run_id))]


def says(x: int) -> None:
    """Log a hundred lines in three ways in turn."""
    run_logger, library = get_run_logger(), logging.getLogger("some.library")
    for line in range(LINES):
        text = f"line {line} of {x}"
        if line % 3 == 0:
            run_logger.info(text)
        elif line % 3 == 1:
            print(text)
        else:
            library.warning(text)


class LinesFromACluster:
    """Lines of tasks: all arrive, once, in order, while the tasks run, whatever becomes of them (D23, D28)."""

    worker_prefix: ClassVar[str]

    @pytest.mark.faults
    @pytest.mark.behaviour("D23", "LOG-1", "LOG-API-1", "LOG-API-11", "LOG-PRINT-1")
    def test_a_hundred_lines_of_each_of_a_thousand_runs_arrive_once_and_in_order(
        self, task_runner: BaseTaskRunner
    ) -> None:
        chatty = task(says, log_prints=True)

        @flow(task_runner=task_runner)
        def outer() -> Any:
            return chatty.map(range(RUNS))

        with temporary_settings({"LOGGING_EXTRA_LOGGERS": "some.library"}):
            states = outer(return_state=True).result()

        said: dict[Any, list[str]] = defaultdict(list)
        workers = set()
        for entry in entries(states[0].state_details.flow_run_id):
            if entry.message.startswith("line "):
                said[entry.task_run_id].append(entry.message)
                workers.add(entry.worker)
        for x, state in enumerate(states):
            assert said[state.state_details.task_run_id] == [f"line {line} of {x}" for line in range(LINES)]
        assert len(said) == RUNS
        assert len(workers) >= 2
        assert all(str(worker).startswith(self.worker_prefix) for worker in workers)

    @pytest.mark.behaviour("D23", "LOG-API-1")
    def test_lines_arrive_within_a_second_while_the_task_runs(
        self, task_runner: BaseTaskRunner, tmp_path: Path
    ) -> None:
        @task
        def talks() -> None:
            for number in range(5):
                get_run_logger().info("said at %f", time.time())
                wait_for((tmp_path / f"heard {number}").exists)

        @flow(task_runner=task_runner)
        def outer() -> list[float]:
            future = talks.submit()
            delays = []
            for number in range(5):
                wait_for(lambda number=number: len(lines(future)) > number)
                delays.append(time.time() - float(lines(future)[number].rpartition(" ")[2]))
                (tmp_path / f"heard {number}").touch()
            return delays

        def lines(future: Any) -> list[str]:
            return [one.message for one in entries(future.task_run.flow_run_id) if one.message.startswith("said at ")]

        # The first one may have to wait for the import of the engine on the worker.
        assert sorted(outer())[2] < soon()

    @pytest.mark.behaviour("D23", "LOG-API-11")
    @pytest.mark.parametrize("end", ["fails", "times out", "is cancelled"])
    def test_lines_of_a_run_that_does_not_complete_arrive_too(
        self, task_runner: BaseTaskRunner, tmp_path: Path, end: str
    ) -> None:
        @task(timeout_seconds=1 if end == "times out" else None, log_prints=True)
        def talks() -> None:
            for line in range(50):
                print(f"line {line}")
            (tmp_path / "said").touch()
            if end == "fails":
                raise ValueError("no more")
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                time.sleep(0.01)

        @flow(task_runner=task_runner)
        def outer() -> Any:
            future = talks.submit()
            if end == "is cancelled":
                wait_for((tmp_path / "said").exists)
                future.cancel()
            return [future]

        (state,) = outer(return_state=True).result(raise_on_failure=False)

        assert state.name == {"fails": "Failed", "times out": "TimedOut", "is cancelled": "Cancelled"}[end]
        said = [one.message for one in entries(state.state_details.flow_run_id)]
        assert [line for line in said if line.startswith("line")] == [f"line {line}" for line in range(50)]
