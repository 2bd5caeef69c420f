"""Signals to whole processes: how they end, and what the store says of them afterwards (D25)."""

import os
import signal
import sys
import textwrap
from pathlib import Path

import pexpect
import pytest

from tests.behaviours.helpers import flow_history, read_flow_runs, read_task_runs, takes_less_than
from tests.faults.helpers import PATIENCE, script, states_of

RUNS_FOR_LONG = """
    import sys, threading, time
    from core_engine import flow, task
    from tests.behaviours.helpers import block
    from tests.faults.helpers import spin

    @task
    def mapped(index):
        if index >= 3:
            print("running", flush=True)
            block(60)
        return index

    @flow(task_runner={runner})
    def main_job():
        for future in mapped.map(range(100)):
            print("saw", future.result(), flush=True)

    main_job()
    """


def source(runner: str) -> str:
    imports = [
        "from runners.sequential import SequentialTaskRunner",
        "from runners.concurrent import ConcurrentTaskRunner",
    ]
    return "\n".join(imports) + textwrap.dedent(RUNS_FOR_LONG).format(runner=runner)


@pytest.mark.behaviour("D25", "CRASH-2", "I1")
@pytest.mark.parametrize("runner", ["SequentialTaskRunner()", "ConcurrentTaskRunner()"])
def test_a_process_that_is_interrupted_once_records_its_runs_and_ends_by_the_interrupt(tmp_path: Path, runner: str):
    with script(tmp_path, source(runner)) as running:
        running.await_line("running")
        with takes_less_than(PATIENCE / 2):
            running.send(signal.SIGINT)
            code, errors = running.end()

    assert code == -signal.SIGINT, errors
    assert errors.rstrip().endswith("KeyboardInterrupt")
    (run,) = read_flow_runs()
    assert run.state_type == "CRASHED"
    assert "interrupt signal" in run.state.message
    states = states_of(read_task_runs(run.id))
    assert len(states) == 100
    assert set(states) == {"COMPLETED", "CRASHED"}
    assert states[:3] == ["COMPLETED"] * 3


@pytest.mark.behaviour("D25", "CRASH-7", "I1")
@pytest.mark.parametrize("runner", ["SequentialTaskRunner()", "ConcurrentTaskRunner()"])
def test_a_process_that_is_terminated_records_its_runs_and_ends_by_the_signal(tmp_path: Path, runner: str):
    with script(tmp_path, source(runner)) as running:
        running.await_line("running")
        with takes_less_than(PATIENCE / 2):
            running.send(signal.SIGTERM)
            code, errors = running.end()

    assert code == -signal.SIGTERM, errors
    (run,) = read_flow_runs()
    assert run.state_type == "CRASHED"
    assert "termination signal" in run.state.message
    assert set(states_of(read_task_runs(run.id))) == {"COMPLETED", "CRASHED"}


# A task that cannot be interrupted: an orderly end would wait for it.
CANNOT_BE_INTERRUPTED = """
    import asyncio, threading
    from core_engine import flow, task

    @task
    def quick():
        return 1

    @task
    def stuck():
        while True:
            try:
                print("running", flush=True)
                threading.Event().wait(60)
            except BaseException:
                pass

    def hook(flow, flow_run, state):
        print("hook", flush=True)

    @flow(on_crashed=[hook])
    def main_job():
        print("saw", quick.submit().result(), flush=True)
        stuck.submit().result()

    @flow
    async def async_job():
        print("saw", quick.submit().result(), flush=True)
        stuck.submit()
        await asyncio.sleep(60)

    @flow
    def above_job():
        async_job()

    {call}
    """
WAYS = {"sync": "main_job()", "async": "asyncio.run(async_job())", "async below sync": "above_job()"}


def expect_that_all_was_recorded() -> None:
    """What the caller had seen is in the store, and that all the rest crashed."""
    for run in read_flow_runs():
        assert run.state_type == "CRASHED"
        found = {one.task_name: one.state_type.value for one in read_task_runs(run.id)}
        assert found in (
            {"quick": "COMPLETED", "stuck": "CRASHED"},
            {"async-job": "CRASHED"},
        )


