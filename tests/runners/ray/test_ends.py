"""Task and flow runs on Ray that are cancelled, or whose time is over, whatever their code does (D20)."""

import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from core_engine import flow, get_client, task
from core_engine.concurrency.waiting import step
from core_engine.exceptions import MissingResult
from core_engine.task_runners import BaseTaskRunner
from core_engine.tasks import MapOptions
from tests.support.busy import WAYS, busy, cancelled_while_busy, small, times_of
from tests.support.promptness import soon
from tests.support.waiting import wait_for


@pytest.mark.behaviour("D20", "RAY-7")
@pytest.mark.parametrize("way", WAYS)
def test_a_cancelled_task_run_is_cancelled_within_a_second(
    task_runner: BaseTaskRunner, tmp_path: Path, way: str
) -> None:
    @flow(task_runner=task_runner)
    def outer() -> Any:
        future = busy(way).submit(tmp_path / "begun")
        wait_for((tmp_path / "begun").exists)
        asked = time.time()
        future.cancel()
        return asked, [future, *small.map(range(4))]

    asked, states = outer(return_state=True).result(raise_on_failure=False)

    assert [state.name for state in states] == ["Cancelled"] + ["Completed"] * 4
    assert times_of(states[0].state_details.task_run_id)["Cancelled"] - asked < soon()


@pytest.mark.behaviour("D20", "RUN-10", "TASK-TIME-1")
@pytest.mark.parametrize("way", WAYS)
def test_a_task_run_over_its_limit_is_timed_out_within_a_second(
    task_runner: BaseTaskRunner, tmp_path: Path, way: str
) -> None:
    @flow(task_runner=task_runner)
    def outer() -> Any:
        future = busy(way, timeout_seconds=0.5).submit(tmp_path / "begun")
        future.wait()
        return [future, *small.map(range(4))]

    states = outer(return_state=True).result(raise_on_failure=False)

    assert [state.name for state in states] == ["TimedOut"] + ["Completed"] * 4
    times = times_of(states[0].state_details.task_run_id)
    assert 0.5 <= times["TimedOut"] - times["Running"] < 0.5 + soon()


@pytest.mark.behaviour("D20", "D25")
@pytest.mark.parametrize("way", WAYS)
def test_a_cancelled_flow_run_is_cancelled_with_its_task_runs_within_a_second(
    task_runner: BaseTaskRunner, tmp_path: Path, way: str
) -> None:
    state, id, asked = cancelled_while_busy(task_runner, way, tmp_path)

    assert state.is_cancelled()
    first = min(step(get_client().read_task_runs(id)), key=lambda run: run.created)
    assert times_of(first.id)["Cancelled"] - asked < soon()
    assert times_of(id)["Cancelled"] - asked < soon()


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.timeout(150)  # on a busy machine Ray takes ten seconds and more for each process that it starts
@pytest.mark.behaviour("D20")
@pytest.mark.parametrize("limit", [None, 0.5], ids=["cancelled", "timed-out"])
@pytest.mark.parametrize("size", [1, 3])
def test_a_worker_whose_code_cannot_be_interrupted_is_replaced_while_the_flow_goes_on(
    task_runner: BaseTaskRunner, tmp_path: Path, limit: float | None, size: int
) -> None:
    @task(map_options=MapOptions(batch_size=size), timeout_seconds=limit)
    def stuck(x: int) -> int:
        with (tmp_path / "starts").open("a") as starts:
            starts.write(f"{x} {os.getpid()}\n")
        if x == 0:
            time.sleep(300)
        return x

    @flow(task_runner=task_runner)
    def outer() -> list[Any]:
        futures = stuck.map(range(size))
        wait_for(lambda: bool(starts()))
        (_, pid), *_ = starts()
        if limit is None:
            futures[0].cancel()
        wait_for(lambda: is_gone(pid))
        return [*futures, small.submit()]

    def starts() -> list[tuple[int, int]]:
        path = tmp_path / "starts"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(x), int(pid)) for x, pid in map(str.split, lines)]

    states = outer(return_state=True).result(raise_on_failure=False)

    name = "Cancelled" if limit is None else "TimedOut"
    assert [state.name for state in states] == [name, *["Completed"] * size]
    assert sorted(x for x, _ in starts()) == list(range(size))


