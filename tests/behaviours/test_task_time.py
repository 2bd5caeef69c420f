"""TASK-TIME: time limits of tasks."""

import logging
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from core_engine import State, flow, task
from core_engine.task_runners import BaseTaskRunner
from tests.behaviours.conftest import LogRecords
from tests.behaviours.helpers import (
    block,
    read_states,
    stored_task_state,
    takes_less_than,
    task_run_id,
    wait_until_set,
)
from tests.support.promptness import soon

LIMIT = 0.1
PROMPT = 5.0
# How late a state may come after its deadline.
LATE_SECONDS = 0.1


def seconds_run(state: State) -> float:
    _, running, ended = read_states(task_run_id(state))
    return (ended.timestamp - running.timestamp).total_seconds()


@task(timeout_seconds=LIMIT)
def slow() -> None:
    block()


@task(timeout_seconds=LIMIT)
async def async_slow() -> None:
    await anyio.sleep(10)


@task
def give(x: Any = 1) -> Any:
    return x


@pytest.mark.behaviour("TASK-TIME-1", "RUN-10")
@pytest.mark.parametrize("one", [slow, async_slow], ids=["sync", "async"])
@pytest.mark.parametrize("way", ["call", "submit"])
def test_a_task_over_its_limit_is_timed_out(runner: BaseTaskRunner, one: Any, way: str):
    @flow(task_runner=runner)
    def parent():
        return (one if way == "call" else one.submit)(return_state=True)

    with takes_less_than(PROMPT):
        outcome = parent(return_state=True)
    state = outcome.result(raise_on_failure=False)

    assert outcome.is_failed()
    assert state.is_failed()
    assert not state.is_crashed()
    assert state.name == "TimedOut"
    assert "0.1" in state.message
    assert stored_task_state(state).name == "TimedOut"
    assert LIMIT <= seconds_run(state) < LIMIT + soon(LATE_SECONDS)
    with pytest.raises(TimeoutError):
        state.result()


@pytest.mark.behaviour("TASK-TIME-2")
def test_dependants_are_not_ready_and_independent_tasks_complete():
    @flow
    def parent():
        late = slow.submit()
        return [late, give.submit(late), give.submit(5)]

    with takes_less_than(PROMPT):
        outcome = parent(return_state=True)

    assert outcome.is_failed()
    assert [state.name for state in outcome.result(raise_on_failure=False)] == ["TimedOut", "NotReady", "Completed"]


@pytest.mark.behaviour("TASK-TIME-3")
@pytest.mark.anyio
async def test_a_task_within_its_limit_is_untouched():
    @task(timeout_seconds=30)
    def quick(x):
        return x

    @task(timeout_seconds=30)
    async def async_quick(x):
        await anyio.lowlevel.checkpoint()
        return x

    @flow
    async def parent():
        return quick(1), await async_quick(2), quick.submit(3).result()

    assert await parent() == (1, 2, 3)


@pytest.mark.behaviour("TASK-TIME-3")
def test_a_timeout_error_of_the_users_code_is_an_ordinary_failure():
    @task(timeout_seconds=30)
    def raises():
        raise TimeoutError("mine")

    @flow
    def parent():
        state = raises(return_state=True)
        return state.name, state.message

    name, message = parent()

    assert name == "Failed"
    assert "30" not in message


@pytest.mark.behaviour("TASK-TIME-4")
def test_code_that_cannot_be_interrupted_is_timed_out_at_its_deadline_and_its_value_dropped(log: LogRecords):
    release = threading.Event()

    @task(timeout_seconds=LIMIT)
    def stuck():
        release.wait(10)
        return "too late"

    @flow
    def parent():
        state = stuck.submit(return_state=True)
        release.set()
        return state

    with takes_less_than(PROMPT):
        state = parent(return_state=True).result(raise_on_failure=False)

    assert state.name == "TimedOut"
    assert stored_task_state(state).name == "TimedOut"
    assert seconds_run(state) < LIMIT + soon(LATE_SECONDS)
    assert len([line for line in log.messages(logging.WARNING) if "it is left behind" in line]) == 1
    with pytest.raises(TimeoutError):
        state.result()


@pytest.mark.behaviour("TASK-TIME-4")
def test_a_sync_function_is_interrupted_at_its_deadline():
    interrupted = threading.Event()

    @task(timeout_seconds=LIMIT)
    def endless():
        try:
            block()
        except BaseException:
            interrupted.set()
            raise

    @flow
    def parent():
        state = endless.submit(return_state=True)
        wait_until_set(interrupted)
        return state.name, "went on"

    with takes_less_than(PROMPT):
        assert parent() == ("TimedOut", "went on")


@pytest.mark.behaviour("TASK-TIME-5")
def test_the_limit_is_stored_as_a_float_and_zero_means_none():
    made = task(timeout_seconds=2)(lambda: 1)

    assert made.timeout_seconds == 2.0
    assert isinstance(made.timeout_seconds, float)
    assert task(timeout_seconds=0)(lambda: 1).timeout_seconds is None
    assert task(timeout_seconds=None)(lambda: 1).timeout_seconds is None


@pytest.mark.behaviour("TASK-TIME-1", "TASK-TIME-4")
def test_code_that_cannot_be_interrupted_is_told_of_and_the_process_can_still_exit(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import time
            from core_engine import flow, task

            @task(timeout_seconds=0.2)
            def stuck():
                time.sleep(60)

            @flow
            def outer():
                return stuck.submit(return_state=True).name

            print(outer())
            """
        )
    )
    started = time.monotonic()

    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=50)

    assert time.monotonic() - started < 20
    assert done.returncode == 0, done.stderr
    assert done.stdout == "TimedOut\n"
    assert (
        "Task run exceeded its timeout of 0.2 seconds. Its code did not end with it; it is left behind" in done.stderr
    )
    assert "its value will be dropped" in done.stderr
