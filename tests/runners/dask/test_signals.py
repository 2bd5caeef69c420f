"""Signals to the process of a flow that uses Dask: runs are recorded, and the cluster is gone, or clean (D25)."""

import os
import signal
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import psutil
import pytest
from distributed import Client

from tests.behaviours.helpers import read_flow_runs, read_task_runs
from tests.faults.helpers import states_of
from tests.support.dask_processes import PATIENCE, DaskProcesses, expect_clean, leftovers
from tests.support.waiting import wait_for

pytestmark = pytest.mark.faults

# A main guard, since the workers of a LocalCluster import the script again.
SOURCE = """
    import pathlib, time
    from core_engine import flow, task
    from runners.dask import DaskTaskRunner

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

    @flow(task_runner=DaskTaskRunner({options}))
    def main_job():
        futures = mapped.map(range(20))
        for future in futures[:3]:
            future.result()
        for future in futures:
            future.result()

    if __name__ == "__main__":
        main_job()
    """
OWN = 'cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}'


@contextmanager
def typed(tmp_path: Path, options: str, interruptible: bool = True, **environment: str) -> Iterator[pexpect.spawn]:
    """Run the flow in a terminal until its tasks run; what is left of it at the end is killed."""
    folder = tmp_path / "started"
    folder.mkdir()
    path = tmp_path / "typed.py"
    path.write_text(textwrap.dedent(SOURCE).format(folder=str(folder), options=options, interruptible=interruptible))
    terminal = pexpect.spawn(
        sys.executable, [str(path)], timeout=PATIENCE, env={**os.environ, **environment}, encoding="utf-8"
    )
    below: list[psutil.Process] = []
    try:
        wait_for(lambda: len(list(folder.iterdir())) >= 2, "the start of the tasks")
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


@pytest.mark.behaviour("D25", "D20", "CRASH-2", "I8")
def test_ctrl_c_ends_the_flow_in_order_and_its_cluster_with_it(tmp_path: Path) -> None:
    with typed(tmp_path, OWN) as terminal:
        terminal.sendcontrol("c")
        terminal.expect(pexpect.EOF)
        # What runs is ended well within the grace time, at whose end the exception would be raised once more.
        assert terminal.before.count("KeyboardInterrupt") == 1
        # The workers have not seen it, or they would speak of it too.
        assert "distributed/" not in terminal.before.replace("distributed/worker_state_machine.py", "")
        assert "spawn_main" not in terminal.before

    assert terminal.signalstatus == signal.SIGINT
    expect_that_all_was_recorded("interrupt signal")


@pytest.mark.behaviour("D25", "I8")
def test_ctrl_c_typed_twice_waits_for_no_task(tmp_path: Path) -> None:
    with typed(tmp_path, OWN, interruptible=False, CORE_ENGINE_GRACE_SECONDS="60") as terminal:
        terminal.sendcontrol("c")
        with pytest.raises(pexpect.TIMEOUT):
            terminal.expect(pexpect.EOF, timeout=1)
        terminal.sendcontrol("c")

    expect_that_all_was_recorded("interrupt signal")


@pytest.mark.behaviour("D25", "CRASH-7", "I8")
def test_a_termination_signal_ends_the_flow_in_order_and_its_cluster_with_it(tmp_path: Path) -> None:
    with typed(tmp_path, OWN) as terminal:
        terminal.kill(signal.SIGTERM)

    assert terminal.signalstatus == signal.SIGTERM
    expect_that_all_was_recorded("termination signal")


@pytest.mark.behaviour("D25", "DASK-5", "DASK-12")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_cluster_of_others_goes_on_and_is_left_clean(processes_folder: Path, tmp_path: Path, number: int) -> None:
    cluster = DaskProcesses(processes_folder)
    try:
        for _ in range(2):
            cluster.start_worker("--no-nanny")
        with Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(2)
            before = client.scheduler_info()["workers"].keys()
            with typed(tmp_path, f"address={cluster.address!r}") as terminal:
                terminal.kill(number)

            # What ran is not only forgotten but ended.
            assert client.submit(sum, [1, 2], pure=False).result(timeout=PATIENCE) == 3
            if number == signal.SIGKILL:
                # Its reports are kept for a while: a flow that was only cut off would ask for them.
                wait_for(lambda: not client.run_on_scheduler(leftovers)["tasks"], "the end of the calls")
            else:
                expect_clean(client)
            assert client.scheduler_info()["workers"].keys() == before
    finally:
        cluster.close()

    assert terminal.signalstatus == number
