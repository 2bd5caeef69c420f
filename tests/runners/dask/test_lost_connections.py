"""Connections that stand still or break, and schedulers that die: each run ends, and none is executed twice (D22)."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from core_engine import State, flow, get_client, get_run_logger, task
from core_engine.concurrency.waiting import step
from core_engine.tasks import MapOptions
from runners.dask import DaskTaskRunner
from tests.support.dask_processes import DaskProcesses, expect_clean, free_port, kill
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_for

pytestmark = pytest.mark.faults

CUT_SECONDS = 10.0


@pytest.fixture
def cluster(processes_folder: Path) -> Iterator[DaskProcesses]:
    """A scheduler of the test's own."""
    cluster = DaskProcesses(processes_folder)
    yield cluster
    cluster.close()


def port_of(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition("/")[2].partition(":")
    return host, int(port)


def start_workers(cluster: DaskProcesses, number: int) -> None:
    for _ in range(number):
        cluster.start_worker("--no-nanny")
    await_workers(cluster, number)


def await_workers(cluster: DaskProcesses, number: int) -> None:
    with Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(number)


def starts(path: Path) -> Counter[str]:
    return Counter(path.read_text().split()) if path.exists() else Counter()


def messages(state: State) -> list[str]:
    stored = step(get_client().read_logs(state.state_details.flow_run_id))
    return [one.entry.message for one in stored]


@task(map_options=MapOptions(batch_size=2))
def notes(path: Path, x: int, seconds: float) -> int:
    with path.open("a") as file:
        file.write(f"{x}\n")
    for line in range(5):
        get_run_logger().info("line %d of %d", line, x)
        time.sleep(seconds / 5)
    return x


def said(states: list[State]) -> Counter[str]:
    return Counter(line for line in messages(states[0]) if line.startswith("line "))


def expect_lines_once(states: list[State], path: Path) -> None:
    """Of a run that was executed once all lines are there, once; of others none more often than it was executed."""
    counts = said(states)
    for x, state in enumerate(states):
        of_run = [counts[f"line {line} of {x}"] for line in range(5)]
        assert max(of_run) <= starts(path)[str(x)]
        if state.is_completed() and starts(path)[str(x)] == 1:
            assert of_run == [1] * 5


def expect_all_once(states: list[State], path: Path) -> None:
    assert [state.result() for state in states] == list(range(len(states)))
    assert starts(path) == Counter({str(x): 1 for x in range(len(states))})
    assert said(states) == Counter(f"line {line} of {x}" for x in range(len(states)) for line in range(5))


@pytest.mark.behaviour("D22", "D23", "I2")
def test_a_worker_whose_connections_stand_still_goes_on_where_it_was(cluster: DaskProcesses, tmp_path: Path) -> None:
    path = tmp_path / "starts"
    port = free_port()
    to_scheduler, to_worker = TcpProxy(port_of(cluster.address)), TcpProxy(("127.0.0.1", port))
    try:
        cluster.start_worker("--no-nanny")
        cluster.start_worker(
            *("--no-nanny", "--listen-address", f"tcp://127.0.0.1:{port}", "--contact-address", to_worker.address),
            address=to_scheduler.address,
        )
        await_workers(cluster, 2)

        @flow(task_runner=DaskTaskRunner(address=cluster.address))
        def outer() -> list[Any]:
            futures = notes.map(path, range(60), 0.1)  # type: ignore[call-overload]
            wait_for(lambda: len(starts(path)) > 10)
            for proxy in (to_scheduler, to_worker):
                proxy.stop_forwarding()
            back = time.monotonic() + CUT_SECONDS
            ended_before = sum(future.state.is_final() for future in futures)
            # The other worker goes on meanwhile.
            wait_for(lambda: sum(future.state.is_final() for future in futures) > ended_before + 10)
            threading.Event().wait(back - time.monotonic())
            for proxy in (to_scheduler, to_worker):
                proxy.go_on()
            return futures

        states = outer(return_state=True).result(raise_on_failure=False)
    finally:
        to_scheduler.close()
        to_worker.close()
        for worker in cluster.workers:
            kill(worker)

    expect_all_once(states, path)
    workers = {step(get_client().read_task_run(state.state_details.task_run_id)).worker for state in states}
    assert len(workers) == 2


@pytest.mark.behaviour("D22", "D23")
def test_a_flow_whose_connection_to_the_scheduler_stands_still_goes_on(cluster: DaskProcesses, tmp_path: Path) -> None:
    path = tmp_path / "starts"
    start_workers(cluster, 2)
    proxy = TcpProxy(port_of(cluster.address))
    try:

        @flow(task_runner=DaskTaskRunner(address=proxy.address))
        def outer() -> list[Any]:
            futures = notes.map(path, range(40), 0.1)  # type: ignore[call-overload]
            wait_for(lambda: len(starts(path)) > 10)
            proxy.stop_forwarding()
            threading.Event().wait(CUT_SECONDS)
            proxy.go_on()
            return futures

        states = outer(return_state=True).result(raise_on_failure=False)
    finally:
        proxy.close()

    expect_all_once(states, path)


@pytest.mark.behaviour("D22", "D23", "I9")
@pytest.mark.parametrize("retries", [0, 1])
def test_a_flow_whose_connection_to_the_scheduler_breaks_connects_again(
    cluster: DaskProcesses, tmp_path: Path, retries: int
) -> None:
    path = tmp_path / "starts"
    start_workers(cluster, 2)
    proxy = TcpProxy(port_of(cluster.address))
    try:

        @flow(task_runner=DaskTaskRunner(address=proxy.address, worker_loss_retries=retries))
        def outer() -> list[Any]:
            futures = notes.map(path, range(40), 0.25)  # type: ignore[call-overload]
            wait_for(lambda: sum(future.state.is_final() for future in futures) > 10)
            proxy.break_off()
            return futures

        states = outer(return_state=True).result(raise_on_failure=False)
    finally:
        proxy.close()

    lost = [x for x, state in enumerate(states) if not state.is_completed()]
    counts = starts(path)
    # What ran when the connection broke has crashed, or was executed once more; nothing else was.
    assert len(lost) <= 2 * (1 - retries)
    assert all(states[x].is_crashed() for x in lost)
    assert all(f"The connection to the Dask scheduler at {proxy.address}" in (states[x].message or "") for x in lost)
    assert len(counts) == 40
    assert sum(counts.values()) <= 40 + 2 * retries
    expect_lines_once(states, path)
    with Client(cluster.address, set_as_default=False) as client:
        expect_clean(client)


@pytest.mark.behaviour("D22", "CRASH-1", "I2")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_the_scheduler_ends_every_run(cluster: DaskProcesses, tmp_path: Path, number: int) -> None:
    path = tmp_path / "starts"
    start_workers(cluster, 2)
    began = 0.0

    @flow(task_runner=DaskTaskRunner(address=cluster.address, client_kwargs={"timeout": 3}))
    def outer() -> list[Any]:
        nonlocal began
        futures = notes.map(path, range(40), 0.25)  # type: ignore[call-overload]
        wait_for(lambda: sum(future.state.is_final() for future in futures) > 10)
        os.kill(cluster.scheduler.pid, number)
        began = time.monotonic()
        return futures

    states = outer(return_state=True).result(raise_on_failure=False)

    ended = [state for state in states if state.is_completed()]
    lost = [state for state in states if not state.is_completed()]
    assert len(ended) > 10
    assert lost
    assert all(state.is_crashed() for state in lost)
    reasons = {state.message or "" for state in lost}
    # One that ends in order takes its workers along first.
    assert all("was lost" in reason for reason in reasons)
    assert any(f"The connection to the Dask scheduler at {cluster.address}" in reason for reason in reasons)
    assert max(starts(path).values()) == 1
    expect_lines_once(states, path)
    assert time.monotonic() - began < 30
