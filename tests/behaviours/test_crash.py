"""CRASH: what ends a run other than its own code."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from core_engine import flow, task
from core_engine.exceptions import Abort, CrashedRun, Pause, TerminationSignal
from core_engine.task_runners import BaseTaskRunner, ConcurrentTaskRunner
from tests.behaviours.conftest import LogRecords
from tests.behaviours.helpers import PATIENCE, block, read_flow_run, read_flow_runs, read_task_runs


class CustomError(Exception):
    pass


@pytest.mark.behaviour("CRASH-1", "I7")
@pytest.mark.parametrize("exception", [CustomError("x"), ZeroDivisionError(), OSError(), TimeoutError()], ids=repr)
def test_an_exception_of_the_users_code_is_a_failure(exception: Exception):
    @task
    def fails():
        raise exception

    task_types = []

    @flow
    def parent():
        task_types.append(fails(return_state=True).type.value)
        raise exception

    assert parent(return_state=True).is_failed()
    assert task_types == ["FAILED"]
    assert read_flow_runs()[0].state_type == "FAILED"


@pytest.mark.behaviour("CRASH-1", "CRASH-5")
@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_a_base_exception_in_a_flow_is_a_crash_and_raised(exception: type[BaseException]):
    @flow
    def crashes():
        raise exception

    with pytest.raises(exception):
        crashes()

    (run,) = read_flow_runs()
    assert run.state_type == "CRASHED"
    assert "abort" in run.state.message.lower()


@pytest.mark.behaviour("CRASH-2")
@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("way", ["call", "submit"])
def test_an_interrupt_in_a_task_crashes_task_and_flow(runner: BaseTaskRunner, exception: type[BaseException], way: str):
    @task
    def crashes():
        raise exception

    @flow(task_runner=runner)
    def parent():
        return crashes() if way == "call" else crashes.submit().result()

    with pytest.raises(exception):
        parent()

    (flow_run,) = read_flow_runs()
    (task_run,) = read_task_runs(flow_run.id)
    for run in (flow_run, task_run):
        assert run.state_type == "CRASHED"
        assert "abort" in run.state.message.lower()
        with pytest.raises(CrashedRun, match="(?i)abort"):
            run.state.result()


def break_everywhere(monkeypatch: pytest.MonkeyPatch, name: str, replacement: Any) -> None:
    """Replace a function of the engine wherever one of its modules has it by name."""
    for module in [module for key, module in sys.modules.items() if key.startswith("core_engine")]:
        if name in vars(module):
            monkeypatch.setattr(module, name, replacement)


@pytest.mark.behaviour("CRASH-3", "I7")
def test_an_error_of_the_engine_crashes_the_task_and_fails_the_flow(monkeypatch: pytest.MonkeyPatch):
    @task
    def untouched():
        pytest.fail("The function ran")

    @flow
    def parent():
        untouched.submit().wait()

    async def broken(*args: Any, **kwargs: Any) -> Any:
        raise ValueError("the engine broke")

    break_everywhere(monkeypatch, "orchestrate_task_run", broken)
    state = parent(return_state=True)
    (task_run,) = read_task_runs(state)

    assert task_run.state_type == "CRASHED"
    assert "ValueError" in task_run.state.message
    assert "the engine broke" in task_run.state.message
    assert "unexpected" in task_run.state.message.lower()
    assert state.is_failed()
    assert "1/1" in state.message


@pytest.mark.behaviour("CRASH-4")
def test_crash_messages_tell_their_kinds_apart():
    messages = {}
    for exception in (KeyboardInterrupt, SystemExit):

        @flow(name=f"crashes by {exception.__name__}")
        def crashes():
            raise exception  # noqa: B023 called in this iteration only

        with pytest.raises(exception):
            crashes()
        messages[exception] = read_flow_runs(flow_name=f"crashes by {exception.__name__}")[0].state.message

    assert messages[KeyboardInterrupt] != messages[SystemExit]
    assert "interrupt" in messages[KeyboardInterrupt].lower()
    assert "exit" in messages[SystemExit].lower()


@pytest.mark.behaviour("CRASH-1", "CRASH-4", "CRASH-5")
@pytest.mark.anyio
async def test_cancellation_from_outside_crashes_an_async_flow():
    started = anyio.Event()

    @flow
    async def cancelled():
        started.set()
        await anyio.sleep(PATIENCE)

    async def call() -> None:
        await cancelled()

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        with anyio.fail_after(PATIENCE):
            await started.wait()
        group.cancel_scope.cancel()

    (run,) = read_flow_runs()
    assert run.state_type == "CRASHED"
    assert "cancel" in run.state.message.lower()


@pytest.mark.behaviour("CRASH-5")
def test_a_crashed_flow_is_logged_with_details_and_its_hooks_run(log: LogRecords):
    called = []

    def hook(flow, flow_run, state):
        called.append((state.type.value, read_flow_run(flow_run.id).state_type.value))

    @flow(on_crashed=[hook])
    def crashes():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crashes()

    assert called == [("CRASHED", "CRASHED")]
    assert any("rash" in message for message in log.messages(logging.ERROR))
    debug = [record for record in log.records if record.levelno == logging.DEBUG and record.exc_info]
    assert any(record.exc_info[0] is KeyboardInterrupt for record in debug)


@pytest.mark.behaviour("CRASH-7")
def test_a_termination_signal_crashes_the_run_and_goes_on_to_the_earlier_handler():
    received = []

    def earlier(number, frame):
        received.append(number)

    before = signal.signal(signal.SIGTERM, earlier)

    @flow
    def terminated():
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(PATIENCE)

    try:
        with pytest.raises(TerminationSignal):
            terminated()
        assert signal.getsignal(signal.SIGTERM) is earlier
    finally:
        signal.signal(signal.SIGTERM, before)

    (run,) = read_flow_runs()
    assert run.state_type == "CRASHED"
    assert "terminat" in run.state.message.lower()
    assert received == [signal.SIGTERM]


@pytest.mark.behaviour("CRASH-7", "I1")
def test_a_process_that_is_terminated_records_the_crash_and_ends_by_the_signal(tmp_path: Path):
    script = tmp_path / "terminated.py"
    script.write_text(
        textwrap.dedent(
            """
            import threading
            from core_engine import flow

            @flow
            def waits_for_its_end():
                print("running", flush=True)
                threading.Event().wait(30)

            waits_for_its_end()
            """
        )
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "running"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()

    assert process.returncode == -signal.SIGTERM, errors
    (run,) = read_flow_runs(flow_name="waits-for-its-end")
    assert run.state_type == "CRASHED"


@pytest.mark.behaviour("CRASH-7")
def test_no_handler_is_installed_outside_the_main_thread():
    handlers, before = [], signal.getsignal(signal.SIGTERM)

    @flow
    def looks():
        handlers.append(signal.getsignal(signal.SIGTERM))
        return 1

    thread = threading.Thread(target=looks)
    thread.start()
    thread.join()

    assert handlers == [before]


@pytest.mark.behaviour("CRASH-8")
@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_task_nobody_looked_at_is_recorded_and_raised_at_the_end(exception: type[BaseException]):
    @task
    def crashes():
        raise exception

    @flow
    def parent():
        crashes.submit()
        return "a value of its own"

    with pytest.raises(exception):
        parent()

    (flow_run,) = read_flow_runs()
    (task_run,) = read_task_runs(flow_run.id)
    assert task_run.state_type == "CRASHED"


@pytest.mark.behaviour("CRASH-9")
@pytest.mark.parametrize("kind", [Abort, Pause, TerminationSignal])
def test_internal_signals_are_not_swallowed_by_except_exception(kind: type[BaseException]):
    assert issubclass(kind, BaseException)
    assert not issubclass(kind, Exception)


@pytest.mark.behaviour("D25")
@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_flow_waits_neither_for_its_task_runs_nor_starts_more(exception: type[BaseException]):
    started = threading.Event()
    begun = []

    @task
    def runs_on(number: int):
        begun.append(number)
        started.set()
        while True:
            pass

    @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    def parent():
        runs_on.map(range(10))
        assert started.wait(PATIENCE)
        raise exception

    with pytest.raises(exception):
        parent()

    (run,) = read_flow_runs()
    assert begun == [0]
    assert {child.state_type.value for child in read_task_runs(run.id)} == {"CRASHED"}


@pytest.mark.behaviour("D25")
def test_a_task_that_is_called_is_interrupted_with_its_flow():
    @task
    def runs_on():
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            pass

    with pytest.raises(KeyboardInterrupt):
        flow(lambda: runs_on())()

    (run,) = read_flow_runs()
    assert run.state_type == "CRASHED"
    assert [child.state_type for child in read_task_runs(run.id)] == ["CRASHED"]


@pytest.mark.behaviour("CRASH-2", "D25")
def test_interrupted_task_runs_are_told_of_in_one_line_those_of_subflows_too(log: LogRecords):
    begun = threading.Semaphore(0)

    @task
    def runs_on():
        begun.release()
        block()

    @flow(task_runner=ConcurrentTaskRunner(max_workers=8))
    def child():
        for _ in range(2):
            runs_on.submit()
        for _ in range(5):
            assert begun.acquire(timeout=PATIENCE)
        os.kill(os.getpid(), signal.SIGINT)
        block()

    @flow(task_runner=ConcurrentTaskRunner(max_workers=8))
    def parent():
        for _ in range(3):
            runs_on.submit()
        child()

    with pytest.raises(KeyboardInterrupt):
        parent()

    errors = log.messages(logging.ERROR)
    assert [line for line in errors if "task runs that ran were interrupted" in line] == [
        "5 task runs that ran were interrupted and crashed with the flow run"
    ]
    assert len([line for line in errors if line.startswith("Crash detected!")]) == 2
    ended = [one.state_type for run in read_flow_runs() for one in read_task_runs(run.id) if not one.is_subflow]
    assert ended == ["CRASHED"] * 5
