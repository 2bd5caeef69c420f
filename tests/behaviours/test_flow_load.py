"""FLOW-LOAD: runs that are created for later and executed by id. PAUSE: those that leave their process and go on."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from core_engine import resume_flow_run
from core_engine.backend import open_backend
from core_engine.engine import enter_flow_run_engine_from_subprocess, retrieve_flow_then_begin_flow_run
from core_engine.engine.__main__ import main
from core_engine.engine.flow_calls import UserThread
from core_engine.exceptions import Abort, FlowPauseTimeout, NotPausedError, Pause, PausedRun
from core_engine.schemas.records import FlowRun
from core_engine.states import Scheduled
from core_engine.testing import leaping_clock
from tests.behaviours.helpers import ask, flow_history, read_flow_run, read_task_runs

FLOWS = """
    import os
    import pathlib
    import signal
    import time
    from core_engine import flow, get_run_logger, pause_flow_run, task
    from core_engine.context import get_run_context
    from core_engine.runtime import flow_run

    HERE = pathlib.Path(__file__).parent

    @task(persist_result=True)
    def counts(name):
        with (HERE / name).open("a") as file:
            file.write("x")
        return name

    @flow(version="7", retries=1, retry_delay_seconds=0.5)
    def adds(x: int, y: int = 2):
        return x + y

    @flow
    async def adds_later(x: int):
        return x + 1

    @flow(retries=2)
    def fails():
        get_run_logger().info("the last line")
        raise ValueError("always")

    def says_its_last_line():
        get_run_logger().info("the last line")

    @flow
    def adds_one(x: int = 1):
        says_its_last_line()
        return x + 1

    @flow
    def ends_the_program():
        says_its_last_line()
        raise SystemExit(3)

    @flow
    def terminates_itself():
        says_its_last_line()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)

    @flow
    def interrupts_itself():
        says_its_last_line()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(20)

    @flow
    def two_steps(name: str = "two"):
        first = counts(name + "-before")
        says_its_last_line()
        pause_flow_run(timeout=600, reschedule=True)
        return first, counts(name + "-after")

    @flow
    async def two_async_steps():
        counts("async-before")
        await pause_flow_run(timeout=600, reschedule=True)
        return counts("async-after")

    @flow
    def pauses_itself_from_outside():
        counts("outside-before")
        pause_flow_run(flow_run_id=get_run_context().flow_run.id, timeout=600)
        return counts("outside-after")

    @flow(persist_result=True)
    def pauses_its_parent():
        counts("below-before")
        pause_flow_run(flow_run_id=flow_run.parent_flow_run_id, timeout=600)
        return counts("below-after")

    @flow
    def is_paused_by_its_subflow():
        pauses_its_parent()
        return counts("above-after")

    @task
    def forgets():
        return ["a value"]

    @flow
    def leaves_something_behind():
        forgets()
        pause_flow_run(reschedule=True)

    @flow
    def tells_of_itself():
        return flow_run.parent_deployment_id
"""

Create = Callable[..., UUID]


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    path = tmp_path / "flows.py"
    path.write_text(textwrap.dedent(FLOWS))
    return path


@pytest.fixture
def create(flows: Path) -> Create:
    """Create a run of one of the flows for later, and return its id."""

    def create(flow_name: str, *, entrypoint: str | None = None, state: Any = None, **parameters: Any) -> UUID:
        async def ask_client(client: Any) -> FlowRun:
            id = await client.create_deployment(flow_name, flow_name, entrypoint or f"{flows}:{flow_name}")
            return await client.create_flow_run_from_deployment(id, parameters=parameters, state=state, tags=["later"])

        return ask(ask_client).id

    return create


def execute(id: UUID, **variables: str) -> subprocess.CompletedProcess[str]:
    """Execute a run in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "core_engine.engine", str(id)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.behaviour("FLOW-LOAD-4", "FLOW-LOAD-5")
