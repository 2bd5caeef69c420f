"""Lines of tasks on Dask: all arrive, once, in order, while the tasks run, whatever becomes of them (D23, D28)."""

import logging
import subprocess
import sys
import textwrap
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

from core_engine import flow, get_client, get_run_logger, task
from core_engine.concurrency.waiting import step
from core_engine.logging.records import LogEntry
from core_engine.settings import temporary_settings
from runners.dask import DaskTaskRunner
from tests.support.dask_processes import wait_for

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


@pytest.mark.faults
@pytest.mark.behaviour("D23", "LOG-1", "LOG-API-1", "LOG-API-11", "LOG-PRINT-1")
def test_a_hundred_lines_of_each_of_a_thousand_runs_arrive_once_and_in_order(dask_cluster: LocalCluster) -> None:
    chatty = task(says, log_prints=True)

    @flow(task_runner=DaskTaskRunner(cluster=dask_cluster))
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
    assert workers == set(dask_cluster.scheduler_info["workers"])


@pytest.mark.behaviour("D23", "LOG-API-1")
def test_lines_arrive_within_a_second_while_the_task_runs(dask_cluster: LocalCluster, tmp_path: Path) -> None:
    @task
    def talks() -> None:
        for number in range(5):
            get_run_logger().info("said at %f", time.time())
            wait_for((tmp_path / f"heard {number}").exists)

    @flow(task_runner=DaskTaskRunner(cluster=dask_cluster))
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
    assert sorted(outer())[2] < 1


@pytest.mark.behaviour("D23", "LOG-API-11")
@pytest.mark.parametrize("end", ["fails", "times out", "is cancelled"])
def test_lines_of_a_run_that_does_not_complete_arrive_too(dask_cluster: LocalCluster, tmp_path: Path, end: str) -> None:
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

    @flow(task_runner=DaskTaskRunner(cluster=dask_cluster))
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


TWO_FLOWS = """
    import logging, os, pathlib, subprocess, sys, time
    from core_engine import flow, get_run_logger, task
    from distributed import LocalCluster
    from runners.dask import DaskTaskRunner

    FOLDER = pathlib.Path({folder!r})

    @task
    def talks(mine, other):
        (FOLDER / mine).touch()
        while not (FOLDER / other).exists():
            time.sleep(0.01)
        for level in ("debug", "info", "error"):
            getattr(get_run_logger(), level)(f"{{mine}} {{level}} of its own")
            getattr(logging.getLogger("some.library"), level)(f"{{mine}} {{level}} of a library")

    @flow
    def outer(mine, other):
        talks.submit(mine, other).result()

    def start(address, mine, other, level):
        settings = {{"CORE_ENGINE_LOGGING_LEVEL": level, "CORE_ENGINE_LOGGING_EXTRA_LOGGERS": "some.library"}}
        command = [sys.executable, __file__, address, mine, other]
        return subprocess.Popen(command, env={{**os.environ, **settings}})

    if __name__ == "__main__" and sys.argv[1:]:
        address, mine, other = sys.argv[1:]
        outer.with_options(task_runner=DaskTaskRunner(address=address))(mine, other)
    elif __name__ == "__main__":
        with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=":0") as cluster:
            address = cluster.scheduler_address
            flows = [start(address, "first", "second", "DEBUG"), start(address, "second", "first", "ERROR")]
            sys.exit(sum(one.wait() for one in flows))
    """


@pytest.mark.behaviour("D28", "DASK-1")
def test_two_flows_on_one_worker_have_each_line_once_and_by_their_own_level(tmp_path: Path) -> None:
    (tmp_path / "met").mkdir()
    script = tmp_path / "two_flows.py"
    script.write_text(textwrap.dedent(TWO_FLOWS).format(folder=str(tmp_path / "met")))

    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=50)

    assert ended.returncode == 0, ended.stderr
    said = Counter(
        line.rpartition(" - ")[2]
        for line in (ended.stdout + ended.stderr).splitlines()
        if " of its own" in line or " of a library" in line
    )
    origins = ("of its own", "of a library")
    expected = [f"first {level} {origin}" for level in ("debug", "info", "error") for origin in origins]
    assert said == Counter([*expected, *(f"second error {origin}" for origin in origins)])
