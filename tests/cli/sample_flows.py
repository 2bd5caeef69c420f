"""Flows that the tests of the command line run."""

import asyncio
import time
from pathlib import Path
from typing import Any

from core_engine import Flow, State, flow, get_run_logger, pause_flow_run, task
from core_engine.schemas.records import FlowRun
from core_engine.states import Cancelled, Completed, Paused
from core_engine.tasks import task_input_hash
from runners.concurrent import ConcurrentTaskRunner


@task
def double(number: int) -> int:
    return 2 * number


@task
def only_even(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


@task
def say(text: str) -> None:
    get_run_logger().info("saying %s", text)
    get_run_logger().warning("loudly %s", text)


@flow
def adding(a: int, b: int = 1) -> int:
    print(f"sum: {a + b}")
    return a + b


@flow
async def asynchronous(a: int) -> int:
    return a


@flow
def failing() -> None:
    raise ValueError("nothing works")


@flow
def some_fail(count: int = 10) -> str:
    for future in only_even.map(range(count)):
        future.wait()
    return "done"


@flow
def cancelled() -> object:
    return Cancelled(message="no longer wanted")


@flow
def named_its_state() -> object:
    return Completed(name="Delivered")


@flow
def paused() -> object:
    return Paused()


@flow
def secretive(api_token: str) -> None:
    pass


@flow
def talking() -> None:
    get_run_logger().info("the flow speaks")
    say("hello")
    say("again")


@flow
def inner(count: int) -> int:
    return sum(future.result() for future in double.map(range(count)))


@flow
def outer() -> int:
    return inner(3) + inner(4)


@task
def nap(number: int, seconds: float) -> int:
    time.sleep(seconds)
    if number % 50 == 7:
        raise ValueError("a bad number")
    return number


@flow(task_runner=ConcurrentTaskRunner(max_workers=4))
def napping(count: int = 100, seconds: float = 0.02) -> str:
    """Long enough to look at; two of a hundred naps fail."""
    print("going to sleep")
    for future in double.map(range(count)) + nap.map(range(count), seconds=seconds):
        future.wait()
    return "rested"


@task
def wait_for_end_of(path: Path) -> None:
    while path.exists():
        time.sleep(0.01)


@flow
def waiting(path: Path) -> str:
    """Makes the file, then goes on until somebody removes it."""
    path.write_text("waiting")
    get_run_logger().info("waiting for %s", path.name)
    wait_for_end_of.submit(path).wait()
    get_run_logger().info("it is gone")
    return "done"


def _write_down(flow: Flow[..., Any], flow_run: FlowRun, state: State) -> None:
    with Path(f"{flow_run.parameters['path']}.hooks").open("a") as hooks:
        hooks.write(f"{flow.name}:{state.name}\n")


@flow(on_cancellation=[_write_down])
def waiting_above(path: Path) -> None:
    """Has a task run and a subflow that go on until the file is removed."""
    path.write_text("waiting")
    future = wait_for_end_of.submit(path)
    waiting.with_options(on_cancellation=[_write_down])(path)
    future.wait()


@flow(task_runner=ConcurrentTaskRunner(max_workers=1))
def queueing(path: Path) -> str:
    """Has two task runs and one worker; ends when the file that it makes is removed."""
    path.write_text("waiting")
    first, second = wait_for_end_of.submit(path), wait_for_end_of.submit(path)
    first.wait(), second.wait()
    return "done"


@task(tags={"scarce"})
def take_what_is_scarce(path: Path) -> None:
    wait_for_end_of.fn(path)


@task
async def wait_with_many(path: Path) -> None:
    is_there = path.exists
    while is_there():
        await asyncio.sleep(0.05)


@task(retries=1, retry_delay_seconds=3600)
def fail_once() -> None:
    raise ValueError("out of milk")


@flow(task_runner=ConcurrentTaskRunner(max_workers=1))
def waiting_for_everything(path: Path, async_runs: int) -> str:
    """Has runs that wait for each thing that there is to wait for, then makes the file, and ends when it is removed."""
    cached = double.with_options(cache_key_fn=task_input_hash)
    cached.submit(1).wait()
    cached.submit(1).wait()
    failed = fail_once.submit()
    while not failed.get_state().is_scheduled():
        time.sleep(0.01)
    path.write_text("waiting")
    taken = take_what_is_scarce.map([path] * 4)
    while not taken[0].get_state().is_running():
        time.sleep(0.01)
    say.submit("at last")
    say.submit("later", wait_for=taken[:2])
    wait_with_many.map([path] * async_runs)
    path.with_suffix(".all").touch()
    for future in taken:
        future.wait()
    failed.cancel()
    return "done"


@task
def check_that_it_is_there(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(path)


@flow
def needs_a_file(path: Path, count: int) -> int:
    """Fails after its map until the file is there."""
    numbers = [future.result() for future in double.map(range(count))]
    check_that_it_is_there(path)
    return sum(numbers)


@flow
def waiting_for_approval() -> str:
    """Goes on when somebody resumes it."""
    pause_flow_run(timeout=60, poll_interval=60)
    return "approved"


@flow
def step_by_step(path: Path) -> int:
    """Starts one task run after another until the file is there."""
    steps = 0
    while not path.exists():
        double(steps)
        steps += 1
    return steps


@flow
def approved_in_steps(number: int) -> int:
    """Leaves its process between two steps, until somebody resumes it."""
    pause_flow_run(timeout=60, reschedule=True)
    return double(number)


@flow
def taking_a_secret(api_token: str) -> None:
    """Has a parameter that is not stored."""
