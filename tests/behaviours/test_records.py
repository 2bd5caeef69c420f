"""What is recorded of a run, and that a reader sees it: D3, D4, D5, D10 and the invariants behind them."""

import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core_engine import as_completed, flow, get_client, task
from core_engine.context import get_run_context
from core_engine.settings import get_current_settings
from core_engine.task_runners import BaseTaskRunner
from tests.behaviours.helpers import (
    PATIENCE,
    ask,
    flow_run_id,
    read_flow_run,
    read_states,
    read_task_runs,
    task_run_id,
    wait_until_set,
)


class CustomError(Exception):
    pass


@task
def give(x=1):
    return x


@task
def fail(x=1):
    raise CustomError("no")


@pytest.mark.behaviour("D4", "I1")
@pytest.mark.anyio
async def test_a_read_inside_the_flow_sees_what_the_flow_has_done(runner: BaseTaskRunner):
    @flow(task_runner=runner)
    async def parent():
        client, run_id = get_run_context().client, get_run_context().flow_run.id
        states = [give(return_state=True), *give.map(range(20), return_state=True)]
        runs = await client.read_task_runs(flow_run_id=run_id)
        own = await client.read_flow_run(run_id)
        return own.state_name, {run.id: run.state_name for run in runs}, [task_run_id(state) for state in states]

    own, stored, ids = await parent()

    assert own == "Running"
    assert stored == dict.fromkeys(ids, "Completed")


@pytest.mark.behaviour("D4")
@pytest.mark.anyio
async def test_a_client_of_ones_own_sees_what_the_flow_has_done():
    @flow
    async def parent():
        state = give(return_state=True)
        async with get_client() as client:
            return (await client.read_task_run(task_run_id(state))).state_name

    assert await parent() == "Completed"


@pytest.mark.behaviour("D5", "I2")
def test_every_change_of_state_is_an_event_that_names_the_one_before():
    @task(retries=1)
    def retried():
        raise CustomError("no")

    @flow
    def parent():
        give.map([1, 2])
        return retried(return_state=True)

    state = parent(return_state=True)
    run_id = flow_run_id(state)
    events = ask(lambda client: client.read_events(run_id))

    runs = {None: run_id} | {run.id: run.id for run in read_task_runs(run_id)}
    assert {event.task_run_id for event in events} == set(runs)
    for task_run, history_of in runs.items():
        own = [event for event in events if event.task_run_id == task_run]
        history = read_states(history_of)
        assert [event.to_name for event in own] == [one.name for one in history]
        assert [event.id for event in own] == [one.id for one in history]
        assert [event.follows for event in own] == [None, *[event.id for event in own[:-1]]]
        assert [event.from_type for event in own] == [None, *[event.to_type for event in own[:-1]]]


@pytest.mark.behaviour("D5")
def test_events_can_be_read_on_from_a_cursor():
    @flow
    def parent():
        give.map(range(5))

    run_id = flow_run_id(parent(return_state=True))
    events = ask(lambda client: client.read_events(run_id))
    rest = ask(lambda client: client.read_events(run_id, after=events[3].cursor))

    assert len(events) == 3 + 5 * 3
    assert [event.id for event in rest] == [event.id for event in events[4:]]


@pytest.mark.behaviour("D10", "FLOW-RET-3")
def test_the_states_of_a_large_map_are_the_data_of_a_flow_that_returns_nothing():
    @task
    def mostly(x):
        if x in (100, 400):
            raise CustomError(f"not {x}")
        return x

    @flow
    def parent():
        mostly.map(range(500))

    state = parent(return_state=True)
    data = state.result(raise_on_failure=False)

    assert state.is_failed()
    assert "2/500" in state.message
    assert len(data) == 500
    assert [i for i, one in enumerate(data) if one.is_failed()] == [100, 400]
    assert data[100].name == "Failed"
    with pytest.raises(CustomError, match="not 100"):
        state.result()


@pytest.mark.behaviour("ORCH-25", "ORCH-26")
def test_a_run_has_counts_and_times(runner: BaseTaskRunner):
    calls = []

    @task(retries=1)
    def retried():
        calls.append(1)
        if len(calls) == 1:
            raise CustomError("once more")
        return 1

    @flow(task_runner=runner)
    def parent():
        return retried.submit(return_state=True)

    state = parent(return_state=True)
    (task_run,) = read_task_runs(state)
    flow_run = read_flow_run(state)

    assert (task_run.run_count, flow_run.run_count) == (2, 1)
    for run, run_id in ((task_run, task_run.id), (flow_run, flow_run.id)):
        history = read_states(run_id)
        running = [one.timestamp for one in history if one.is_running()]
        assert run.start_time == running[0]
        assert run.end_time == history[-1].timestamp
        assert 0 <= run.total_run_time <= (run.end_time - run.start_time).total_seconds() + 0.01
        assert run.created <= run.start_time