def test_a_run_created_for_later_is_completed_from_its_flow(create: Create):
    id = create("adds", x="1")
    waiting = read_flow_run(id)
    assert (waiting.state.name, waiting.owner, waiting.run_count) == ("Scheduled", None, 0)

    state = enter_flow_run_engine_from_subprocess(id)

    assert state.result() == 3
    run = read_flow_run(id)
    assert flow_history(id) == ["Scheduled", "Pending", "Running", "Completed"]
    assert (run.flow_version, run.retries, run.retry_delay_seconds) == ("7", 1, 0.5)
    assert run.parameters == {"x": "1", "y": 2}
    assert run.tags == {"later"}


@pytest.mark.behaviour("FLOW-LOAD-4")
@pytest.mark.anyio
@pytest.mark.parametrize("name", ["adds", "adds_later"])
async def test_a_run_created_for_later_is_executed_in_a_running_loop(create: Create, name: str):
    from core_engine import get_client

    id = create(name, x=1)
    async with get_client() as client:
        state = await retrieve_flow_then_begin_flow_run(id, client, UserThread(runs_function=True))
    assert await state.result(fetch=True) == (3 if name == "adds" else 2)


@pytest.mark.behaviour("FLOW-LOAD-4")
def test_an_async_flow_is_executed_by_id(create: Create):
    assert enter_flow_run_engine_from_subprocess(create("adds_later", x=1)).result() == 2


@pytest.mark.behaviour("FLOW-LOAD-5")
def test_a_loaded_flow_is_retried_as_it_says(create: Create):
    id = create("fails")
    assert enter_flow_run_engine_from_subprocess(id).is_failed()
    assert read_flow_run(id).run_count == 3


@pytest.mark.behaviour("FLOW-LOAD-6")
@pytest.mark.parametrize("parameters", [{"x": "one"}, {}, {"x": 1, "z": 2}], ids=["wrong", "missing", "unknown"])
def test_stored_parameters_that_do_not_fit_fail_the_run(create: Create, parameters: dict[str, Any]):
    id = create("adds", **parameters)
    state = enter_flow_run_engine_from_subprocess(id)
    assert state.is_failed()
    assert "Validation of flow parameters failed" in state.message
    assert read_flow_run(id).state.is_failed()


@pytest.mark.behaviour("FLOW-LOAD-7")
def test_a_flow_that_cannot_be_loaded_fails_its_run(create: Create, flows: Path, log: Any):
    flows.write_text("raise ValueError('broken')")
    id = create("adds", x=1)
    state = enter_flow_run_engine_from_subprocess(id)
    assert state.is_failed()
    assert "could not be loaded" in state.message
    assert flow_history(id) == ["Scheduled", "Failed"]
    assert any(record.exc_info for record in log.records if record.levelno == logging.ERROR)


@pytest.mark.behaviour("FLOW-LOAD-7")
def test_a_run_without_a_deployment_fails_with_that_reason(create: Create):
    id = create("adds", entrypoint="/nowhere/flows.py:adds", x=1)
    assert "/nowhere/flows.py" in enter_flow_run_engine_from_subprocess(id).message


@pytest.mark.behaviour("FLOW-LOAD-8", "FLOW-LOAD-9")
def test_the_engine_as_a_module_takes_the_run_from_its_argument_or_the_environment(
    create: Create, monkeypatch: pytest.MonkeyPatch
):
    first, second = create("adds", x=1), create("fails")
    assert execute(first).returncode == 0
    assert read_flow_run(first).state.is_completed()
    monkeypatch.setenv("CORE_ENGINE__FLOW_RUN_ID", str(second))
    assert main([]) == 0
    assert read_flow_run(second).state.is_failed()


@pytest.mark.behaviour("FLOW-LOAD-8")
@pytest.mark.parametrize("arguments", [[], ["no-id"]])
def test_without_a_usable_id_there_is_an_error_line(arguments: list[str], log: Any):
    assert main(arguments) == 1
    assert len(log.messages(logging.ERROR)) == 1


