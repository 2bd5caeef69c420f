"""What a RayTaskRunner takes, what remote_options tells Ray, and what is left behind on a Ray that was there before."""

import logging
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from core_engine import State, flow, get_client, task
from core_engine.concurrency.waiting import step
from core_engine.task_runners import BaseTaskRunner
from runners.ray import RayTaskRunner, remote_options
from runners.ray.nodes import Nodes
from runners.ray.options import merged, options_in_force, options_of
from tests.runners.ray.support import expect_clean
from tests.support.waiting import wait_for


@task
def double(x: int) -> int:
    return 2 * x


def doubled(runner: BaseTaskRunner) -> list[int]:
    @flow(task_runner=runner)
    def doubles() -> list[int]:
        return [future.result() for future in double.map([1, 2, 3])]

    return doubles()


@pytest.mark.behaviour("RAY-2", "RUN-2", "RUN-11")
def test_a_runner_is_its_options() -> None:
    runner = RayTaskRunner("auto", init_kwargs={"num_cpus": 3}, worker_loss_retries=2)

    assert runner.duplicate() == runner
    assert runner.duplicate() is not runner
    assert pickle.loads(pickle.dumps(runner)) == runner
    assert runner != RayTaskRunner("auto", init_kwargs={"num_cpus": 4}, worker_loss_retries=2)
    assert runner != RayTaskRunner(init_kwargs={"num_cpus": 3}, worker_loss_retries=2)
    assert "num_cpus" in repr(runner)


@pytest.mark.behaviour("RAY-2")
def test_an_address_is_an_option_of_the_runner_alone() -> None:
    with pytest.raises(ValueError, match="RayTaskRunner\\(address="):
        RayTaskRunner(init_kwargs={"address": "auto"})


@pytest.mark.behaviour("RAY-3", "RAY-8")
@pytest.mark.parametrize("by_address", [True, False], ids=["address", "none"])
def test_a_ray_that_runs_is_used_and_left_running_and_clean(
    ray_address: str, by_address: bool, caplog: pytest.LogCaptureFixture
) -> None:
    import ray

    with caplog.at_level(logging.INFO, logger="core_engine.task_runner.ray"):
        assert doubled(RayTaskRunner(address=ray_address if by_address else None)) == [2, 4, 6]

    assert f"connected to, at {ray_address}" in caplog.text
    assert "Nodes: 1, calls at once: 2" in caplog.text
    assert ray.is_initialized()
    expect_clean()


@pytest.mark.behaviour("RAY-3", "D12")
def test_no_value_of_a_flow_stays_on_a_ray_that_runs(ray_address: str) -> None:
    @task
    def make(x: int) -> bytes:
        return bytes([x]) * 10_000_000

    @task
    def measure(value: bytes) -> int:
        return len(value)

    @flow(task_runner=RayTaskRunner(address=ray_address))
    def many() -> list[int]:
        # More than there is room for, one after another: each is let go when nobody can ask for it any more.
        return [measure.submit(make.submit(x)).result() for x in range(15)]

    assert many() == [10_000_000] * 15
    expect_clean()


