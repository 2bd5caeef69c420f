"""Processes that user code forks off inside a run: they go their own way, and the flow goes on (D33)."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.behaviours.helpers import read_flow_runs, read_task_runs

pytestmark = [pytest.mark.behaviour("D33")]


def run_script(body: str, folder: Path) -> subprocess.CompletedProcess[str]:
    start = """
        import multiprocessing, os, signal, sys, warnings
        from core_engine import flow, get_run_logger, task

        # Python warns of forks in programs with threads.
        warnings.simplefilter("ignore")

        def forked(work):
            pid = os.fork()
            if pid == 0:
                return work()
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        """
    path = folder / "script.py"
    path.write_text(textwrap.dedent(start) + textwrap.dedent(body))
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=50)


@pytest.mark.parametrize("runner", ["sequential", "concurrent"])
def test_a_child_that_comes_to_the_end_of_its_task_ends_there(tmp_path: Path, runner: str):
    done = run_script(
        f"""
        @task
        def item(index):
            os.write(1, b"item %d\\n" % index)
            if index == 1:
                return forked(lambda: "what nobody gets")
            if index == 2:
                return forked(lambda: sys.exit(5))
            if index == 3:
                return forked(lambda: 1 / 0)
            return index

        @flow(task_runner={runner!r})
        def parent():
            return [future.result() for future in item.map(range(50))]

        print(parent())
        """,
        tmp_path,
    )

    assert done.returncode == 0, done.stderr
    *items, result = done.stdout.splitlines()
    assert sorted(items) == sorted(f"item {index}" for index in range(50))
    assert result == str([0, 0, 5, 1, *range(4, 50)])
    assert done.stderr.count("ZeroDivisionError") == 1
    (run,) = read_flow_runs()
    assert [one.state_type for one in read_task_runs(run.id)] == ["COMPLETED"] * 50


@pytest.mark.parametrize("runner", ["sequential", "concurrent"])
def test_a_child_is_silent_and_its_own_flows_are_recorded(tmp_path: Path, runner: str):
    done = run_script(
        f"""
        @task
        def double(x):
            return 2 * x

        @flow(task_runner={runner!r})
        def of_the_child():
            return double(1) + sum(future.result() for future in double.map(range(3)))

        def work():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            get_run_logger().info("said by the child")
            sys.exit(of_the_child())

        @task
        def forks():
            child = multiprocessing.get_context("fork").Process(target=work)
            child.start()
            child.join()
            return child.exitcode

        @flow(task_runner={runner!r})
        def parent():
            return [forks.submit().result() for _ in range(5)]

        print(parent())
        """,
        tmp_path,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[8, 8, 8, 8, 8]"]
    runs = read_flow_runs(order="asc")
    assert [(run.flow_name, run.state_type.value, run.parent_task_run_id) for run in runs] == [
        ("parent", "COMPLETED", None),
        *[("of-the-child", "COMPLETED", None)] * 5,
    ]


def test_a_child_of_a_flows_function_is_told_that_the_flows_tasks_do_not_run_there(tmp_path: Path):
    done = run_script(
        """
        @task
        def double(x):
            return 2 * x

        def work():
            try:
                double(1)
            except RuntimeError as error:
                print(error, flush=True)
            sys.exit(double.fn(2))

        @flow
        def parent():
            assert double(1) == 2
            return forked(work)

        print(parent())
        """,
        tmp_path,
    )

    assert done.returncode == 0, done.stderr
    said, result = done.stdout.splitlines()
    assert "'double'" in said
    assert "forked off" in said
    assert "double.fn()" in said
    assert result == "4"


def test_signals_to_a_child_end_the_child_alone(tmp_path: Path):
    done = run_script(
        """
        import time

        @task
        def forks():
            readable, writable = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.write(writable, b"ready")
                time.sleep(60)
            os.read(readable, 5)
            os.kill(pid, signal.SIGTERM)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        @flow
        def parent():
            return forks.submit().result()

        print(parent())
        """,
        tmp_path,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["-15"]
    (run,) = read_flow_runs()
    assert run.state_type == "COMPLETED"