@pytest.mark.behaviour("FLOW-LOAD-9")
def test_what_is_unexpected_exits_with_1_and_an_exit_is_handed_on(create: Create):
    assert main([str(uuid4())]) == 1
    with pytest.raises(SystemExit):
        main([str(create("ends_the_program"))])


@pytest.mark.behaviour("FLOW-LOAD-8", "FLOW-LOAD-9")
@pytest.mark.parametrize(
    ("flow_name", "code", "state"),
    [
        ("adds_one", 0, "COMPLETED"),
        ("fails", 0, "FAILED"),
        ("two_steps", 0, "PAUSED"),
        ("ends_the_program", 3, "CRASHED"),
        ("terminates_itself", -signal.SIGTERM, "CRASHED"),
        ("interrupts_itself", -signal.SIGINT, "CRASHED"),
    ],
)
def test_the_exit_code_of_the_process_tells_whether_the_run_came_to_a_state(
    create: Create, flow_name: str, code: int, state: str
):
    id = create(flow_name)
    ended = execute(id)
    assert ended.returncode == code, ended.stderr
    assert read_flow_run(id).state_type == state
    # What the flow said last is there: lines are stored before the process ends.
    assert "the last line" in said(id)


def said(id: UUID) -> list[str]:
    return [stored.entry.message for stored in ask(lambda client: client.read_logs(id))]


@pytest.mark.behaviour("FLOW-LOAD-9")
def test_a_process_that_is_not_to_execute_its_run_exits_with_0_and_one_that_cannot_with_1(create: Create):
    ended = create("adds", x=1)
    enter_flow_run_engine_from_subprocess(ended)
    told = {id: execute(id) for id in (ended, uuid4())}

    assert [done.returncode for done in told.values()] == [0, 1]
    assert "was not executed here" in told[ended].stderr
    assert "could not be executed" in [*told.values()][1].stderr


@pytest.mark.behaviour("FLOW-LOAD-9", "I9")
def test_a_run_is_not_executed_twice(create: Create):
    id = create("adds", x=1)
    assert enter_flow_run_engine_from_subprocess(id).is_completed()
    history = flow_history(id)
    assert main([str(id)]) == 0
    with pytest.raises(Abort, match="has ended"):
        enter_flow_run_engine_from_subprocess(id)
    assert flow_history(id) == history


@pytest.mark.behaviour("ORCH-14")
def test_a_run_that_has_ended_is_executed_again_when_it_is_scheduled_anew(create: Create):
    id = create("adds", x=1)
    assert enter_flow_run_engine_from_subprocess(id).is_completed()
    ask(lambda client: client.set_flow_run_state(id, Scheduled()))
    assert enter_flow_run_engine_from_subprocess(id).is_completed()
    assert flow_history(id) == ["Scheduled", "Pending", "Running", "Completed"] * 2
    assert read_flow_run(id).execution == 2


def test_a_run_that_a_living_process_has_taken_is_not_executed_by_another(create: Create):
    from core_engine.backend import open_backend

    id = create("adds", x=1)
    backend = open_backend()
    assert backend.store.claim_flow_run(id, backend.lease.name, None)
    with pytest.raises(Abort, match="being executed"):
        enter_flow_run_engine_from_subprocess(id)
    assert flow_history(id) == ["Scheduled"]


def test_of_two_processes_that_take_a_run_at_once_one_executes_it(create: Create):
    id = create("adds", x=1)
    command = [sys.executable, "-m", "core_engine.engine", str(id)]
    both = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(50) for process in both] == [0, 0]
    assert flow_history(id) == ["Scheduled", "Pending", "Running", "Completed"]


