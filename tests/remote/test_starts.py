"""Clusters that start a call again by themselves: no user code runs in a start that was not granted (D22)."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import core_engine.remote.asking
from core_engine import State, flow, task
from core_engine.tasks import MapOptions
from tests.support.loopback import LoopbackCluster, LoopbackRunner


def be_impatient() -> None:
    core_engine.remote.asking.GIVE_UP_SECONDS = 0.2


@pytest.fixture
def restarting_cluster(request: pytest.FixtureRequest) -> Iterator[LoopbackCluster]:
    """A cluster that starts the calls of a dead worker elsewhere, as Dask does by default."""
    cluster = LoopbackCluster(may_start_again=True, prepare=getattr(request, "param", None))
    yield cluster
    cluster.close()


def note(path: Path, line: object) -> None:
    with path.open("a") as notes:
        notes.write(f"{line}\n")


def starts(path: Path) -> Counter[str]:
    return Counter(path.read_text().split()) if path.exists() else Counter()


def run_states(runner: LoopbackRunner, make: Any) -> list[State]:
    @flow(task_runner=runner)
    def outer() -> Any:
        return make()

    return outer(return_state=True).result(raise_on_failure=False)


@pytest.mark.behaviour("D22", "I9")
@pytest.mark.parametrize("retries", [0, 1])
def test_a_call_that_the_cluster_starts_again_is_executed_as_often_as_the_runner_allows(
    restarting_cluster: LoopbackCluster, tmp_path: Path, retries: int
) -> None:
    path = tmp_path / "starts"

    @task(map_options=MapOptions(batch_size=1))
    def fragile(x: int) -> int:
        note(path, x)
        if x == 5 and starts(path)["5"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    states = run_states(LoopbackRunner.of(restarting_cluster, retries), lambda: fragile.map(range(12)))

    assert starts(path)["5"] == 1 + retries
    assert all(state.is_completed() for x, state in enumerate(states) if x != 5)
    assert states[5].is_completed() == bool(retries)
    if not retries:
        assert states[5].is_crashed()
        assert "loopback-" in (states[5].message or "")


@pytest.mark.behaviour("D22", "I9")
def test_a_finished_call_that_the_cluster_starts_again_executes_nothing(
    restarting_cluster: LoopbackCluster, tmp_path: Path
) -> None:
    path = tmp_path / "starts"
    over = threading.Event()

    @task
    def counted() -> int:
        note(path, "x")
        return 1

    @flow(task_runner=LoopbackRunner.of(restarting_cluster))
    def outer() -> int:
        value = counted.submit().result()
        (message,) = [sent for kind, sent in restarting_cluster.sent if kind == "block"]
        restarting_cluster.put(message, lambda content, error: over.set())
        assert over.wait(20)
        return value

    assert outer() == 1
    assert starts(path)["x"] == 1


@pytest.mark.behaviour("D22", "I7")
@pytest.mark.parametrize("restarting_cluster", [be_impatient], indirect=True)
def test_a_start_that_nobody_answers_executes_nothing_and_says_so(
    restarting_cluster: LoopbackCluster, tmp_path: Path
) -> None:
    path = tmp_path / "starts"

    @task
    def counted() -> int:
        note(path, "x")
        return 1

    restarting_cluster.loses_commands = True
    (state,) = run_states(LoopbackRunner.of(restarting_cluster), lambda: [counted.submit()])

    assert state.is_crashed()
    assert "got no answer within" in (state.message or "")
    assert starts(path)["x"] == 0


@pytest.mark.behaviour("D22")
def test_a_run_that_kills_its_worker_before_it_can_report_is_not_executed_for_ever(tmp_path: Path) -> None:
    """The cluster starts nothing again, but who dies at once tells nobody that it began: it may go once more."""
    path = tmp_path / "starts"
    cluster = LoopbackCluster()
    try:

        @task
        def dies() -> None:
            note(path, "x")
            os.kill(os.getpid(), signal.SIGKILL)

        (state,) = run_states(LoopbackRunner.of(cluster), lambda: [dies.submit()])
    finally:
        cluster.close()

    assert state.is_crashed()
    assert starts(path)["x"] <= 2


@pytest.mark.behaviour("D22")
def test_a_cluster_that_starts_each_call_once_is_asked_nothing(tmp_path: Path) -> None:
    cluster = LoopbackCluster(workers=1)
    cluster.loses_commands = True
    try:

        @task
        def tiny(x: int) -> int:
            return x

        started = time.monotonic()
        states = run_states(LoopbackRunner.of(cluster), lambda: tiny.map(range(10)))
    finally:
        cluster.close()

    assert [state.result() for state in states] == list(range(10))
    assert time.monotonic() - started < core_engine.remote.asking.GIVE_UP_SECONDS
