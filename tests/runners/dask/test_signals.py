"""Signals to the process of a flow that uses Dask: runs are recorded, and the cluster is gone, or clean (D25)."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from distributed import Client

from tests.support.cluster_tests.signals import (
    PATIENCE,
    SignalsToAFlowOnAClusterOfOthers,
    expect_that_all_was_recorded,
    typed,
)
from tests.support.dask_processes import DaskProcesses, expect_clean, leftovers
from tests.support.waiting import wait_for

pytestmark = pytest.mark.faults

RUNNER = "runners.dask.DaskTaskRunner"
OWN = 'cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}'


@pytest.mark.behaviour("D25", "D20", "CRASH-2", "I8")
def test_ctrl_c_ends_the_flow_in_order_and_its_cluster_with_it(tmp_path: Path) -> None:
    with typed(tmp_path, RUNNER, OWN) as terminal:
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
    with typed(tmp_path, RUNNER, OWN, interruptible=False, CORE_ENGINE_GRACE_SECONDS="60") as terminal:
        terminal.sendcontrol("c")
        with pytest.raises(pexpect.TIMEOUT):
            terminal.expect(pexpect.EOF, timeout=1)
        terminal.sendcontrol("c")

    expect_that_all_was_recorded("interrupt signal")


@pytest.mark.behaviour("D25", "CRASH-7", "I8")
def test_a_termination_signal_ends_the_flow_in_order_and_its_cluster_with_it(tmp_path: Path) -> None:
    with typed(tmp_path, RUNNER, OWN) as terminal:
        terminal.kill(signal.SIGTERM)

    assert terminal.signalstatus == signal.SIGTERM
    expect_that_all_was_recorded("termination signal")


class OtherDask:
    """A scheduler and two workers in processes of their own."""

    runner = RUNNER

    def __init__(self, address: str, client: Client) -> None:
        self.options = f"address={address!r}"
        self._client = client
        self._workers = client.scheduler_info()["workers"].keys()

    def expect_clean(self, killed: bool) -> None:
        if killed:
            # Its reports are kept for a while: a flow that was only cut off would ask for them.
            wait_for(lambda: not self._client.run_on_scheduler(leftovers)["tasks"], "the end of the calls")
        else:
            expect_clean(self._client)

    def expect_that_it_goes_on(self) -> None:
        sums = [self._client.submit(sum, [1, 2], workers=[one], pure=False) for one in self._workers]
        assert [one.result(timeout=PATIENCE) for one in sums] == [3, 3]
        assert self._client.scheduler_info()["workers"].keys() == self._workers
        for one in sums:
            one.release()


@pytest.mark.behaviour("DASK-5", "DASK-12")
class TestClusterOfOthers(SignalsToAFlowOnAClusterOfOthers):
    @pytest.fixture
    def others(self, processes_folder: Path) -> Iterator[OtherDask]:
        cluster = DaskProcesses(processes_folder)
        try:
            for _ in range(2):
                cluster.start_worker("--no-nanny")
            with Client(cluster.address, set_as_default=False) as client:
                client.wait_for_workers(2)
                yield OtherDask(cluster.address, client)
        finally:
            cluster.close()
