"""What the behaviour tests share: questions to the store, settings by name, meeting points of overlapping tasks."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

import anyio

from core_engine import State, get_client
from core_engine.schemas.records import FlowRun, TaskRun
from core_engine.settings import temporary_settings

T = TypeVar("T")

# Seconds that a test waits for what must happen; only a failing test waits that long.
PATIENCE = 10.0


def ask(question: Callable[[Any], Awaitable[T]]) -> T:
    """Return the answer of a client to `question`, asked in an event loop of its own."""

    async def ask_client() -> T:
        async with get_client() as client:
            return await question(client)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return anyio.run(ask_client)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(anyio.run, ask_client).result()


def as_id(run: State | UUID | str) -> UUID:
    return run if isinstance(run, UUID) else UUID(str(run))


def flow_run_id(run: State | UUID | str) -> UUID:
    """Return the id of the flow run that a state belongs to; an id is returned as it is."""
    found = run.state_details.flow_run_id if isinstance(run, State) else run
    assert found is not None, "the state belongs to no flow run"
    return as_id(found)


def task_run_id(run: State | UUID | str) -> UUID:
    """Return the id of the task run that a state belongs to; an id is returned as it is."""
    found = run.state_details.task_run_id if isinstance(run, State) else run
    assert found is not None, "the state belongs to no task run"
    return as_id(found)


def read_flow_run(run: State | UUID | str) -> FlowRun:
    found = flow_run_id(run)
    return ask(lambda client: client.read_flow_run(found))


def read_task_run(run: State | UUID | str) -> TaskRun:
    found = task_run_id(run)
    return ask(lambda client: client.read_task_run(found))


def read_flow_runs(**filters: Any) -> list[FlowRun]:
    return ask(lambda client: client.read_flow_runs(**filters))


def read_task_runs(run: State | UUID | str) -> list[TaskRun]:
    """Return all task runs of a flow run."""
    found = flow_run_id(run)
    return ask(lambda client: client.read_task_runs(flow_run_id=found))


def stored_flow_state(run: State | UUID | str) -> State:
    """Return the state of a flow run as the store has it."""
    state = read_flow_run(run).state
    assert state is not None
    return state


def stored_task_state(run: State | UUID | str) -> State:
    """Return the state of a task run as the store has it."""
    state = read_task_run(run).state
    assert state is not None
    return state


def read_states(run_id: UUID | str) -> list[State]:
    found = as_id(run_id)
    return ask(lambda client: client.read_states(found))


def flow_history(run: State | UUID | str) -> list[str]:
    """Return the names of all states that a flow run went through."""
    return [state.name for state in read_states(flow_run_id(run))]


def task_history(run: State | UUID | str) -> list[str]:
    """Return the names of all states that a task run went through."""
    return [state.name for state in read_states(task_run_id(run))]


def child_flow_run(state: State) -> FlowRun:
    """Return the flow run that a subflow's state belongs to, found through its parent task run."""
    task_run = read_task_run(state)
    assert task_run.state is not None
    child = task_run.state.state_details.child_flow_run_id or task_run.child_flow_run_id
    assert child is not None
    return read_flow_run(child)


def input_ids(task_run: TaskRun) -> dict[str, list[UUID]]:
    """Return a task run's inputs by parameter, as ids of the upstream task runs."""
    return {name: [result.id for result in results] for name, results in task_run.task_inputs.items()}


def setting(**values: Any) -> Any:
    """Return a context in which settings, named without prefix, have other values."""
    return temporary_settings(values)


def wait_until_set(*events: threading.Event) -> None:
    """Block until all events are set; fails when one is not."""
    for event in events:
        assert event.wait(PATIENCE), "what should have happened at the same time did not happen"


async def until_set(*events: threading.Event) -> None:
    """Let other coroutines run until all events are set, whichever thread sets them; fails when one is not."""
    with anyio.fail_after(PATIENCE):
        for event in events:
            while not event.is_set():
                await anyio.sleep(0.001)


def block(seconds: float = PATIENCE) -> None:
    """Block in Python code, so that an exception injected into the thread interrupts it at once."""
    deadline = time.monotonic() + seconds
    never = threading.Event()
    while time.monotonic() < deadline:
        never.wait(0.005)


@contextmanager
def takes_less_than(seconds: float) -> Iterator[None]:
    """Fail when the block takes longer than `seconds`."""
    started = time.monotonic()
    yield
    taken = time.monotonic() - started
    assert taken < seconds, f"took {taken:.1f} s"
