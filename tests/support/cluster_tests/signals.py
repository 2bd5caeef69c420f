"""Signals to the process of a flow that uses a cluster."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pexpect
import psutil
import pytest

from tests.behaviours.helpers import read_flow_runs, read_task_runs
from tests.faults.helpers import states_of
from tests.support.waiting import wait_for

# Starting a cluster takes seconds, more on a busy machine.
PATIENCE = 40.0

# A main guard, since the workers of Dask's LocalCluster import the script again.
SOURCE = """
    import pathlib, time
    from core_engine import flow, task
    from {module} import {runner}

    FOLDER = pathlib.Path({folder!r})

    @task
    def mapped(index):
        if index < 3:
            return index
        (FOLDER / str(index)).touch()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                time.sleep(0.01)
            except BaseException:
                if {interruptible}:
                    raise

    @flow(task_runner={runner}({options}))
    def main_job():
        futures = mapped.map(range(20))
        for future in futures[:3]:
            future.result()
        for future in futures:
            future.result()

    if __name__ == "__main__":
        main_job()
    """


@contextmanager
def typed(
    tmp_path: Path, runner: str, options: str, interruptible: bool = True, **environment: str
) -> Iterator[pexpect.spawn]:
    """Run the flow in a terminal until its tasks run; what is left of it at the end is killed.

    Parameters:
        tmp_path: The test's folder.
        runner: Module and name of the runner's class.
        options: The runner's arguments, as they stand in Python.
        interruptible: Whether the tasks end when they are interrupted.
        environment: Variables that the flow's process sees beside this one's.
    """
    folder = tmp_path / "started"
    folder.mkdir()
    path = tmp_path / "typed.py"
    module, _, name = runner.rpartition(".")
    path.write_text(
        textwrap.dedent(SOURCE).format(
            module=module, runner=name, options=options, folder=str(folder), interruptible=interruptible
        )
    )
    terminal = pexpect.spawn(
        sys.executable, [str(path)], timeout=PATIENCE, env={**os.environ, **environment}, encoding="utf-8"
    )
    below: list[psutil.Process] = []
    try:
        wait_for(lambda: len(list(folder.iterdir())) >= 2, "the start of the tasks", PATIENCE)
        below = psutil.Process(terminal.pid).children(recursive=True)
        yield terminal
        terminal.expect(pexpect.EOF)
        terminal.wait()
        wait_for(lambda: not any(is_alive(process) for process in below), "the end of the worker processes")
    finally:
        terminal.close(force=True)
        for process in below:
            if is_alive(process):
                process.kill()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def expect_that_all_was_recorded(reason: str) -> None:
    (run,) = read_flow_runs()
    assert run.state_type == "CRASHED"
    assert reason in run.state.message
    states = states_of(read_task_runs(run.id))
    assert len(states) == 20
    assert states[:3] == ["COMPLETED"] * 3
    assert set(states[3:]) <= {"CRASHED", "CANCELLED"}


class Others(Protocol):
    """A cluster of two workers that is not the flow's own."""

    runner: str
    options: str

    def expect_clean(self, killed: bool) -> None:
        """Wait until nothing of ours is there; `killed` says that the flow's process could say no farewell."""

    def expect_that_it_goes_on(self) -> None:
        """Wait until both workers, which are those that were there before, have executed something."""


class SignalsToAFlowOnAClusterOfOthers:
    """The flow ends, and the cluster goes on without it. The fixture `others` is theirs."""

    @pytest.mark.faults
    @pytest.mark.behaviour("D25", "CRASH-2", "CRASH-7")
    @pytest.mark.parametrize(
        ("number", "reason"), [(signal.SIGINT, "interrupt signal"), (signal.SIGTERM, "termination signal")]
    )
    def test_a_signal_ends_the_flow_in_order_and_leaves_the_cluster_clean(
        self, others: Others, tmp_path: Path, number: int, reason: str
    ) -> None:
        with typed(tmp_path, others.runner, others.options) as terminal:
            terminal.kill(number)

        # What ran is not only forgotten but ended.
        others.expect_that_it_goes_on()
        others.expect_clean(killed=False)
        assert terminal.signalstatus == number
        expect_that_all_was_recorded(reason)

    @pytest.mark.faults
    @pytest.mark.behaviour("D25")
    def test_ctrl_c_typed_twice_waits_for_no_task_and_leaves_the_cluster_clean(
        self, others: Others, tmp_path: Path
    ) -> None:
        grace = {"CORE_ENGINE_GRACE_SECONDS": "60"}
        with typed(tmp_path, others.runner, others.options, interruptible=False, **grace) as terminal:
            terminal.sendcontrol("c")
            with pytest.raises(pexpect.TIMEOUT):
                terminal.expect(pexpect.EOF, timeout=1)
            terminal.sendcontrol("c")

        others.expect_clean(killed=True)
        expect_that_all_was_recorded("interrupt signal")

    @pytest.mark.faults
    @pytest.mark.behaviour("D25")
    def test_a_flow_that_is_killed_leaves_nothing_running(self, others: Others, tmp_path: Path) -> None:
        with typed(tmp_path, others.runner, others.options) as terminal:
            terminal.kill(signal.SIGKILL)

        others.expect_that_it_goes_on()
        others.expect_clean(killed=True)
