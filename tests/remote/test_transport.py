"""The road in both directions: reports come while tasks run, in small messages, and what is lost is told of (D23)."""

import contextlib
import contextvars
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from core_engine import flow, get_client, get_run_logger, task
from core_engine.concurrency.waiting import step
from core_engine.remote import Block, WorkerLost, reports
from core_engine.remote.reporting import Beating, pulse
from core_engine.remote.reports import Message, Transition
from core_engine.runtime import flow_run
from core_engine.tasks import MapOptions
from tests.support.loopback import LARGEST_MESSAGE, LoopbackCluster, LoopbackRunner
from tests.support.waiting import wait_for

PATIENCE = 20.0


@contextmanager
def messages(cluster: LoopbackCluster, is_lost: Callable[[Message], bool] = lambda m: False) -> Iterator[list[bytes]]:
    """Gives what workers send meanwhile; what `is_lost` never arrives."""
    seen: list[bytes] = []
    listen = cluster.listen

    def listen_between(receive: Callable[[bytes], None]) -> None:
        def between(content: bytes) -> None:
            seen.append(content)
            if not is_lost(Message.decode(content)):
                receive(content)

        listen(between)

    cluster.listen = listen_between  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        cluster.listen = listen  # type: ignore[method-assign]


def lines(flow_run_id: Any = None) -> list[str]:
    return [stored.entry.message for stored in step(get_client().read_logs(flow_run_id or UUID(flow_run.id)))]


@pytest.mark.behaviour("D23", "LOG-1")
def test_what_a_task_logs_arrives_while_it_runs(cluster: LoopbackCluster, tmp_path: Path) -> None:
    @task
    def waits() -> str:
        get_run_logger().info("halfway")
        wait_for((tmp_path / "go").exists)
        return "done"

    @flow(task_runner=LoopbackRunner.of(cluster))
    def outer() -> str:
        future = waits.submit()
        wait_for(lambda: "halfway" in lines())
        assert future.get_state().is_running()
        (tmp_path / "go").touch()
        return future.result()

    assert outer() == "done"


@pytest.mark.behaviour("D23")
def test_messages_are_small_however_much_is_said(cluster: LoopbackCluster, tmp_path: Path) -> None:
    @task
    def talks(x: int) -> None:
        for line in range(200):
            get_run_logger().info("%d-%d-%s", x, line, "x" * 500)
        # A call that is over soon says all at its end.
        wait_for((tmp_path / "go").exists)

    @flow(task_runner=LoopbackRunner.of(cluster))
    def outer() -> list[str]:
        talking = talks.map(range(4))
        wait_for(lambda: len(seen) > 1)
        (tmp_path / "go").touch()
        for future in talking:
            future.wait()
        return [line.rpartition("-")[0] for line in lines() if line.endswith("xxx")]

    with messages(cluster) as seen:
        said = outer()

    assert max(map(len, seen)) <= LARGEST_MESSAGE
    for x in range(4):
        assert [line for line in said if line.startswith(f"{x}-")] == [f"{x}-{line}" for line in range(200)]


@pytest.mark.behaviour("D23", "D12", "D20")
def test_nothing_waits_behind_what_is_too_large_for_a_message(cluster: LoopbackCluster, tmp_path: Path) -> None:
    @task(map_options=MapOptions(batch_size=3))
    def talks(x: int) -> int:
        get_run_logger().info("%d-%s", x, "x" * 500_000 if x == 0 else "small")
        if x == 1:
            # Until what was said before has arrived, in the same block: so this run is known to run, too.
            wait_for((tmp_path / "go").exists)
        return x

    @flow(task_runner=LoopbackRunner.of(cluster))
    def outer() -> Any:
        futures = talks.map(range(3))
        assert futures[0].result() == 0
        wait_for(lambda: futures[1].get_state().is_running())
        wait_for(lambda: "1-small" in lines())
        (tmp_path / "go").touch()
        return futures

    with messages(cluster) as seen:
        states = outer(return_state=True).result()

    said = lines(states[0].state_details.flow_run_id)
    assert [len(line) for line in said if line.startswith("0-")] == [500_002]
    assert max(map(len, seen)) <= LARGEST_MESSAGE
    assert not [line for line in said if "lost on their way" in line]


