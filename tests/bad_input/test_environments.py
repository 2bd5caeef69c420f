"""Homes, databases and disks that cannot be used: a flow says so at its call, and nothing is overwritten."""

import asyncio
import hashlib
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from core_engine import flow, task
from core_engine.backend import homes, open_backend
from core_engine.exceptions import DatabaseDamaged, DatabaseTooNew, StoreError, StoreUnavailable, UnsafeHome
from core_engine.task_runners import BaseTaskRunner
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner
from tests.behaviours.helpers import PATIENCE, read_flow_runs, read_task_runs, setting, takes_less_than


@task
def give(x: Any) -> Any:
    return x


@flow
def job() -> Any:
    return give.submit(1).result()


@flow
async def async_job() -> Any:
    return give.submit(1).result()


def call_sync() -> Any:
    return job()


def call_async() -> Any:
    return asyncio.run(async_job())


CALLS = pytest.mark.parametrize("call", [call_sync, call_async])
RUNNERS = pytest.mark.parametrize(
    "runner", [SequentialTaskRunner(), ConcurrentTaskRunner()], ids=["sequential", "concurrent"]
)


def files_in(folder: Path) -> dict[str, str]:
    """Return a fingerprint of each file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@CALLS
def test_a_home_that_cannot_be_made_is_named_with_what_to_set(call: Any, tmp_path: Path):
    (tmp_path / "file").write_text("the user's")
    home = tmp_path / "file" / "home"

    with pytest.warns(UserWarning, match="cannot be made"), setting(HOME=str(home)):
        with pytest.raises(StoreUnavailable) as raised:
            call()

    assert str(home) in str(raised.value)
    assert "Set CORE_ENGINE_HOME" in str(raised.value)
    assert (tmp_path / "file").read_text() == "the user's"


@CALLS
def test_a_home_that_cannot_be_written_is_named_with_what_to_set(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    home = tmp_path / "home"
    home.mkdir()
    # Whoever runs the tests may be allowed to write everywhere.
    monkeypatch.setattr(homes.os, "access", lambda path, mode: False)

    with setting(HOME=str(home)), pytest.raises(StoreUnavailable) as raised:
        call()

    assert str(home) in str(raised.value)
    assert "cannot be written" in str(raised.value)
    assert "CORE_ENGINE_HOME" in str(raised.value)
    assert files_in(home) == {}


@CALLS
@pytest.mark.behaviour("D30")
def test_a_home_on_a_network_file_system_is_refused_with_the_ways_out(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    table = tmp_path / "mounts"
    table.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/export {tmp_path}/far nfs4 rw 0 0\n")
    monkeypatch.setattr(homes, "MOUNT_TABLE", table)
    home = tmp_path / "far" / "home"

    with setting(HOME=str(home)), pytest.raises(UnsafeHome) as raised:
        call()

    for text in (str(home), "nfs4", "CORE_ENGINE_HOME", "CORE_ENGINE_ALLOW_NETWORK_HOME"):
        assert text in str(raised.value)
    assert files_in(home) == {}

    with setting(HOME=str(home), ALLOW_NETWORK_HOME="true"):
        assert call() == 1
        open_backend().close()


@CALLS
@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_damaged_database_is_named_and_left_as_it_is(call: Any, tmp_path: Path, content: bytes):
    (tmp_path / "core_engine.db").write_bytes(content)

    with setting(HOME=str(tmp_path)), pytest.raises(DatabaseDamaged) as raised:
        call()

    for text in (str(tmp_path / "core_engine.db"), "Nothing was changed", "Move the file away"):
        assert text in str(raised.value)
    assert (tmp_path / "core_engine.db").read_bytes() == content


@CALLS
def test_a_newer_database_is_named_and_left_as_it_is(call: Any, tmp_path: Path):
    with setting(HOME=str(tmp_path)):
        assert call() == 1
        open_backend().close()
        with sqlite3.connect(tmp_path / "core_engine.db") as db:
            db.execute("UPDATE alembic_version SET version_num = '9999'")
        db.close()
        before = files_in(tmp_path)

        with pytest.raises(DatabaseTooNew) as raised:
            call()

    for text in (str(tmp_path / "core_engine.db"), "'9999'", "Nothing was changed", "Upgrade core_engine"):
        assert text in str(raised.value)
    assert files_in(tmp_path)["core_engine.db"] == before["core_engine.db"]


def test_a_database_that_is_damaged_while_flows_run_ends_the_run_with_a_clear_error():
    backend = open_backend()

    @flow
    def parent() -> Any:
        first = give.submit(1).result()
        # As if another program had written over it.
        with open(backend.store.path, "r+b") as file:
            file.write(b"\x00" * 100_000)
        for suffix in ("-wal", "-shm"):
            path = Path(f"{backend.store.path}{suffix}")
            if path.exists():
                path.write_bytes(b"\x00" * path.stat().st_size)
        return first + give.submit(2).result() + read_back()

    def read_back() -> int:
        return len(read_flow_runs())

    with pytest.raises(StoreError, match="damaged|refused|I/O"):
        parent()


def test_two_processes_that_write_at_once_record_everything_of_both(tmp_path: Path):
    path = tmp_path / "writes.py"
    path.write_text(
        textwrap.dedent(
            """
            import sys
            from core_engine import flow, task

            @task
            def give(x):
                return x

            @flow(name=sys.argv[1])
            def job():
                print("ready", flush=True)
                sys.stdin.readline()
                total = 0
                for _ in range(5):
                    total += sum(future.result() for future in give.map(range(100)))
                return total

            print(job())
            """
        )
    )
    command = [sys.executable, str(path)]
    processes = [
        subprocess.Popen([*command, f"job {n}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        results = [process.communicate("go\n", timeout=50)[0].split() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()

    assert results == [["24750"], ["24750"]]
    runs = read_flow_runs()
    assert {run.flow_name for run in runs} == {"job 0", "job 1"}
    for run in runs:
        assert run.state_type == "COMPLETED"
        assert [one.state_type for one in read_task_runs(run.id)] == ["COMPLETED"] * 500


class NoSpace(StoreError):
    """What a store says that has no room."""


def without_space(entries: Any) -> None:
    raise NoSpace("There is no space left for the database.")


@RUNNERS
@pytest.mark.behaviour("D3", "I1")
@pytest.mark.parametrize("return_state", [False, True])
def test_a_disk_that_is_full_in_the_middle_of_a_map_ends_the_run_soon_with_its_error(
    runner: BaseTaskRunner, return_state: bool, monkeypatch: pytest.MonkeyPatch
):
    store, begun, seen = open_backend().store, [], []

    @task
    def item(index: int) -> int:
        begun.append(index)
        if index == 50:
            monkeypatch.setattr(store, "apply", without_space)
        return index

    @flow(task_runner=runner)
    def parent() -> None:
        assert give(1) == 1
        for future in item.map(range(5_000)):
            value = future.result()
            seen.append(value)

    with takes_less_than(PATIENCE), pytest.raises(StoreError, match="no space left"):
        parent(return_state=return_state)

    monkeypatch.undo()
    assert seen == list(range(len(seen)))
    (run,) = store.read_flow_runs()
    states = [one.state_type.value for one in store.read_task_runs(run.id, task_name="item")]
    assert states[: len(seen)] == ["COMPLETED"] * len(seen)
    # Nothing goes on for a run that nobody will know of.
    assert len(begun) < 5_000


@RUNNERS
@pytest.mark.behaviour("D3", "I1")
def test_a_full_disk_is_told_to_async_flows_and_to_those_who_wait_for_results(
    runner: BaseTaskRunner, monkeypatch: pytest.MonkeyPatch
):
    store, gate = open_backend().store, threading.Event()

    @task
    def waits() -> int:
        assert gate.wait(PATIENCE)
        return 1

    @flow(task_runner=runner.duplicate())
    async def parent() -> None:
        future = give.submit(1)
        assert future.result() == 1
        monkeypatch.setattr(store, "apply", without_space)
        gate.set()
        with pytest.raises(StoreError, match="no space left"):
            waits.submit().result()
        waits.submit()

    with takes_less_than(PATIENCE), pytest.raises(StoreError, match="no space left"):
        asyncio.run(parent())


@pytest.mark.faults
@pytest.mark.behaviour("D3", "D29", "I1")
@pytest.mark.parametrize("runner", ["sequential", "concurrent"])
def test_a_limit_on_the_size_of_files_ends_a_real_process_with_a_clear_error(tmp_path: Path, runner: str):
    path = tmp_path / "fills.py"
    path.write_text(
        textwrap.dedent(
            f"""
            import resource
            from core_engine import flow, get_run_logger, task

            @task
            def logs(index):
                get_run_logger().info("x" * 1000)
                return index

            @flow(task_runner={runner!r})
            def job():
                print("began", flush=True)
                resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
                for start in range(0, 100_000, 100):
                    for future in logs.map(range(start, start + 100)):
                        print("saw", future.result(), future.task_run_id, flush=True)

            job()
            """
        )
    )
    environment = {**os.environ, "CORE_ENGINE_LOGGING_LEVEL": "CRITICAL"}
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=55, env=environment)

    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "StoreUnavailable" in last
    assert "core_engine.db" in last
    seen = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("saw")]
    assert seen
    (run,) = read_flow_runs()
    stored = {str(one.id): one.state_type.value for one in read_task_runs(run.id)}
    assert {stored[id] for id in seen} == {"COMPLETED"}
