"""What a worker may decide alone, and what it may not (D6): slots, cancellations, and who ends a run first."""

import contextlib
import logging
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from core_engine import flow, get_client, runtime, task
from core_engine.concurrency.waiting import step
from core_engine.task_runners import BaseTaskRunner
from core_engine.tasks import MapOptions
from tests.support.busy import times_of
from tests.support.loopback import LoopbackCluster, LoopbackRunner
from tests.support.promptness import soon
from tests.support.waiting import wait_for

pytestmark = pytest.mark.behaviour("D6")


@pytest.mark.behaviour("ORCH-22")
def test_slots_are_taken_before_a_run_travels(cluster: LoopbackCluster, tmp_path: Path) -> None:
    step(get_client().create_concurrency_limit("scarce", 1))

    @task(tags={"scarce"})
    def takes(x: int) -> int:
        with (tmp_path / "notes").open("a") as notes:
            notes.write(f"{x} begins\n")
        wait_for((tmp_path / "go").exists)
        with (tmp_path / "notes").open("a") as notes:
            notes.write(f"{x} ends\n")
        return x

    def blocks() -> int:
        return sum(kind == "block" for kind, _ in cluster.sent)

    @flow(task_runner=LoopbackRunner.of(cluster))
    def outer() -> int:
        cluster.sent.clear()
        futures = takes.map(range(4))
        wait_for((tmp_path / "notes").exists)
        waits = step(get_client().why(futures[3].task_run_id))
        assert (waits.reason, blocks()) == ("slot", 1)
        (tmp_path / "go").touch()
        return sum(future.result() for future in futures)

    assert outer() == 6
    notes = (tmp_path / "notes").read_text().splitlines()
    assert notes == [f"{x} {what}" for x in range(4) for what in ("begins", "ends")]


@pytest.mark.behaviour("ORCH-17")
def test_a_flow_run_that_is_cancelled_takes_back_what_has_not_begun(
    task_runner: BaseTaskRunner, tmp_path: Path
) -> None:
    @task(map_options=MapOptions(batch_size=50))
    def item(x: int) -> int:
        (tmp_path / f"begun-{x}").touch()
        while True:
            time.sleep(0.01)

    ids: list[UUID] = []
    asked: list[float] = []

    @flow(task_runner=task_runner)
    def outer() -> None:
        ids.append(UUID(runtime.flow_run.id))
        item.map(range(100))

    def cancel() -> None:
        wait_for(lambda: len(list(tmp_path.glob("begun-*"))) == 2)
        asked.append(time.time())
        step(get_client().cancel_flow_run(ids[0]))

    thread = threading.Thread(target=cancel)
    thread.start()
    state = outer(return_state=True)
    thread.join()

    assert state.is_cancelled()
    runs = step(get_client().read_task_runs(ids[0]))
    assert [run.state_name for run in runs] == ["Cancelled"] * 100
    assert all(times_of(run.id)["Cancelled"] - asked[0] < soon() for run in runs)
    # On each worker one more may begin while its own cancellation is on its way.
    assert len(list(tmp_path.glob("begun-*"))) <= 4


@pytest.mark.behaviour("I2")
def test_of_two_that_end_a_run_the_first_stands_and_the_other_is_dropped_and_told(
    task_runner: BaseTaskRunner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @task
    def stubborn() -> str:
        while not (tmp_path / "go").exists():
            with contextlib.suppress(BaseException):
                (tmp_path / "begun").touch()
                time.sleep(0.01)
        return "a late value"

    def is_told() -> bool:
        return "Dropped a state of stubborn-0 that does not follow Cancelled" in caplog.text

    @flow(task_runner=task_runner)
    def outer() -> Any:
        future = stubborn.submit()
        wait_for((tmp_path / "begun").exists)
        future.cancel()
        future.wait()
        (tmp_path / "go").touch()
        wait_for(is_told)
        return [future]

    with caplog.at_level(logging.DEBUG, logger="core_engine.remote"):
        (state,) = outer(return_state=True).result(raise_on_failure=False)

    assert state.is_cancelled()
    assert [one.name for one in step(get_client().read_states(state.state_details.task_run_id))][-1] == "Cancelled"
