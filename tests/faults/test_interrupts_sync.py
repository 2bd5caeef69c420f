"""Ctrl-C and SIGTERM while a sync flow runs in the main thread (D25)."""

import hashlib
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from core_engine import flow, pause_flow_run, task
from core_engine.backend import open_backend
from core_engine.exceptions import TerminationSignal
from core_engine.task_runners import BaseTaskRunner
from tests.behaviours.helpers import block, read_flow_runs, read_task_runs, setting, takes_less_than
from tests.faults.helpers import PATIENCE, Moment, sends, spin, states_of

INTERRUPTED = "Execution was aborted by an interrupt signal."


def hash_for_long() -> None:
    """A C call that lets other threads run, and no signal handler."""
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000)


@task
def waits(moment: Moment) -> None:
    moment.come()
    block()


def in_result(moment: Moment) -> None:
    waits.submit(moment).result()


def in_call(moment: Moment) -> None:
    waits(moment)


def in_sleep(moment: Moment) -> None:
    moment.come()
    time.sleep(PATIENCE)


def in_loop(moment: Moment) -> None:
    moment.come()
    spin()


def in_c(moment: Moment) -> None:
    moment.come()
    hash_for_long()
    time.sleep(PATIENCE)


def at_the_end(moment: Moment) -> None:
    waits.submit(moment)


def in_as_completed(moment: Moment) -> None:
    from core_engine import as_completed

    for future in as_completed([waits.submit(moment)]):
        future.result()


def in_pause(moment: Moment) -> None:
    moment.come()
    pause_flow_run(timeout=PATIENCE)


def in_stream(moment: Moment) -> None:
    def items() -> Iterator[Moment]:
        moment.come()
        spin()
        yield moment

    for future in waits.stream(items()):
        future.result()


WAYS = [in_pause, in_stream, in_result, in_call, in_sleep, in_loop, in_c, at_the_end, in_as_completed]


@pytest.mark.behaviour("D25", "CRASH-2", "CRASH-4", "CRASH-5", "D36", "I8")
@pytest.mark.parametrize("way", WAYS)
def test_an_interrupt_ends_a_sync_flow_wherever_it_is(runner: BaseTaskRunner, way: Callable[[Moment], None]):
    moment, hooks = Moment(), []

    @flow(task_runner=runner, on_crashed=[lambda flow, flow_run, state: hooks.append(state.name)])
    def interrupted() -> None:
        way(moment)

    with takes_less_than(PATIENCE / 2), sends(signal.SIGINT, moment), pytest.raises(KeyboardInterrupt):
        interrupted()

    (run,) = read_flow_runs()
    assert run.state_type == "CRASHED"
    assert run.state.message == INTERRUPTED
    assert [(one.state_type, one.state.message) for one in read_task_runs(run.id)] in (
        [],
        [("CRASHED", INTERRUPTED)],
    )
    assert hooks == ["Crashed"]


@pytest.mark.behaviour("D25", "CRASH-7", "CRASH-4")
@pytest.mark.parametrize("way", WAYS)
def test_a_termination_signal_ends_a_sync_flow_wherever_it_is(runner: BaseTaskRunner, way: Callable[[Moment], None]):
    moment, received = Moment(), []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))

    @flow(task_runner=runner)
    def terminated() -> None:
        way(moment)

    try:
        with takes_less_than(PATIENCE / 2), sends(signal.SIGTERM, moment), pytest.raises(TerminationSignal):
            terminated()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    (run,) = read_flow_runs()
    assert run.state_type == "CRASHED"
    assert "termination signal" in run.state.message
    assert received == [signal.SIGTERM]


@pytest.mark.behaviour("D25")
def test_an_interrupt_ends_every_run_of_a_map(runner: BaseTaskRunner):
    moment = Moment()

    @task
    def mapped(index: int) -> int:
        if index == 3:
            moment.come()
            block()
        return index

    @flow(task_runner=runner)
    def interrupted() -> list[int]:
        return [future.result() for future in mapped.map(range(200))]

    with takes_less_than(PATIENCE / 2), sends(signal.SIGINT, moment), pytest.raises(KeyboardInterrupt):
        interrupted()

    (run,) = read_flow_runs()
    states = states_of(read_task_runs(run.id))
    assert len(states) == 200
    assert states[3] == "CRASHED"
    assert set(states) == {"COMPLETED", "CRASHED"}


@pytest.mark.behaviour("D25")
def test_running_task_code_is_interrupted_and_may_clean_up():
    moment, cleaned = Moment(), []

    @task
    def cleans() -> None:
        try:
            moment.come()
            spin()
        finally:
            cleaned.append(True)

    @flow
    def interrupted() -> None:
        cleans.submit().result()

    with takes_less_than(PATIENCE / 2), sends(signal.SIGINT, moment), pytest.raises(KeyboardInterrupt):
        interrupted()

    assert cleaned == [True]
    (run,) = read_flow_runs()
    assert states_of(read_task_runs(run.id)) == ["CRASHED"]


@pytest.mark.behaviour("D25", "I1")
def test_an_interrupt_comes_through_while_another_program_holds_the_database(runner: BaseTaskRunner):
    moment = Moment()

    @task
    def quick() -> int:
        return 1

    @flow(task_runner=runner)
    def interrupted() -> None:
        future = quick.submit()
        other.execute("BEGIN IMMEDIATE")
        moment.come()
        while True:
            quick.submit()
            future.wait()
            quick.submit().result()

    with closing(sqlite3.connect(open_backend().store.path, isolation_level=None)) as other:
        with setting(GRACE_SECONDS=0.3), takes_less_than(PATIENCE / 2), sends(signal.SIGINT, moment):
            with pytest.raises(KeyboardInterrupt):
                interrupted()
        other.execute("ROLLBACK")

    (run,) = read_flow_runs()
    assert run.state_type == "CRASHED"
    assert set(states_of(read_task_runs(run.id))) <= {"COMPLETED", "CRASHED", "PENDING"}