@pytest.mark.behaviour("D23", "LOG-1")
def test_records_of_which_a_piece_was_lost_are_told_of(cluster: LoopbackCluster, tmp_path: Path) -> None:
    lost: list[Message] = []

    def is_lost(message: Message) -> bool:
        (kind, *_), *_ = message.records
        if not lost and kind == reports.PIECE and message.records[0][1] == 2:
            lost.append(message)
            (tmp_path / "lost").touch()
        return message in lost

    @task
    def talks() -> str:
        get_run_logger().info("x" * 100_000)
        wait_for((tmp_path / "lost").exists)
        return "done"

    @flow(task_runner=LoopbackRunner.of(cluster))
    def outer() -> Any:
        return talks.submit()

    with messages(cluster, is_lost):
        state = outer(return_state=True).result()

    assert state.result() == "done"
    told = [line for line in lines(state.state_details.flow_run_id) if "lost on their way" in line]
    assert any(line.startswith("1 messages") for line in told)
    assert any(line.startswith("1 of 2 log lines") for line in told)


@pytest.mark.behaviour("D23", "LOG-1")
def test_lines_that_are_lost_on_their_way_are_told_of(cluster: LoopbackCluster, tmp_path: Path) -> None:
    lost: list[Message] = []

    def is_lost(message: Message) -> bool:
        if not lost and message.number > 0 and {record[0] for record in message.records} == {reports.LOG}:
            lost.append(message)
            (tmp_path / "lost").touch()
            return True
        return False

    @task
    def talks() -> str:
        number = 0
        while not (tmp_path / "lost").exists() and number < 5_000:
            get_run_logger().info("%d-%s", number, "x" * 500)
            number += 1
            time.sleep(0.001)
        return f"{number} lines"

    @flow(task_runner=LoopbackRunner.of(cluster))
    def outer() -> Any:
        return talks.submit()

    with messages(cluster, is_lost):
        state = outer(return_state=True)

    said = int(state.result().result().split()[0])
    (message,) = lost
    stored = lines(state.state_details.flow_run_id)
    assert len([line for line in stored if line.endswith("xxx")]) == said - len(message.records)
    told = [line for line in stored if "lost on their way" in line]
    assert any(re.match(rf"{len(message.records)} of \d+ log lines of worker loopback-", line) for line in told)


@pytest.mark.behaviour("D23", "LOG-1")
def test_lines_of_a_thread_that_outlives_its_task_arrive(cluster: LoopbackCluster, tmp_path: Path) -> None:
    @task
    def leaves_a_thread() -> str:
        logger = get_run_logger()

        def goes_on() -> None:
            wait_for((tmp_path / "go").exists)
            logger.info("late")

        threading.Thread(target=contextvars.copy_context().run, args=(goes_on,), daemon=True).start()
        return "done"

    @flow(task_runner=LoopbackRunner.of(cluster))
    def outer() -> str:
        future = leaves_a_thread.submit()
        value = future.result()
        (tmp_path / "go").touch()
        wait_for(lambda: "late" in lines())
        return value

    assert outer() == "done"


@pytest.mark.behaviour("D23")
def test_a_run_of_which_a_state_was_lost_on_its_way_crashes(cluster: LoopbackCluster, tmp_path: Path) -> None:
    def is_lost(message: Message) -> bool:
        if message.is_last or all(record[0] != reports.STATE for record in message.records):
            return False
        (tmp_path / "lost").touch()
        return True

    @task
    def waits() -> None:
        wait_for((tmp_path / "lost").exists)

    @flow(task_runner=LoopbackRunner.of(cluster))
    def outer() -> Any:
        return waits.submit()

    with messages(cluster, is_lost):
        state = outer(return_state=True).result(raise_on_failure=False)

    assert state.is_crashed()
    assert "lost on their way" in state.message


