"""Result storages that a worker does not share with the flow's process (D27)."""

import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import core_engine.remote.asking
from core_engine import State, flow, get_client, task
from core_engine.concurrency.waiting import step
from core_engine.exceptions import StorageError
from core_engine.results import LocalStorage, PersistedResult
from core_engine.settings import temporary_settings
from core_engine.task_runners import BaseTaskRunner
from tests.support.loopback import LoopbackCluster, LoopbackRunner

TOKEN = ".core-engine-token-"


def elsewhere(root: str) -> None:
    """Have this process see other directories under the same names, as a host without the network directory does."""
    location = LocalStorage.location
    LocalStorage.location = lambda self, key: root + location(self, key)  # type: ignore[method-assign]


def writes_elsewhere(root: str) -> None:
    """Have what this process writes stay with it, as on a file system that lies over a shared one."""
    location, write = LocalStorage.location, LocalStorage.write

    def write_there(self: LocalStorage, key: str, content: bytes) -> None:
        LocalStorage.location = lambda self, key: root + location(self, key)  # type: ignore[method-assign]
        try:
            write(self, key, content)
        finally:
            LocalStorage.location = location  # type: ignore[method-assign]

    LocalStorage.write = write_there  # type: ignore[method-assign]


def leave_alone(root: str) -> None:
    """Have this process see what is there."""


def reads_badly(root: str) -> None:
    """Have reading raise what no storage of ours raises."""

    def read(self: LocalStorage, key: str) -> bytes:
        raise ZeroDivisionError("unheard of")

    LocalStorage.read = read  # type: ignore[method-assign]


Start = Callable[[Callable[[str], None]], LoopbackRunner]


@pytest.fixture
def workers_that(tmp_path: Path) -> Iterator[Start]:
    """Starts a cluster whose workers keep their files under ``tmp_path / "worker"``; gives a runner on it."""
    clusters = []

    def start(prepare: Callable[[str], None]) -> LoopbackRunner:
        clusters.append(LoopbackCluster(workers=2, prepare=functools.partial(prepare, str(tmp_path / "worker"))))
        return LoopbackRunner.of(clusters[-1])

    yield start
    for cluster in clusters:
        cluster.close()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "results"
    with temporary_settings({"LOCAL_STORAGE_PATH": path}):
        yield path


def run_states(runner: BaseTaskRunner, make: Any) -> list[State]:
    @flow(task_runner=runner)
    def outer() -> Any:
        return make()

    return outer(return_state=True).result(raise_on_failure=False)


def files(path: Path) -> list[str]:
    return sorted(found.name for found in path.rglob("*") if found.is_file())


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "core_engine.remote"]