@pytest.mark.behaviour("D25", "I1")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("way", list(WAYS))
def test_a_second_signal_ends_the_process_at_once(tmp_path: Path, number: int, way: str):
    source = CANNOT_BE_INTERRUPTED.format(call=WAYS[way])
    with script(tmp_path, source, CORE_ENGINE_GRACE_SECONDS="60") as running:
        running.await_line("running")
        running.send(number)
        # The first one waits for the task, however long.
        with pytest.raises(TimeoutError):
            running.await_end(0.5)
        with takes_less_than(PATIENCE / 2):
            running.send(number)
            code, errors = running.end()

    assert code == -number, errors
    assert "saw 1" in running.lines
    expect_that_all_was_recorded()


@pytest.mark.behaviour("D25", "I1")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("way", list(WAYS))
def test_the_end_of_the_grace_time_is_like_a_second_signal(tmp_path: Path, number: int, way: str):
    source = CANNOT_BE_INTERRUPTED.format(call=WAYS[way])
    with script(tmp_path, source, CORE_ENGINE_GRACE_SECONDS="0.3") as running:
        running.await_line("running")
        with takes_less_than(PATIENCE / 2):
            running.send(number)
            code, errors = running.end()

    assert code == -number, errors
    expect_that_all_was_recorded()


@pytest.mark.behaviour("D25")
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.faults), signal.SIGTERM])
def test_a_process_whose_main_thread_sits_in_c_code_ends_after_the_grace_time(tmp_path: Path, number: int):
    stuck = """
        import hashlib
        from core_engine import flow, task

        @task
        def quick():
            return 1

        @flow
        def main_job():
            quick.submit().result()
            print("running", flush=True)
            hashlib.pbkdf2_hmac("sha256", b"", b"", 500_000_000)

        main_job()
        """
    with script(tmp_path, stuck, CORE_ENGINE_GRACE_SECONDS="0.2") as running:
        running.await_line("running")
        with takes_less_than(PATIENCE / 2):
            running.send(number)
            code, errors = running.end()

    assert code == -number, errors
    (run,) = read_flow_runs()
    assert run.state_type == "CRASHED"


@pytest.mark.behaviour("D25")
@pytest.mark.parametrize("place", ["flow", pytest.param("hook", marks=pytest.mark.faults)])
def test_code_that_swallows_every_interrupt_does_not_keep_the_process(tmp_path: Path, place: str):
    swallows = f"""
        import time
        from core_engine import flow

        def swallow():
            print("running", flush=True)
            while True:
                try:
                    time.sleep(0.01)
                except BaseException:
                    pass

        @flow(on_completion=[lambda **known: swallow()])
        def main_job():
            if {place!r} == "flow":
                swallow()

        main_job()
        """
    with script(tmp_path, swallows, CORE_ENGINE_GRACE_SECONDS="0.2") as running:
        running.await_line("running")
        with takes_less_than(PATIENCE / 2):
            running.send(signal.SIGTERM)
            code, errors = running.end()

    assert code == -signal.SIGTERM, errors
    (run,) = read_flow_runs()
    assert run.state_type == ("CRASHED" if place == "flow" else "COMPLETED")