class DyingCluster(LoopbackCluster):
    """A worker dies when it has told of the end of an execution of a run, before it has told of the call's."""

    execution = 1
    error: BaseException = WorkerLost("", "It died.")
    is_lost = False

    def listen(self, receive: Callable[[bytes], None]) -> None:
        def between(content: bytes) -> None:
            message = Message.decode(content)
            ends = [
                record[0] == reports.STATE
                and Transition(*record).execution == self.execution
                and record[2] in ("COMPLETED", "FAILED")
                for record in message.records
            ]
            if any(ends) and not self.is_lost:
                self.is_lost = True
                records = message.records[: ends.index(True) + 1]
                content = message._replace(records=records, is_last=False).encode()
            receive(content)

        super().listen(between)

    def send(self, block: Block, done: Callable[..., None]) -> None:
        was_lost = self.is_lost

        def over(content: bytes | None, error: BaseException | None) -> None:
            is_lost = self.is_lost and not was_lost
            done(content, self.error if is_lost else error)

        super().send(block, over)


@pytest.mark.behaviour("D22", "D3")
@pytest.mark.parametrize("error", [WorkerLost("", "It died."), OSError("It broke.")], ids=["lost", "broken"])
@pytest.mark.parametrize("fails", [False, True])
def test_hooks_of_a_run_whose_end_was_reported_run_once_whatever_becomes_of_its_call(
    error: BaseException, fails: bool
) -> None:
    called: list[str] = []

    def hook(task: Any, task_run: Any, state: Any) -> None:
        called.append(state.name)

    @task(on_completion=[hook], on_failure=[hook])
    def ends() -> str:
        if fails:
            raise ValueError("no")
        return "done"

    cluster = DyingCluster(1)
    cluster.error = error

    @flow(task_runner=LoopbackRunner.of(cluster, retries=1))
    def outer() -> Any:
        return [ends.submit()]

    (state,) = outer(return_state=True).result(raise_on_failure=False)
    cluster.close()

    assert cluster.is_lost
    assert [state.name] == called == ["Failed" if fails else "Completed"]


@pytest.mark.behaviour("D1", "D22")
def test_an_execution_whose_end_was_reported_is_over_whatever_becomes_of_its_worker(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    starts.touch()

    @task
    def second_time() -> str:
        with starts.open("a") as file:
            file.write("x")
        if starts.read_text() == "x":
            raise ValueError("once more")
        return "done"

    cluster = DyingCluster(1)
    cluster.execution = 2

    @flow(task_runner=LoopbackRunner.of(cluster, retries=1), retries=1)
    def outer() -> str:
        return second_time.submit().result()

    assert outer() == "done"
    cluster.close()
    assert cluster.is_lost
    assert starts.read_text() == "xx"


def test_a_message_that_cannot_be_sent_does_not_end_the_reports_of_others() -> None:
    class Fails(Beating):
        def beat(self, now: float) -> None:
            raise OSError("the road is closed")

    class Beats(Beating):
        def __init__(self) -> None:
            self.has_beaten = threading.Event()

        def beat(self, now: float) -> None:
            self.has_beaten.set()

    fails = Fails()
    pulse.add(fails)
    try:
        for _ in range(3):
            beats = Beats()
            pulse.add(beats)
            assert beats.has_beaten.wait(PATIENCE)
            pulse.remove(beats)
    finally:
        pulse.remove(fails)


@pytest.mark.behaviour("D31")
def test_the_large_value_of_a_run_that_was_cancelled_meanwhile_leaves_the_cluster(
    cluster: LoopbackCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[str] = []
    monkeypatch.setattr(cluster, "release", released.append)

    @task
    def stubborn() -> bytes:
        while not (tmp_path / "go").exists():
            with contextlib.suppress(BaseException):
                (tmp_path / "started").touch()
                time.sleep(0.01)
        return bytes(100_000)

    @flow(task_runner=LoopbackRunner.of(cluster))
    def outer() -> bool:
        future = stubborn.submit()
        wait_for((tmp_path / "started").exists)
        future.cancel()
        state = future.wait()
        (tmp_path / "go").touch()
        wait_for(lambda: bool(released))
        return state is not None and state.is_cancelled()

    assert outer(return_state=True).result()
