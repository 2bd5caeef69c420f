"""What users do wrong, and what they are told: what it is, which value, what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from core_engine import flow, get_client, task
from core_engine.backend import open_backend
from core_engine.concurrency.waiting import step
from core_engine.exceptions import (
    MappingLengthMismatch,
    MappingMissingIterable,
    ParameterTypeError,
    ReservedArgumentError,
    SerializationError,
    StoreError,
    TaskRunnerNotInstalled,
    UnknownTaskRunner,
)
from core_engine.task_runners import get_task_runner
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner

RUNNERS = [SequentialTaskRunner, ConcurrentTaskRunner]
ROOT = Path(__file__).resolve().parents[2]


@task
def give(x):
    return x


def run_script(text: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in a process of its own, in `folder`."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text))
    return subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=folder,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("decorate", [flow, task], ids=["flow", "task"])
def test_something_that_is_no_function_is_refused_with_its_type(decorate):
    with pytest.raises(TypeError, match=r"'text'.*str.*cannot be called"):
        decorate("text")


@pytest.mark.parametrize("decorate", [flow, task], ids=["flow", "task"])
def test_a_parameter_with_a_name_that_calls_use_is_refused_by_name(decorate):
    with pytest.raises(ReservedArgumentError, match="'wait_for'"):
        decorate(lambda wait_for: wait_for)


def test_wrong_parameter_types_are_recorded_as_failed_with_each_reason():
    @flow
    def typed(count: int, ratio: float):
        return count

    state = typed("many", "some", return_state=True)

    recorded = step(get_client().read_flow_run(state.state_details.flow_run_id))
    assert recorded.state_name == "Failed"
    assert "count:" in recorded.state.message
    assert "ratio:" in recorded.state.message
    with pytest.raises(ParameterTypeError, match="count"):
        typed("many", 1.0)


def test_a_map_says_which_arguments_were_not_iterable_or_not_equally_long():
    @task
    def two(x, y):
        return x, y

    @flow
    def parent(x, y):
        return [future.result() for future in two.map(x, y)]

    with pytest.raises(MappingMissingIterable, match=r"x: int, y: int.*submit"):
        parent(1, 2)
    with pytest.raises(MappingLengthMismatch, match=r"x: 2, y: 3.*unmapped"):
        parent([1, 2], [1, 2, 3])


def test_a_task_outside_a_flow_or_inside_a_task_says_how_to_call_it():
    @task
    def outer():
        return give(1)

    @flow
    def parent():
        return outer()

    with pytest.raises(RuntimeError, match=r"outside a flow.*give\.fn\(\)"):
        give(1)
    with pytest.raises(RuntimeError, match=r"inside a task.*subflow.*give\.fn\(\)"):
        parent()


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_result_that_cannot_be_pickled_fails_its_run_and_is_named(runner):
    @task(persist_result=True)
    def locked():
        return {"good": 1, "handles": [threading.Lock()]}

    @flow(task_runner=runner)
    def parent():
        return locked.submit(return_state=True), give.submit(1).result()

    state, other = parent()

    assert other == 1
    assert state.name == "Failed"
    with pytest.raises(SerializationError, match=r"handles.*\[0\].*lock"):
        state.result()


def test_an_unknown_runner_lists_the_known_ones():
    with pytest.raises(UnknownTaskRunner, match=r"'dusk'.*concurrent, .*sequential"):
        flow(task_runner="dusk")(lambda: None)


def test_a_runner_whose_library_is_missing_prints_the_pip_command(monkeypatch):
    from importlib.metadata import EntryPoint

    from core_engine import task_runners

    missing = EntryPoint("cloudy", "no_such_library_of_clouds:Runner", "core_engine.task_runners")
    monkeypatch.setattr(task_runners, "entry_points", lambda group: [missing])

    with pytest.raises(
        TaskRunnerNotInstalled, match=r"no_such_library_of_clouds.*pip install \"core-engine\[cloudy\]\""
    ):
        get_task_runner("cloudy")


@pytest.mark.behaviour("D33")
def test_a_folder_of_the_users_that_hides_our_runners_is_named_with_ours(tmp_path):
    (tmp_path / "runners").mkdir()
    (tmp_path / "runners" / "__init__.py").write_text("")

    done = run_script(
        """
        from core_engine import flow
        flow(lambda: None)
        """,
        tmp_path,
    )

    assert done.returncode == 1
    assert f"{tmp_path / 'runners'} is found before {ROOT / 'runners'}" in done.stderr


@pytest.mark.behaviour("D33")
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_script_without_a_main_guard_runs_its_flow_once_and_is_told_of_the_guard(kind, tmp_path):
    define, call = ("def", "parent()") if kind == "sync" else ("async def", "asyncio.run(parent())")
    done = run_script(
        f"""
        import asyncio
        import multiprocessing

        from core_engine import flow

        def work():
            print("child at work", flush=True)

        @flow
        {define} parent():
            print("flow at work", flush=True)
            child = multiprocessing.get_context("spawn").Process(target=work)
            child.start()
            child.join()
            return child.exitcode

        print("returned", {call}, flush=True)
        """,
        tmp_path,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["flow at work", "returned None", "child at work", "returned 0"]
    assert done.stderr.count("if __name__ == '__main__':") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.behaviour("D33")
def test_a_process_forked_in_a_task_goes_its_own_way_and_the_flow_goes_on(tmp_path):
    done = run_script(
        """
        import os
        import warnings
        from core_engine import flow, task

        warnings.simplefilter("ignore")

        @task
        def forks():
            pid = os.fork()
            if pid == 0:
                print("child", flush=True)
                os._exit(7)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        @flow(task_runner="sequential")
        def parent():
            return forks(), forks.submit().result()

        print(parent())
        """,
        tmp_path,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["child", "child", "(7, 7)"]


class DiskFull(StoreError):
    """What a store says that has no room."""


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.behaviour("D3", "I1")
def test_a_full_disk_ends_the_run_with_its_error_and_keeps_what_was_acknowledged(runner, monkeypatch):
    seen = []
    store = open_backend().store
    apply = store.apply

    def full(entries):
        raise DiskFull("There is no space left for the database.")

    @flow(task_runner=runner)
    def parent():
        for index in range(10):
            future = give.submit(index)
            future.result()
            seen.append(future.task_run_id)
            if index == 4:
                monkeypatch.setattr(store, "apply", full)

    with pytest.raises(StoreError, match="no space left"):
        parent()

    monkeypatch.setattr(store, "apply", apply)
    assert len(seen) == 5
    assert [store.read_task_run(id).state_name for id in seen] == ["Completed"] * 5