SCRIPT_OF_A_KILLED_PROCESS = """
import os, signal
from core_engine import flow, task

def killed(run_id):
    print(run_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

def task_hook(task, task_run, state):
    killed(task_run.id)

def flow_hook(flow, flow_run, state):
    killed(flow_run.id)

@task
def give(x):
    return x

@task(on_completion=[task_hook])
def hooked():
    return 1

@flow(on_completion=[flow_hook])
def killed_in_its_hook():
    give(1)
    return 1

@flow
def killed_in_the_hook_of_a_task():
    hooked.submit().wait()

@flow
def killed_after_wait():
    killed(give.submit(1).wait().state_details.task_run_id)

@flow
def killed_after_a_plain_call():
    killed(give(1, return_state=True).state_details.task_run_id)

@flow
def quick():
    return give(1)
"""


@pytest.mark.behaviour("I1", "D3")
@pytest.mark.parametrize(
    "last_line",
    [
        "killed_after_wait()",
        "killed_after_a_plain_call()",
        "killed_in_the_hook_of_a_task()",
        "killed_in_its_hook()",
        "killed(quick(return_state=True).state_details.flow_run_id)",
    ],
)
def test_what_a_caller_or_a_hook_has_seen_outlasts_a_killed_process(tmp_path: Path, last_line: str):
    script = tmp_path / "killed.py"
    script.write_text(SCRIPT_OF_A_KILLED_PROCESS + "\n" + last_line + "\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=40, check=False)

    assert done.returncode == -9, done.stderr
    assert read_states(done.stdout.strip())[-1].name == "Completed"


@pytest.fixture
def lock() -> Iterator[sqlite3.Connection]:
    """A connection that can keep every other one from committing: with BEGIN IMMEDIATE, until its rollback."""
    ask(lambda client: client.read_flow_runs())
    connection = sqlite3.connect(get_current_settings().database_path, isolation_level=None, check_same_thread=False)
    yield connection
    connection.close()


@pytest.mark.behaviour("I1", "D3")
def test_nobody_sees_a_final_state_before_it_is_committed(lock: sqlite3.Connection):
    hooked = threading.Event()

    def hook(task, task_run, state):
        hooked.set()

    @task
    def plain():
        lock.execute("BEGIN IMMEDIATE")
        return 1

    @task(on_completion=[hook])
    def with_hook():
        lock.execute("BEGIN IMMEDIATE")
        return 1

    @flow
    def parent():
        future = plain.submit()
        seen_early = future.wait(0.3)
        lock.rollback()
        future.wait()
        other = with_hook.submit()
        hooked_early = hooked.wait(0.3)
        lock.rollback()
        other.wait()
        return seen_early, hooked_early, hooked.wait(PATIENCE)

    assert parent() == (None, False, True)


@pytest.mark.behaviour("I1", "D3")
def test_a_flow_does_not_return_before_its_final_state_is_committed(lock: sqlite3.Connection):
    hooked, returned = threading.Event(), threading.Event()

    def hook(flow, flow_run, state):
        hooked.set()

    @flow(on_completion=[hook])
    def parent():
        lock.execute("BEGIN IMMEDIATE")
        return 1

    def call() -> None:
        parent()
        returned.set()

    thread = threading.Thread(target=call)
    thread.start()
    early = hooked.wait(0.3), returned.is_set()
    lock.rollback()
    thread.join(PATIENCE)

    assert early == (False, False)
    assert hooked.is_set()
    assert returned.is_set()


@pytest.mark.behaviour("I9")
def test_what_happens_after_the_end_of_a_task_run_does_not_change_its_state():
    def hook(task, task_run, state):
        raise SystemExit

    @task(on_completion=[hook])
    def hooked():
        return 1

    @flow
    def parent():
        hooked.submit()
        return 1

    with contextlib.suppress(SystemExit):
        parent()

    (flow_run,) = ask(lambda client: client.read_flow_runs())
    (task_run,) = read_task_runs(flow_run.id)
    assert task_run.state_name == "Completed"
    assert [state.name for state in read_states(task_run.id)] == ["Pending", "Running", "Completed"]


@pytest.mark.behaviour("D3")
def test_downstream_work_may_start_before_its_upstream_is_committed(lock: sqlite3.Connection):
    started = threading.Event()

    @task
    def upstream():
        lock.execute("BEGIN IMMEDIATE")
        return 1

    @task
    def downstream(x):
        started.set()
        return x

    @flow
    def parent():
        future = downstream.submit(upstream.submit())
        wait_until_set(started)
        lock.rollback()
        return future.result()

    assert parent() == 1


def test_as_completed_yields_every_future_once(runner: BaseTaskRunner):
    @flow(task_runner=runner)
    def parent():
        futures = [give.submit(i) for i in range(10)]
        return sorted(future.result() for future in as_completed(futures))

    assert parent() == list(range(10))


def test_as_completed_yields_in_the_order_of_ending():
    release = threading.Event()

    @task
    def slow():
        wait_until_set(release)
        return "slow"

    @flow
    def parent():
        found = []
        for future in as_completed([slow.submit(), give.submit("quick")]):
            found.append(future.result())
            release.set()
        return found

    assert parent() == ["quick", "slow"]