@pytest.mark.behaviour("D21")
def test_other_versions_are_named_at_the_start(
    ray_address: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Nodes.__init__

    def of_another_version(nodes: Nodes, logger: logging.Logger) -> None:
        make(nodes, logger)
        nodes._ours = {**nodes._ours, "cloudpickle": "0.0.1"}

    monkeypatch.setattr(Nodes, "__init__", of_another_version)

    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> str:
        return caplog.text

    with caplog.at_level(logging.WARNING, logger="core_engine.task_runner.ray"):
        said_before = outer()

    assert re.search(
        r"Ray node \S+ has another version than this process: cloudpickle: \S+ there, 0\.0\.1 here", said_before
    )


def test_a_process_that_is_connected_to_one_ray_is_not_connected_to_another(ray_address: str) -> None:
    with pytest.raises(RuntimeError, match=f"connected to the Ray at {ray_address}"):
        doubled(RayTaskRunner(address="127.0.0.1:9"))


@pytest.mark.behaviour("RAY-5")
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_returns": 2}, "num_returns"),
        ({"retry_exceptions": True}, "retries="),
        ({"name": "x"}, "name="),
        ({"max_retries": -1}, "max_retries"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_options_that_the_runner_sets_itself_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named), remote_options(**options):
        pass


@pytest.mark.behaviour("RAY-5")
def test_nested_options_merge_and_end_with_their_block() -> None:
    with remote_options(num_cpus=1, max_calls=2):
        with remote_options(num_cpus=2, resources={"a": 1}):
            assert options_in_force() == {"num_cpus": 2, "max_calls": 2, "resources": {"a": 1}}
        assert options_in_force() == {"num_cpus": 1, "max_calls": 2}
    assert options_in_force() == {}


def test_resources_of_a_task_become_rays_own_or_custom_ones() -> None:
    options = options_of({"CPU": 0.5, "GPU": 1, "memory": 1_000, "telescope": 2})

    assert options == {"num_cpus": 0.5, "num_gpus": 1, "memory": 1_000, "resources": {"telescope": 2}}
    above = {"num_gpus": 2, "resources": {"dish": 1}}
    assert merged(options, above) == {**options, "num_gpus": 2, "resources": {"telescope": 2, "dish": 1}}


@pytest.mark.behaviour("RAY-5", "RAY-8")
def test_options_are_those_of_the_submission_and_calls_are_named_after_the_task(
    ray_address: str, tmp_path: Path
) -> None:
    @task
    def assigned(before: Any = None) -> tuple[Mapping[str, float], str]:
        import ray

        context = ray.get_runtime_context()
        return context.get_assigned_resources(), context.get_task_name()

    @task
    def waits() -> None:
        wait_for((tmp_path / "go").exists)

    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> Any:
        with remote_options(num_cpus=0.5):
            # Dispatched when its upstream has ended, long after the block.
            later = assigned.submit(waits.submit())
        plain = assigned.submit()
        with remote_options(num_cpus=2):
            mapped = assigned.map([1, 2])
        half = assigned.with_options(resources={"CPU": 0.5})
        by_option = half.submit()
        with remote_options(num_cpus=1.5):
            by_both = half.submit()
        (tmp_path / "go").touch()
        return [future.result() for future in (later, plain, *mapped, by_option, by_both)]

    assert outer() == [
        ({"CPU": 0.5}, "assigned"),
        ({"CPU": 1.0}, "assigned"),
        ({"CPU": 2.0}, "assigned"),
        ({"CPU": 2.0}, "assigned"),
        ({"CPU": 0.5}, "assigned"),
        ({"CPU": 1.5}, "assigned"),
    ]


@pytest.mark.behaviour("RAY-5")
def test_max_calls_has_the_worker_replaced(ray_address: str) -> None:
    @task
    def pid(x: int) -> int:
        return os.getpid()

    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> set[int]:
        with remote_options(max_calls=1):
            return {pid.submit(x).result() for x in range(3)}

    assert len(outer()) == 3


@pytest.mark.behaviour("RAY-5", "I7")
def test_an_option_that_ray_does_not_know_ends_the_run_with_its_name(ray_address: str) -> None:
    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> list[State]:
        with remote_options(num_cpu=1):
            return [double.submit(1, return_state=True)]

    (state,) = outer(return_state=True).result(raise_on_failure=False)

    assert state.is_crashed()
    assert "num_cpu" in (state.message or "")


@pytest.mark.behaviour("RAY-5")
def test_a_task_that_no_node_suits_waits_and_that_is_said(ray_address: str, caplog: pytest.LogCaptureFixture) -> None:
    @flow(task_runner=RayTaskRunner(address=ray_address))
    def outer() -> list[Any]:
        with remote_options(resources={"telescope": 2}):
            future = double.submit(1)
        wait_for(lambda: "waits for 2 telescope" in caplog.text)
        why = step(get_client().why(future.task_run_id))
        assert (why.reason, why.details["executing"]) == ("runner", 0)
        assert "the ray task runner, where no worker executes anything of this flow run now" in why.text
        future.cancel()
        return [future, double.submit(2)]

    first, second = outer(return_state=True).result(raise_on_failure=False)

    assert first.is_cancelled()
    assert second.result() == 4
    assert caplog.text.count("waits for 2 telescope") == 1


@pytest.mark.behaviour("RUN-3", "RAY-8")
def test_an_error_at_the_start_is_logged_and_raised(
    ray_address: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runners.ray.nodes import Nodes

    def broken(nodes: Nodes) -> bool:
        raise OSError("no answer today")

    monkeypatch.setattr(Nodes, "look", broken)
    with pytest.raises(OSError, match="no answer today"):
        doubled(RayTaskRunner(address=ray_address))
    assert "could not be started or reached" in caplog.text
    assert doubled_after(monkeypatch, ray_address) == [2, 4, 6]


def doubled_after(monkeypatch: pytest.MonkeyPatch, address: str) -> list[int]:
    monkeypatch.undo()
    return doubled(RayTaskRunner(address=address))


def test_without_ray_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import importlib.util
    import sys

    from core_engine.exceptions import TaskRunnerNotInstalled
    from core_engine.task_runners import get_task_runner

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, package=None: None if name == "ray" else find_spec(name, package)
    )
    for name in [name for name in sys.modules if name.partition(".")[2].startswith("ray") and "runners" in name]:
        if not name.startswith("tests"):
            monkeypatch.delitem(sys.modules, name)

    with pytest.raises(TaskRunnerNotInstalled, match=r'pip install "core-engine\[ray\]"'):
        get_task_runner("ray")
