"""Workers of Ray that die: each run ends in the right state, and no finished one is executed twice."""

import contextlib
import functools
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from core_engine import flow, get_run_logger, task
from core_engine.tasks import MapOptions
from runners.ray import RayTaskRunner, remote_options
from tests.runners.ray.support import messages
from tests.support.cluster_tests.losses import LossesOnACluster, MakeRunner, kill_this_process, states_of
from tests.support.starts import lines, note, starts
from tests.support.waiting import wait_for


class TestLosses(LossesOnACluster):
    worker_prefix = "ray-"

    @pytest.fixture
    def make_runner(self, ray_address: str) -> MakeRunner:
        return functools.partial(RayTaskRunner, address=ray_address)


@pytest.mark.behaviour("D12", "D22")
def test_large_values_outlive_the_worker_that_made_them(ray_address: str, tmp_path: Path) -> None:
    path = tmp_path / "starts"

    @task(map_options=MapOptions(batch_size=4))
    def make(x: int) -> tuple[int, bytes]:
        note(path, x)
        return os.getpid(), bytes([x]) * 1_000_000

    @task
    def kill(made: tuple[int, bytes]) -> None:
        if made[0] != os.getpid():
            os.kill(made[0], signal.SIGKILL)

    @task
    def measure(made: tuple[int, bytes]) -> int:
        return sum(made[1][:10])

    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> list[Any]:
        made = [*make.map(range(4)), make.submit(4)]
        for future in made:
            future.wait()
        for future in made:
            kill.submit(future).wait()
        # What was made by the worker that killed the others is killed from here.
        for pid in {future.result()[0] for future in made}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return [measure.submit(future).result() for future in made] + [len(future.result()[1]) for future in made]

    assert outer() == [0, 10, 20, 30, 40] + [1_000_000] * 5
    assert set(starts(path).values()) == {1}, (starts(path), path.read_text().split())
    assert lines() == starts(path)


@pytest.mark.behaviour("RAY-5", "D22")
def test_max_retries_of_remote_options_is_the_budget_of_the_tasks_inside(ray_address: str, tmp_path: Path) -> None:
    path = tmp_path / "starts"

    @task
    def fragile() -> str:
        note(path, "x")
        if starts(path)["x"] == 1:
            kill_this_process()
        return "done"

    def within_budget() -> Any:
        with remote_options(max_retries=1):
            return [fragile.submit()]

    (state,) = states_of(RayTaskRunner(address=ray_address), within_budget)

    assert state.result() == "done"
    assert starts(path)["x"] == 2
    assert lines() == starts(path)


@pytest.mark.behaviour("D23")
def test_nothing_is_lost_with_the_mailbox(ray_address: str, tmp_path: Path) -> None:
    import ray

    @task
    def says() -> str:
        for line in range(50):
            get_run_logger().info("line %d", line)
        wait_for((tmp_path / "killed").exists)
        get_run_logger().info("the end")
        return "done"

    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> Any:
        future = says.submit()
        wait_for(lambda: "line 49" in messages(future.task_run.flow_run_id))
        wait_for(lambda: bool(ray.util.list_named_actors(all_namespaces=True)))
        (mailbox,) = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
        ray.kill(ray.get_actor(mailbox, "core-engine"))
        (tmp_path / "killed").touch()
        return [future, says.submit()]

    states = outer(return_state=True).result(raise_on_failure=False)
    flow_run_id = states[0].state_details.flow_run_id

    assert [state.result() for state in states] == ["done", "done"]
    assert Counter(line for line in messages(flow_run_id) if line.startswith(("line", "the end"))) == Counter(
        {f"line {line}": 2 for line in range(50)} | {"the end": 2}
    )