@pytest.mark.behaviour("FLOW-LOAD-10", "ORCH-4")
def test_a_run_waits_until_it_is_due(create: Create):
    due = datetime.now(UTC) + timedelta(hours=1)
    with leaping_clock() as clock:
        state = enter_flow_run_engine_from_subprocess(create("adds", state=Scheduled(due), x=1))
        assert state.is_completed()
        assert state.timestamp >= due
    assert clock.waited == pytest.approx(3600, abs=60)
    past = Scheduled(datetime.now(UTC) - timedelta(hours=1))
    with leaping_clock() as clock:
        assert enter_flow_run_engine_from_subprocess(create("adds", state=past, x=1)).is_completed()
    assert clock.waited == 0


def test_a_secret_is_not_stored_for_another_process(create: Create):
    with pytest.raises(ValueError, match="api_token"):
        create("adds", api_token="secret")
    with pytest.raises(ValueError, match="cannot be stored"):
        create("adds", x=object())


def test_a_deployment_that_is_made_again_keeps_its_id(create: Create, flows: Path):
    async def deploys(client: Any) -> Any:
        first = await client.create_deployment("nightly", "adds", f"{flows}:adds", {"x": 1})
        second = await client.create_deployment("nightly", "fails", f"{flows}:fails")
        return first, second, await client.read_deployment_by_name("nightly"), await client.read_deployments()

    first, second, found, every = ask(deploys)
    assert first == second == found.id
    assert (found.flow_name, found.parameters) == ("fails", {})
    assert every == [found]


@pytest.mark.behaviour("RT-1")
def test_a_run_knows_its_deployment(create: Create):
    id = create("tells_of_itself")
    assert enter_flow_run_engine_from_subprocess(id).result() == str(read_flow_run(id).deployment_id)


# Pauses in which the process leaves -----------------------------------------------------------------------------------


@pytest.mark.behaviour("PAUSE-6", "PAUSE-7", "PAUSE-9", "PAUSE-14")
def test_a_flow_that_leaves_in_a_pause_goes_on_in_another_process(create: Create, flows: Path, log: Any):
    id = create("two_steps")
    with pytest.raises(Pause):
        enter_flow_run_engine_from_subprocess(id)
    paused = read_flow_run(id)
    assert (paused.state.name, paused.owner) == ("Paused", None)
    assert len(read_task_runs(id)) == 1
    assert f"before {paused.state.state_details.pause_timeout.isoformat()}" in log.text

    resume_flow_run(id)
    resumed = read_flow_run(id).state
    assert (resumed.type, resumed.name) == ("SCHEDULED", "Resuming")
    assert resumed.state_details.scheduled_time <= datetime.now(UTC)

    ended = execute(id)
    assert ended.returncode == 0, ended.stderr
    run = read_flow_run(id)
    assert run.state.is_completed(), run.state
    assert run.run_count == 1
    assert flow_history(id) == [
        *("Scheduled", "Pending", "Running", "Paused"),
        *("Resuming", "Pending", "Running", "Completed"),
    ]
    assert (flows.parent / "two-before").read_text() == "x"
    assert (flows.parent / "two-after").read_text() == "x"


@pytest.mark.behaviour("PAUSE-7", "FLOW-LOAD-9", "CRASH-6")
def test_a_process_that_a_pause_ends_exits_with_0(create: Create):
    id = create("two_async_steps")
    ended = execute(id)
    assert ended.returncode == 0, ended.stderr
    assert read_flow_run(id).state.is_paused()
    resume_flow_run(id)
    assert enter_flow_run_engine_from_subprocess(id).is_completed()


def test_a_paused_run_is_not_executed(create: Create):
    id = create("two_steps")
    for _ in range(2):
        with pytest.raises(Pause):
            enter_flow_run_engine_from_subprocess(id)
        assert (read_flow_run(id).state.name, read_flow_run(id).owner) == ("Paused", None)


@pytest.mark.behaviour("PAUSE-10", "PAUSE-11")
def test_a_pause_from_outside_ends_the_process_at_the_next_task(create: Create, flows: Path):
    id = create("pauses_itself_from_outside")
    state = enter_flow_run_engine_from_subprocess(id)
    assert state.is_paused()
    with pytest.raises(PausedRun):
        state.result()
    assert state.state_details.pause_reschedule
    assert sorted(run.state.name for run in read_task_runs(id)) == ["Completed", "NotReady"]
    assert not (flows.parent / "outside-after").exists()
    assert read_flow_run(id).owner is None
    resume_flow_run(id)
    assert read_flow_run(id).state.name == "Resuming"