@pytest.mark.timeout(150)
@pytest.mark.faults
@pytest.mark.behaviour("D20")
def test_a_kill_that_did_not_help_is_asked_for_again(
    task_runner: BaseTaskRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import ray

    tried: list[Any] = []
    cancel = ray.cancel

    def cancel_at_second_try(reference: Any, **options: Any) -> None:
        tried.append(reference)
        if len(tried) == 1:
            raise OSError("no answer")
        cancel(reference, **options)

    @task
    def stuck() -> None:
        (tmp_path / "begun").touch()
        time.sleep(300)

    @flow(task_runner=task_runner)
    def outer() -> list[Any]:
        future = stuck.submit()
        wait_for((tmp_path / "begun").exists)
        wait_for(lambda: future.get_state().is_running())
        monkeypatch.setattr(ray, "cancel", cancel_at_second_try)
        future.cancel()
        future.wait()
        wait_for(lambda: len(tried) == 2)
        return [future, small.submit()]

    states = outer(return_state=True).result(raise_on_failure=False)

    assert [state.name for state in states] == ["Cancelled", "Completed"]
    assert "could not be ended: no answer" in caplog.text


@pytest.mark.behaviour("D26")
def test_the_end_of_a_flow_waits_no_longer_than_so_for_values_that_do_not_come(
    task_runner: BaseTaskRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from core_engine.remote import kept_values
    from runners.ray.calls import Calls

    @ray.remote(num_cpus=0)
    class Never:
        async def come(self) -> None:
            import asyncio

            await asyncio.Event().wait()

    @task
    def large(x: int) -> bytes:
        return bytes([x]) * 1_000_000

    never = Never.remote()
    # Flows live until they are collected, and no reference is to go away while Ray is being left.
    late = [never.come.remote()]

    @flow(task_runner=task_runner)
    def outer() -> list[Any]:
        futures = large.map(range(3))
        for future in futures:
            future.wait()
        monkeypatch.setattr(kept_values, "FETCH_SECONDS", 0.5)
        monkeypatch.setattr(Calls, "reference", lambda calls, key: late[0])
        return futures

    states = outer(return_state=True).result(raise_on_failure=False)
    ray.kill(never)
    ray.wait(late, timeout=10)
    late.clear()

    assert [state.is_completed() for state in states] == [True] * 3
    with pytest.raises(MissingResult, match="could not be fetched from the cluster"):
        states[0].result()


@pytest.mark.faults
@pytest.mark.behaviour("D20")
@pytest.mark.parametrize("size", [1, 3])
def test_a_worker_whose_code_cannot_be_interrupted_ends_itself_where_nobody_ends_it(
    task_runner: BaseTaskRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    from runners.ray.road import RayRoad

    monkeypatch.setattr(RayRoad, "kill", lambda road, name: None)

    @task(map_options=MapOptions(batch_size=size), timeout_seconds=0.5)
    def stuck(x: int) -> int:
        if x == 0:
            (tmp_path / f"pid-{os.getpid()}").touch()
            time.sleep(300)
        return x

    @flow(task_runner=task_runner)
    def outer() -> list[Any]:
        futures = stuck.map(range(size))
        wait_for(lambda: any(tmp_path.glob("pid-*")))
        (pid,) = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
        wait_for(lambda: is_gone(pid))
        return [*futures, small.submit()]

    states = outer(return_state=True).result(raise_on_failure=False)

    assert [state.name for state in states] == ["TimedOut", *["Completed"] * size]
