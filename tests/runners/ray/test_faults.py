"""Workers of Ray that die: each run ends in the right state, and no finished one is executed twice."""

import contextlib
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from core_engine import State, flow, get_client, get_run_logger, task
from core_engine.concurrency.waiting import step
from core_engine.tasks import MapOptions
from runners.ray import RayTaskRunner, remote_options
from tests.runners.ray.support import messages
from tests.support.starts import lines, note, starts
from tests.support.waiting import wait_for

# Long enough for a start to be reported; a worker that dies sooner may not have told of it.
REPORTED_SECONDS = 0.3


def states_of(runner: RayTaskRunner, make: Any) -> list[State]:
    @flow(task_runner=runner)
    def outer() -> Any:
        return make()

    return outer(return_state=True).result(raise_on_failure=False)


@pytest.mark.behaviour("D22")
def test_a_worker_killed_in_the_middle_of_a_task_crashes_it_alone(ray_address: str, tmp_path: Path) -> None:
    path = tmp_path / "starts"

    @task(map_options=MapOptions(batch_size=1))
    def fragile(x: int) -> int:
        note(path, x)
        if x == 3:
            time.sleep(REPORTED_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    states = states_of(RayTaskRunner(address=ray_address), lambda: fragile.map(range(20)))

    assert [x for x, state in enumerate(states) if not state.is_completed()] == [3]
    assert states[3].is_crashed()
    assert "ray-" in (states[3].message or "")
    assert starts(path)["3"] == 1
    assert lines() == starts(path)


@pytest.mark.faults
@pytest.mark.behaviour("D22")
def test_what_a_block_had_reported_is_kept_when_its_worker_is_killed(ray_address: str, tmp_path: Path) -> None:
    path = tmp_path / "starts"

    @task(map_options=MapOptions(batch_size=10))
    def fragile(x: int) -> int:
        note(path, x)
        if x == 5:
            time.sleep(REPORTED_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    states = states_of(RayTaskRunner(address=ray_address), lambda: fragile.map(range(30)))

    assert [x for x, state in enumerate(states) if not state.is_completed()] == [5]
    assert [state.result() for state in states[:5]] == [0, 1, 2, 3, 4]
    assert set(starts(path).values()) == {1}, (starts(path), path.read_text().split())
    assert lines() == starts(path)


@pytest.mark.faults
@pytest.mark.behaviour("D22")
def test_a_run_lost_with_its_worker_is_executed_again_within_the_runners_budget(
    ray_address: str, tmp_path: Path
) -> None:
    path = tmp_path / "starts"

    @task
    def fragile() -> str:
        note(path, "x")
        if starts(path)["x"] == 1:
            time.sleep(REPORTED_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    runner = RayTaskRunner(address=ray_address, worker_loss_retries=1)
    (state,) = states_of(runner, lambda: [fragile.submit()])
    run_id = state.state_details.task_run_id
    assert run_id is not None

    assert state.result() == "done"
    assert starts(path)["x"] == 2
    history = [one.name for one in step(get_client().read_states(run_id))]
    assert history == ["Pending", "Running", "Rerunning", "Completed"]
    assert lines() == starts(path)


@pytest.mark.faults
def test_a_finished_task_is_not_executed_again_because_its_worker_died(ray_address: str, tmp_path: Path) -> None:
    path = tmp_path / "starts"

    @task
    def small() -> int:
        note(path, "small")
        return os.getpid()

    @task
    def dies(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        time.sleep(REPORTED_SECONDS)

    @task
    def uses(pid: int) -> int:
        return pid

    @flow(task_runner=RayTaskRunner(address=ray_address, worker_loss_retries=3))
    def outer() -> bool:
        made = small.submit()
        dies.submit(made).wait()
        return uses.submit(made).result() == made.result()

    assert outer()
    assert starts(path)["small"] == 1
    assert lines() == starts(path)


@pytest.mark.faults
def test_the_end_of_all_workers_ends_every_run(ray_address: str, tmp_path: Path) -> None:
    path = tmp_path / "starts"

    @task
    def dies(x: int) -> None:
        note(path, x)
        time.sleep(REPORTED_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    states = states_of(RayTaskRunner(address=ray_address), lambda: dies.map(range(4)))

    assert all(state.is_crashed() for state in states)
    assert lines() == starts(path) == Counter("0123")


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
            time.sleep(REPORTED_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)
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
