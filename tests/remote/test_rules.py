"""Runs on workers are decided by the same rules, and executed by the same code, as in the flow's process."""

import functools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import core_engine.engine.task_runs
from core_engine import flow, get_client, task
from core_engine.concurrency.waiting import step
from core_engine.task_runners import BaseTaskRunner
from core_engine.tasks import MapOptions
from tests.support.loopback import LoopbackCluster, LoopbackRunner


@task
def completes(path: str) -> int:
    return 1


@task
async def completes_async(path: str) -> int:
    return 1


@task
def fails(path: str) -> None:
    raise ValueError("no")


@task(retries=2)
def fails_once(path: str) -> str:
    with Path(path).open("a") as tries:
        tries.write("x")
    if len(Path(path).read_text()) == 1:
        raise ValueError("not yet")
    return "done"


@task(retries=1, retry_delay_seconds=0.01)
def fails_always(path: str) -> None:
    raise ValueError("never")


@task(timeout_seconds=0.05)
def takes_too_long(path: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        time.sleep(0.01)


@task(timeout_seconds=0.05, retries=1)
async def takes_too_long_async(path: str) -> None:
    import asyncio

    await asyncio.sleep(20)


@task(cache_key_fn=lambda context, parameters: parameters["path"])
def is_cached(path: str) -> str:
    return "value"


@task(cache_key_fn=lambda context, parameters: 1 / 0)
def has_a_bad_key(path: str) -> None: ...


@task(task_run_name="named-{path}")
def is_named(path: str) -> None: ...


@task
def returns_a_state(path: str) -> Any:
    from core_engine.states import Failed

    return Failed(message="by hand")


@task
def leaves_the_process(path: str) -> None:
    raise SystemExit(3)


TASKS = [
    *(completes, completes_async, fails, fails_once, fails_always, takes_too_long, takes_too_long_async, is_cached),
    *(has_a_bad_key, is_named, returns_a_state),
]


def history(runner: BaseTaskRunner | str, one: Any, path: Path) -> list[Any]:
    @flow(task_runner=runner)
    def outer() -> Any:
        first = one.submit(str(path), return_state=True)
        return [first, *one.map([str(path)] * 2, return_state=True)]

    found = []
    for state in outer(return_state=True).result(raise_on_failure=False):
        run = step(get_client().read_task_run(state.state_details.task_run_id))
        states = step(get_client().read_states(state.state_details.task_run_id))
        assert run is not None
        assert state.state_details.task_run_id == run.id
        described = [(one.type.value, one.name, one.message) for one in states]
        found.append((described, run.run_count, run.state_type, run.name.replace(path.name, "path")))
    return found


@pytest.mark.behaviour("I3", "D14")
@pytest.mark.parametrize("one", TASKS, ids=lambda one: one.name)
def test_a_run_has_the_same_history_wherever_it_is_executed(cluster: LoopbackCluster, one: Any, tmp_path: Path) -> None:
    here = history("concurrent", one, tmp_path / "here" / "path")
    there = history(LoopbackRunner.of(cluster), one, tmp_path / "there" / "path")

    assert [[str(part).replace("there", "here") for part in run] for run in there] == [
        [str(part) for part in run] for run in here
    ]


def note_orchestration(folder: str) -> None:
    """Have this process note each execution of the engine's one implementation, and by whom."""
    orchestrate: Callable[..., Any] = core_engine.engine.task_runs.orchestrate_task_run

    async def noting(*args: Any) -> Any:
        with open(f"{folder}/{os.getpid()}", "a") as notes:  # noqa: ASYNC230
            notes.write(f"{threading.get_ident()}\n")
        return await orchestrate(*args)

    core_engine.engine.task_runs.orchestrate_task_run = noting  # type: ignore[assignment]


@pytest.mark.behaviour("D14")
def test_a_block_is_stepped_through_the_engines_one_implementation_by_the_thread_of_its_call(tmp_path: Path) -> None:
    @task(map_options=MapOptions(batch_size=10))
    def which_thread(x: int) -> tuple[int, int]:
        return os.getpid(), threading.get_ident()

    @flow
    def outer() -> Any:
        return which_thread.map(range(40))

    cluster = LoopbackCluster(workers=1, prepare=functools.partial(note_orchestration, str(tmp_path)))
    try:
        states = outer.with_options(task_runner=LoopbackRunner.of(cluster))(return_state=True).result()
    finally:
        cluster.close()
    (notes,) = tmp_path.iterdir()
    orchestrated = [int(line) for line in notes.read_text().split()]
    ran = [state.result() for state in states]

    assert len(orchestrated) == 40
    assert {pid for pid, _ in ran} == {int(notes.name)}
    assert sorted(orchestrated) == sorted(thread for _, thread in ran)
    assert len(set(orchestrated)) <= 4  # one for each block
