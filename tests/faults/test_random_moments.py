"""Signals at any moment: whatever the engine is doing, the runs are recorded, and the process can go on."""

import asyncio
import gc
import os
import random
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest

from core_engine import flow, get_run_logger, task
from core_engine.backend import open_backend
from core_engine.exceptions import TerminationSignal
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner
from tests.behaviours.helpers import read_flow_runs, read_task_runs, setting

ITEMS = 60


# Python itself drops an exception that comes while it calls back a weak reference, and says so.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Busy(Exception):
    pass


@task
def adds(a: int, b: int = 1) -> int:
    get_run_logger().info("adding")
    if a == 7:
        raise Busy("seven")
    return a + b


@task
async def adds_async(a: int) -> int:
    await asyncio.sleep(0)
    return a + 1


@flow
def child(n: int) -> int:
    return sum(future.result() for future in adds.map([1] * n))


@flow
async def async_child(n: int) -> int:
    futures = await adds_async.map(range(n))
    return sum([await future.result() for future in futures])


def works() -> int:
    """What a flow may do, in a fraction of a second: every kind of call, failures too."""
    total = sum(future.result(raise_on_failure=False) for future in adds.map([10] * ITEMS))
    total += adds(1) + adds.submit(2).result() + child(5) + async_child(5)
    adds.submit(7).wait()
    return total + sum(future.result() for future in adds_async.map(range(10)))


async def works_async() -> int:
    total = sum(future.result() for future in adds.map([10] * ITEMS))
    total += await async_child(5) + child(5) + adds(1)
    return total + sum(await asyncio.gather(async_child(3), async_child(4)))


def expect_consistent(run_id: UUID) -> None:
    """Every run of the flow run is final or never began, and its history leads there."""
    for one in read_task_runs(run_id):
        assert one.state.is_final() or one.state.is_pending(), one.state
    states = open_backend().store.read_states(run_id)
    assert [state.name for state in states][:1] == ["Pending"]
    assert states[-1].is_final()
    assert not any(state.is_final() for state in states[:-1])


def sender_of(seconds: float, number: int) -> threading.Thread:
    def send() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), number)

    return threading.Thread(target=send, daemon=True, name="test-sender")


def runner_of(round: int) -> Any:
    return SequentialTaskRunner() if round % 2 else ConcurrentTaskRunner()


def one_round(round: int, moment: float, number: int, asynchronous: bool) -> bool:
    """Run the flow and send it a signal; return whether it was hit."""
    hooks: list[str] = []

    def note(flow: Any, flow_run: Any, state: Any) -> None:
        hooks.append(state.name)

    options: Any = {"name": f"job {round}", "task_runner": runner_of(round), "on_crashed": [note]}
    sync_job, async_job = flow(**options)(works), flow(**options)(works_async)
    is_hit, sender, ended = False, sender_of(moment, number), threading.Event()
    try:
        sender.start()
        try:
            asyncio.run(async_job(return_state=True)) if asynchronous else sync_job(return_state=True)
        finally:
            sender.join()
            ended.wait(0.001)
    except (KeyboardInterrupt, TerminationSignal, Terminated):
        is_hit = True
    runs = read_flow_runs(flow_name=options["name"])
    for run in runs:
        expect_consistent(run.id)
        assert hooks == ["Crashed"] * (run.state_type == "CRASHED")
        assert is_hit or run.state_type != "CRASHED"
    assert runs or is_hit
    return is_hit


class Terminated(BaseException):
    """What this program makes of SIGTERM."""


def terminate(number: int, frame: Any) -> None:
    raise Terminated


@contextmanager
def careless_loops() -> Iterator[None]:
    """Forgive ``asyncio.run`` the loops that it leaves open when it is interrupted itself, before or after the flow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()


def rounds(count: int, asynchronous: bool, seed: int) -> None:
    chance = random.Random(seed)
    with setting(LOGGING_LEVEL="CRITICAL"), careless_loops():
        job = flow(name="job")(works)
        before = job(return_state=True)
        started = time.monotonic()
        job(return_state=True)
        duration = time.monotonic() - started
        signal.signal(signal.SIGTERM, terminate)
        try:
            hits = [
                one_round(
                    round,
                    chance.uniform(0, 1.2 * duration),
                    signal.SIGTERM if chance.random() < 0.3 else signal.SIGINT,
                    asynchronous,
                )
                for round in range(count)
            ]
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert any(hits)
        # The process works as before.
        after = job(return_state=True)
        assert (after.type, after.message) == (before.type, before.message)
        assert open_backend().journal.failure is None


@pytest.mark.behaviour("D25", "I2")
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_signal_at_any_moment_leaves_consistent_runs(asynchronous: bool):
    rounds(12, asynchronous, seed=1)


@pytest.mark.faults
@pytest.mark.behaviour("D25", "I2")
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_hundreds_of_signals_at_any_moment_leave_consistent_runs(asynchronous: bool):
    rounds(250, asynchronous, seed=2)