@pytest.mark.behaviour("PAUSE-9", "PAUSE-10", "PAUSE-11")
def test_a_subflow_that_runs_ends_before_its_parent_leaves_and_is_not_repeated(create: Create, flows: Path):
    id = create("is_paused_by_its_subflow")

    assert enter_flow_run_engine_from_subprocess(id).is_paused()
    (stand_in,) = [run for run in read_task_runs(id) if run.is_subflow]
    assert stand_in.state.is_completed()
    assert (flows.parent / "below-after").read_text() == "x"
    assert not (flows.parent / "above-after").exists()

    resume_flow_run(id)
    ended = execute(id)
    assert ended.returncode == 0, ended.stderr
    assert [(flows.parent / name).read_text() for name in ("below-before", "below-after", "above-after")] == ["x"] * 3


@pytest.mark.behaviour("PAUSE-13")
def test_a_run_that_left_is_not_resumed_after_its_deadline(create: Create):
    id = create("two_steps")
    with pytest.raises(Pause):
        enter_flow_run_engine_from_subprocess(id)
    with leaping_clock() as clock:
        clock.leap(1_000)
        with pytest.raises(FlowPauseTimeout, match="never resumed"):
            resume_flow_run(id)
    assert read_flow_run(id).state.is_failed()
    with pytest.raises(NotPausedError):
        resume_flow_run(id)


def test_what_will_be_executed_again_after_a_resume_is_told(create: Create, log: Any):
    with pytest.raises(Pause):
        enter_flow_run_engine_from_subprocess(create("leaves_something_behind"))
    (told,) = log.messages(logging.WARNING)
    assert "forgets" in told
    assert "persist_result=True" in told


@pytest.mark.behaviour("D2")
@pytest.mark.parametrize("leaves_in_a_pause", [False, True])
def test_a_run_that_no_process_executes_is_cancelled_at_once(create: Create, leaves_in_a_pause: bool):
    id = create("two_steps")
    if leaves_in_a_pause:
        with pytest.raises(Pause):
            enter_flow_run_engine_from_subprocess(id)

    ask(lambda client: client.cancel_flow_run(id))

    run = read_flow_run(id)
    assert (run.state.name, run.owner) == ("Cancelled", None)
    with pytest.raises(Abort, match="has ended"):
        enter_flow_run_engine_from_subprocess(id)
    ask(lambda client: client.cancel_flow_run(id))
    assert read_flow_run(id).state.id == run.state.id


@pytest.mark.behaviour("D2")
def test_a_task_run_of_a_flow_run_that_no_process_executes_is_cancelled_at_once(create: Create):
    id = create("pauses_itself_from_outside")
    assert enter_flow_run_engine_from_subprocess(id).is_paused()
    (left,) = [run for run in read_task_runs(id) if not run.state.is_final()]

    ask(lambda client: client.cancel_task_run(left.id))

    assert sorted(run.state.name for run in read_task_runs(id)) == ["Cancelled", "Completed"]
    assert (read_flow_run(id).state.name, read_flow_run(id).owner) == ("Paused", None)


@pytest.mark.behaviour("D2")
def test_a_run_that_a_process_takes_while_it_is_being_cancelled_is_asked_of_it(
    create: Create, monkeypatch: pytest.MonkeyPatch
):
    id = create("adds", x=1)
    store = open_backend().store
    monkeypatch.setattr(store, "claim_flow_run", lambda *_: False)

    ask(lambda client: client.cancel_flow_run(id))

    assert [request.kind for request in store.read_requests([id])] == ["cancel"]
    assert read_flow_run(id).state.is_scheduled()