@pytest.mark.behaviour("D27")
@pytest.mark.parametrize("prepare", [elsewhere, writes_elsewhere])
def test_results_of_workers_without_the_storage_are_stored_by_the_flows_process(
    workers_that: Start,
    prepare: Callable[[str], None],
    storage: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    @task(persist_result=True, result_storage_key="value-{parameters[x]}")
    def double(x: int) -> list[int]:
        return [x, os.getpid()]

    states = run_states(workers_that(prepare), lambda: double.map(range(6)))

    assert [state.result()[0] for state in states] == list(range(6))
    assert os.getpid() not in [state.result()[1] for state in states]
    assert files(storage) == [f"value-{x}" for x in range(6)]
    assert not [name for name in files(tmp_path / "worker") if not name.startswith(TOKEN)]
    (warning,) = warnings_in(caplog)
    assert str(storage) in warning
    assert "results_return_limit_bytes" in warning
    # The record is the one that a worker with the storage would have left.
    stored = step(get_client().read_task_run(states[3].state_details.task_run_id)).state
    assert stored is not None
    assert stored.data == PersistedResult(
        serializer_type="pickle", storage_path=str(storage), storage_key="value-3", value_type="list"
    )
    assert stored.result() == states[3].result()


@pytest.mark.behaviour("D27")
@pytest.mark.parametrize("where", ["worker", "here"])
def test_a_storage_that_raises_anything_counts_as_not_shared_at_once(
    workers_that: Start,
    storage: Path,
    where: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @task(persist_result=True)
    def double(x: int) -> int:
        return 2 * x

    monkeypatch.setattr(LocalStorage, "read", LocalStorage.read)
    runner = workers_that(reads_badly if where == "worker" else leave_alone)
    if where == "here":
        reads_badly("")
    began = time.monotonic()
    states = run_states(runner, lambda: double.map(range(4)))
    monkeypatch.undo()

    assert [state.result() for state in states] == [0, 2, 4, 6]
    assert len(files(storage)) == 4
    assert time.monotonic() - began < core_engine.remote.asking.GIVE_UP_SECONDS / 2
    (warning,) = warnings_in(caplog)
    assert "unheard of" in warning


@pytest.mark.behaviour("D27", "I7")
def test_a_result_above_the_limit_fails_its_run_and_names_the_ways_out(workers_that: Start, storage: Path) -> None:
    @task(persist_result=True)
    def makes(size: int) -> str:
        return "x" * size

    runner = workers_that(elsewhere)
    with temporary_settings({"RESULTS_RETURN_LIMIT_BYTES": 10_000}):
        small, large = run_states(runner, lambda: makes.map([10, 20_000]))

    assert small.result() == "x" * 10
    assert large.is_failed()
    with pytest.raises(
        StorageError, match=r"2\d,\d+ bytes.*does not share.*results_return_limit_bytes.*persist_result"
    ):
        large.result()


@pytest.mark.behaviour("D27")
def test_a_stored_input_that_a_worker_does_not_see_is_read_by_the_flows_process(
    workers_that: Start, storage: Path
) -> None:
    @task(persist_result=True, cache_result_in_memory=False)
    def make(x: int) -> list[int]:
        return [x] * 3

    @task
    def total(values: list[int], more: list[list[int]]) -> int:
        return sum(values) + sum(map(sum, more))

    def chain() -> list[Any]:
        made = make.map([1, 2, 3])
        return [*total.map(made, more=[[]] * 3), total.submit([], made)]

    states = run_states(workers_that(elsewhere), chain)

    assert [state.result() for state in states] == [3, 6, 9, 18]


@pytest.mark.behaviour("D27", "ORCH-5")
def test_a_cached_value_is_found_again_though_its_worker_could_not_store_it(workers_that: Start, storage: Path) -> None:
    @task(cache_key_fn=lambda context, parameters: f"key-{parameters['x']}")
    def counted(x: int) -> list[int]:
        return [x, os.getpid()]

    runner = workers_that(elsewhere)
    first = run_states(runner, lambda: counted.map([1, 2]))
    second = run_states(runner, lambda: counted.map([2, 1]))

    assert [state.name for state in second] == ["Cached", "Cached"]
    assert [state.result() for state in second] == [state.result() for state in reversed(first)]


@pytest.mark.behaviour("D27", "I7")
def test_a_value_that_the_flows_process_cannot_store_either_crashes_its_run(
    workers_that: Start, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @task(persist_result=True)
    def makes() -> list[int]:
        return [1]

    write = LocalStorage.write

    def refuse(self: LocalStorage, key: str, content: bytes) -> None:
        if not key.startswith(TOKEN):
            raise StorageError("no room")
        write(self, key, content)

    monkeypatch.setattr(LocalStorage, "write", refuse)
    (state,) = run_states(workers_that(elsewhere), lambda: [makes.submit()])

    assert state.is_crashed()
    assert "could not be stored: no room" in (state.message or "")
    with pytest.raises(StorageError):
        state.result()


@pytest.mark.behaviour("D27")
def test_workers_that_share_the_storage_write_there_themselves(
    task_runner: BaseTaskRunner, storage: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written = []
    write = LocalStorage.write

    def note(self: LocalStorage, key: str, content: bytes) -> None:
        written.append(key)
        write(self, key, content)

    @task(persist_result=True)
    def makes(x: int) -> list[int]:
        return [x]

    monkeypatch.setattr(LocalStorage, "write", note)
    states = run_states(task_runner, lambda: makes.map(range(4)))

    assert [state.result() for state in states] == [[x] for x in range(4)]
    # The flow's process wrote its token once, and nothing is left of it.
    assert [key for key in written if key.startswith(TOKEN)] == written
    assert len(written) == 1
    assert len(files(storage)) == 4
    assert warnings_in(caplog) == []


@pytest.mark.behaviour("D27")
def test_nothing_is_written_for_tasks_that_persist_nothing(task_runner: BaseTaskRunner, storage: Path) -> None:
    @task
    def makes(x: int) -> list[int]:
        return [x]

    run_states(task_runner, lambda: makes.map(range(4)))

    assert not storage.exists()
