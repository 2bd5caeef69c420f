"""Tasks that go on for long, in each of the ways in which code can; and how soon a run was ended."""

import os
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from core_engine import State, flow, get_client, task
from core_engine.concurrency.waiting import step
from core_engine.context import FlowRunContext
from core_engine.task_runners import BaseTaskRunner
from tests.support.waiting import wait_for

WAYS = ("awaits", "sleeps", "computes", "blocks")
LONG_SECONDS = 40.0


@task
def small(x: int = 0) -> int:
    return os.getpid()


def keep_busy(way: str, begun: Path) -> None:
    """Go on for long: in Python, or in C code that nothing interrupts."""
    begun.touch()
    deadline = time.monotonic() + LONG_SECONDS
    while time.monotonic() < deadline:
        if way == "sleeps":
            time.sleep(0.01)
        elif way == "blocks":
            subprocess.run([sys.executable, "-c", "import time; time.sleep(3)"], check=True)
            return


async def keep_waiting(begun: Path) -> None:
    import anyio

    await anyio.Path(begun).touch()
    await anyio.sleep(LONG_SECONDS)


def busy(way: str, **options: Any) -> Any:
    """Return a task that goes on for long, to be given the path of a file that it touches first."""
    if way == "awaits":
        return task(keep_waiting, **options)

    @task(**options)
    def goes_on(begun: Path) -> None:
        keep_busy(way, begun)

    return goes_on


def times_of(run_id: Any) -> dict[str, float]:
    """Return when a run was recorded to be in each of its states, by name, in seconds since the epoch."""
    states = step(get_client().read_states(run_id))
    times: dict[str, datetime] = {state.name: state.timestamp for state in states}
    return {name: moment.timestamp() for name, moment in times.items()}


def cancelled_while_busy(runner: BaseTaskRunner, way: str, folder: Path) -> tuple[State, UUID, float]:
    """Cancel a flow run while one of its two tasks goes on.

    Returns:
        The flow run's final state, its id, and when it was asked for, in seconds since the epoch.
    """
    ids: list[UUID] = []
    asked: list[float] = []

    @flow(task_runner=runner)
    def outer() -> Any:
        context = FlowRunContext.get()
        assert context is not None
        ids.append(context.flow_run.id)
        futures = [busy(way).submit(folder / "begun"), small.submit()]
        return [future.result() for future in futures]

    def cancel() -> None:
        wait_for((folder / "begun").exists)
        asked.append(time.time())
        step(get_client().cancel_flow_run(ids[0]))

    thread = threading.Thread(target=cancel)
    thread.start()
    state: State = outer(return_state=True)
    thread.join()
    return state, ids[0], asked[0]