@pytest.mark.behaviour("FLOW-HOOK-8")
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_termination_signal_while_cancelling_runs_the_hooks_of_cancellation(tmp_path: Path, asynchronous: bool):
    cancelling = f"""
        import asyncio, threading
        from core_engine import flow, get_client, get_run_logger
        from core_engine.context import FlowRunContext
        from core_engine.states import Cancelling
        from tests.behaviours.helpers import block

        async def set_cancelling():
            async with get_client() as client:
                await client.set_flow_run_state(FlowRunContext.get().flow_run.id, Cancelling())

        def cancelled(flow, flow_run, state):
            print("cancellation", flush=True)

        def crashed(flow, flow_run, state):
            print("crash", flush=True)

        @flow(on_cancellation=[cancelled], on_crashed=[crashed])
        def sync_job():
            asyncio.run(set_cancelling())
            print("running", flush=True)
            block(60)

        @flow(on_cancellation=[cancelled], on_crashed=[crashed])
        async def async_job():
            await set_cancelling()
            print("running", flush=True)
            await asyncio.sleep(60)

        asyncio.run(async_job()) if {asynchronous} else sync_job()
        """
    with script(tmp_path, cancelling) as running:
        running.await_line("running")
        with takes_less_than(PATIENCE / 2):
            running.send(signal.SIGTERM)
            code, errors = running.end()

    assert code == -signal.SIGTERM, errors
    assert "cancellation" in running.lines
    assert "crash" not in running.lines
    (run,) = read_flow_runs()
    assert flow_history(run.id)[-2:] == ["Cancelling", "Cancelled"]


@pytest.mark.behaviour("D25")
def test_ignored_interrupts_stay_ignored(tmp_path: Path):
    ignores = """
        import os, signal
        from core_engine import flow

        signal.signal(signal.SIGINT, signal.SIG_IGN)

        @flow
        def main_job():
            os.kill(os.getpid(), signal.SIGINT)
            return "unharmed"

        print(main_job())
        """
    with script(tmp_path, ignores) as running:
        assert running.end()[0] == 0
    assert running.lines[-1] == "unharmed"


@pytest.mark.behaviour("D25")
def test_a_handler_of_the_users_own_is_left_in_its_place(tmp_path: Path):
    own = """
        import os, signal
        from core_engine import flow

        signal.signal(signal.SIGINT, lambda number, frame: print("the user's handler", flush=True))
        signal.signal(signal.SIGALRM, lambda number, frame: print("an alarm", flush=True))

        @flow
        def main_job():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGALRM)
            return "done"

        print(main_job())
        """
    with script(tmp_path, own) as running:
        assert running.end()[0] == 0
    assert running.lines == ["the user's handler", "an alarm", "done"]


@pytest.mark.behaviour("D25", "CRASH-2")
@pytest.mark.parametrize("runner", ["SequentialTaskRunner()", "ConcurrentTaskRunner()"])
def test_ctrl_c_typed_in_a_terminal_ends_the_flow_in_order(tmp_path: Path, runner: str):
    path = tmp_path / "typed.py"
    path.write_text(source(runner))
    terminal = pexpect.spawn(sys.executable, [str(path)], timeout=PATIENCE, env=dict(os.environ), encoding="utf-8")
    try:
        terminal.expect_exact("running")
        terminal.sendcontrol("c")
        terminal.expect_exact("KeyboardInterrupt")
        terminal.expect(pexpect.EOF)
        terminal.wait()
    finally:
        terminal.close(force=True)

    assert terminal.signalstatus == signal.SIGINT
    (run,) = read_flow_runs()
    assert run.state_type == "CRASHED"
    assert "interrupt signal" in run.state.message
    assert set(states_of(read_task_runs(run.id))) == {"COMPLETED", "CRASHED"}


@pytest.mark.behaviour("D25")
def test_ctrl_c_typed_twice_in_a_terminal_does_not_wait_for_what_cannot_be_interrupted(tmp_path: Path):
    path = tmp_path / "typed.py"
    path.write_text(textwrap.dedent(CANNOT_BE_INTERRUPTED.format(call=WAYS["sync"])))
    environment = {**os.environ, "CORE_ENGINE_GRACE_SECONDS": "60"}
    terminal = pexpect.spawn(sys.executable, [str(path)], timeout=PATIENCE, env=environment, encoding="utf-8")
    try:
        terminal.expect_exact("running")
        terminal.sendcontrol("c")
        with pytest.raises(pexpect.TIMEOUT):
            terminal.expect(pexpect.EOF, timeout=0.5)
        terminal.sendcontrol("c")
        terminal.expect(pexpect.EOF)
        terminal.wait()
    finally:
        terminal.close(force=True)

    (run,) = read_flow_runs()
    assert run.state_type == "CRASHED"
