"""What workers report before there is a mailbox: it goes by Ray's head, and tiny tasks need no mailbox at all."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from core_engine import State, flow, get_run_logger, task
from core_engine.remote import current_road
from core_engine.tasks import MapOptions
from core_engine.threads import in_context
from runners.ray import RayTaskRunner, head
from runners.ray.mail import Mail
from tests.runners.ray.support import expect_clean, keys_at, messages
from tests.support.cluster_tests.losses import REPORTED_SECONDS
from tests.support.promptness import soon
from tests.support.starts import lines, note, starts
from tests.support.waiting import wait_for


@pytest.fixture
def no_mailbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that goes to and from workers goes by the head."""
    monkeypatch.setattr(Mail, "_open", lambda mail: None)

    def receive_from_the_head(mail: Mail) -> None:
        while not mail._is_over.wait(0.1):
            mail.take_left()

    monkeypatch.setattr(Mail, "_wait_for_a_long_call", receive_from_the_head)


def left_here() -> list[bytes]:
    """Return what lies with the head of the flow whose task asks."""
    road: Any = current_road()
    return keys_at(head.up(road._mailbox[0]))


@task(map_options=MapOptions(batch_size=1))
def double(x: int) -> int:
    return 2 * x


@pytest.mark.behaviour("D23")
def test_a_flow_of_tiny_tasks_starts_no_mailbox(ray_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Mail] = []

    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> int:
        return sum(future.result() for future in double.map(range(50)))

    outer()  # its workers load what they need
    monkeypatch.setattr(Mail, "_open", opened.append)

    assert outer() == 2450
    assert opened == []


@pytest.mark.behaviour("D22", "D23")
def test_a_worker_killed_before_there_is_a_mailbox_has_told_what_it_began(
    ray_address: str, tmp_path: Path, no_mailbox: None
) -> None:
    path = tmp_path / "starts"

    @task(map_options=MapOptions(batch_size=2))
    def fragile(x: int) -> int:
        note(path, x)
        if x == 1:
            # Here is what this worker leaves, until the flow's process has taken it.
            wait_for(lambda: bool(left_here()))
            wait_for(lambda: not left_here())
            time.sleep(REPORTED_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> list[State]:
        return [future.wait() for future in fragile.map(range(4))]

    states = outer(return_state=True).result(raise_on_failure=False)

    assert [state.is_completed() for state in states] == [True, False, True, True]
    assert states[1].is_crashed()
    assert "Worker ray-" in (states[1].message or "")
    assert lines() == starts(path) == {str(x): 1 for x in range(4)}
    expect_clean()


@pytest.mark.behaviour("D22", "D23")
def test_what_the_head_has_counts_when_the_worker_that_left_it_is_lost(
    ray_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "starts"
    # Nothing is looked for before the worker is gone.
    monkeypatch.setattr(Mail, "_wait_for_a_long_call", lambda mail: mail._is_over.wait())

    @task
    def fragile() -> None:
        note(path, "x")
        wait_for(lambda: bool(left_here()))
        os.kill(os.getpid(), signal.SIGKILL)

    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> State:
        return fragile.submit().wait()

    state = outer(return_state=True).result(raise_on_failure=False)

    assert state.is_crashed()
    assert "Worker ray-" in (state.message or "")
    assert starts(path) == {"x": 1}


@pytest.mark.behaviour("D20", "D23", "LOG-API-11")
def test_states_lines_and_commands_go_by_the_head_until_there_is_a_mailbox(
    ray_address: str, tmp_path: Path, no_mailbox: None
) -> None:
    @task
    def long() -> None:
        get_run_logger().info("it is %f", time.time())
        while True:
            time.sleep(0.01)

    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> tuple[float, float, State]:
        double.submit(1).result()
        future = long.submit()
        wait_for(lambda: any(line.startswith("it is") for line in messages(future.task_run.flow_run_id)))
        (line,) = [line for line in messages(future.task_run.flow_run_id) if line.startswith("it is")]
        delay = time.time() - float(line.split()[-1])
        assert future.get_state().is_running()
        started = time.monotonic()
        future.cancel()
        future.wait()
        return delay, time.monotonic() - started, future.get_state()

    delay, taken, state = outer(return_state=True).result(raise_on_failure=False)

    assert state.is_cancelled()
    assert delay < soon()
    assert taken < soon()
    expect_clean()


@pytest.mark.behaviour("LOG-API-11", "D23")
def test_a_thread_that_logs_when_its_task_is_over_is_heard(ray_address: str, tmp_path: Path) -> None:
    @task
    def leaves_a_thread() -> None:
        def say() -> None:
            wait_for((tmp_path / "over").exists)
            get_run_logger().info("said late")

        threading.Thread(target=in_context(say)).start()

    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> list[str]:
        future = leaves_a_thread.submit()
        future.wait()
        (tmp_path / "over").touch()
        wait_for(lambda: "said late" in messages(future.task_run.flow_run_id))
        return messages(future.task_run.flow_run_id)

    assert outer().count("said late") == 1


@pytest.mark.behaviour("D31")
def test_a_flow_takes_away_what_one_that_was_killed_long_ago_left_with_the_head(
    task_runner: RayTaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    @flow(task_runner=task_runner)
    def outer() -> int:
        return double.submit(1).result()

    outer()
    now = time.time()
    for place, age in (
        (head.up("killed long ago"), 4_000),
        (head.down("killed long ago"), 4_000),
        (head.up("runs"), 9),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(time, "time", lambda age=age: now - age)
            head.leave(f"{place}/call", 1, "message")
    outer()

    assert ray.is_initialized()
    assert keys_at(head.up("killed")) == keys_at(head.down("killed")) == []
    assert len(keys_at(head.up("runs"))) == 1
    assert head.take(head.up("runs")) == ["message"]


def test_a_mailbox_that_cannot_be_started_is_told_of_and_reports_come_with_the_calls(
    ray_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(mail: Mail) -> None:
        raise ValueError("no room")

    monkeypatch.setattr(Mail, "_open", fails)

    @task
    def takes_a_while() -> str:
        time.sleep(1)
        return "done"

    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> str:
        return takes_a_while.submit().result()

    assert outer() == "done"
    assert "No mailbox could be started on Ray" in caplog.text
