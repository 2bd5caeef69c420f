"""A resumable flow is killed in the middle of a map and resumed on another runner; each item's effect is counted."""

import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

from core_engine.backend import open_backend
from core_engine.schemas.records import FlowRun

SOURCE = """
    import os
    import sys
    from pathlib import Path

    from core_engine import flow, task, unmapped

    EFFECTS = Path(__file__).with_name("effects")


    @task
    def work(index, shared):
        # One write of a few bytes at the end of a file is not torn, whoever else writes there.
        file = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, b"%d\\n" % index)
        os.close(file)
        if index == {tell_at}:
            print("half way", flush=True)
        return [index, shared["factor"]]


    @flow
    def job(count: int):
        values = [future.result() for future in work.map(range(count), unmapped({{"factor": 3}}))]
        return sum(index * factor for index, factor in values)
    """


def core_engine(*arguments: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "core_engine.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]


def killed_half_way(script: Path, count: int, runner: str) -> FlowRun:
    """Run the flow until half of its map is done, and kill it; return its run as the store then has it."""
    script.write_text(textwrap.dedent(SOURCE.format(tell_at=count // 2)))
    process = core_engine("run", f"{script}:job", "-p", f"count={count}", "--runner", runner, "--resumable", "-q")
    assert process.stdout is not None
    assert process.stdout.readline() == "half way\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    store = open_backend().store
    store.reconcile(time.time())
    (run,) = store.read_flow_runs()
    return run


def expect_each_effect_once(script: Path, count: int, first: str, second: str) -> None:
    run = killed_half_way(script, count, first)
    store = open_backend().store
    effects = script.with_name("effects")
    done_before = Counter(map(int, effects.read_text().split()))
    stored = {int(one.dynamic_key) for one in store.read_task_runs(run.id) if one.state.is_completed()}
    assert run.state.is_crashed()
    assert 0 < len(stored) < count

    process = core_engine("resume", run.id, "--runner", second, "-q")
    out, errors = process.communicate(timeout=240)

    assert process.returncode == 0, errors
    assert f"{len(stored):,} of {len(stored):,} completed task runs have a stored result" in out
    assert f"{len(stored):,} task runs used again with their stored results" in out
    assert f"{count - len(stored):,} task runs executed." in out
    total = Counter(map(int, effects.read_text().split()))
    again = total - done_before
    assert set(total) == set(range(count))
    # What had been stored is not executed again, and what had not is, once.
    assert set(again) == set(range(count)) - stored
    assert set(again.values()) == {1}
    (resumed,) = store.read_flow_runs()
    assert resumed.state.result() == 3 * sum(range(count))
    assert [one.state_name for one in store.read_task_runs(run.id)] == ["Completed"] * count


@pytest.mark.parametrize(("first", "second"), [("concurrent", "sequential"), ("sequential", "concurrent")])
def test_a_killed_flow_is_resumed_on_another_runner(tmp_path: Path, first: str, second: str):
    expect_each_effect_once(tmp_path / "job.py", 300, first, second)


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("second", ["sequential", "dask", "ray"])
def test_a_large_map_that_was_killed_is_resumed_on_another_runner(tmp_path: Path, second: str):
    expect_each_effect_once(tmp_path / "job.py", 10_000, "concurrent", second)
