"""Flows whose tasks run in other processes: states, values, logs, errors and losses, as the store has them."""

import asyncio
import logging
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core_engine import State, allow_failure, flow, get_client, get_run_logger, task, unmapped
from core_engine.concurrency.waiting import step
from core_engine.exceptions import MissingResult, SerializationError
from core_engine.settings import get_current_settings, temporary_settings
from core_engine.task_runners import BaseTaskRunner
from core_engine.tasks import MapOptions
from tests.support.cluster_tests.errors import ErrorsOnACluster
from tests.support.loopback import LoopbackCluster, LoopbackRunner
from tests.support.promptness import soon
from tests.support.waiting import wait_for

LOCK = threading.Lock()


@pytest.fixture
def fragile_cluster() -> Iterator[LoopbackCluster]:
    """A cluster whose workers may die."""
    cluster = LoopbackCluster()
    yield cluster
    cluster.close()


@task
def uses_a_global_lock(x: int) -> int:
    """A task of a module: what it refers to cannot be pickled, and need not be."""
    with LOCK:
        return x + 1


@task(log_prints=True)
def chatty(x: int) -> int:
    logger = get_run_logger()
    for line in range(5):
        logger.info("line %d of %d", line, x)
    print("printed", x)
    logging.getLogger("some.library").warning("from a library %d", x)
    if x == 3:
        raise ValueError("three")
    return x


def names(state: State) -> list[str]:
    run_id = state.state_details.task_run_id
    assert run_id is not None
    return [one.name for one in step(get_client().read_states(run_id))]


def lines(state: State) -> list[str]:
    return [stored.entry.message for stored in step(get_client().read_logs(state.state_details.flow_run_id))]


def run_states(task_runner: BaseTaskRunner, make: Any) -> list[State]:
    @flow(task_runner=task_runner)
    def outer() -> Any:
        futures = make()
        return futures if isinstance(futures, list) else [futures]

    return outer(return_state=True).result(raise_on_failure=False)


def test_tasks_run_in_other_processes(task_runner: BaseTaskRunner) -> None:
    @task
    def pid(x: int) -> int:
        return os.getpid()

    states = run_states(task_runner, lambda: pid.map(range(4)))

    assert os.getpid() not in {state.result() for state in states}


def test_a_task_of_a_module_travels_by_its_name(task_runner: BaseTaskRunner) -> None:
    states = run_states(task_runner, lambda: uses_a_global_lock.map([1, 2]))

    assert [state.result() for state in states] == [2, 3]
    varied = uses_a_global_lock.with_options(name="varied")
    assert [state.result() for state in run_states(task_runner, lambda: varied.map([1, 2]))] == [2, 3]


@pytest.mark.behaviour("I5")
def test_a_definition_is_sent_once_for_all_runs_of_a_task(cluster: LoopbackCluster) -> None:
    @task
    def identity(x: int) -> int:
        return x

    def many() -> Any:
        return [*identity.map(range(50)), *(identity.submit(x) for x in range(20))]

    cluster.sent.clear()
    run_states(LoopbackRunner.of(cluster), many)

    assert [name for name, _ in cluster.sent].count("identity-definition") == 1


def test_blocks_hold_many_tiny_items_and_every_item_its_record(cluster: LoopbackCluster) -> None:
    @task
    def tiny(x: int) -> int:
        return x * 2

    cluster.sent.clear()

    states = run_states(LoopbackRunner.of(cluster), lambda: tiny.map(range(2_000)))
    flow_run_id = states[0].state_details.flow_run_id
    assert flow_run_id is not None
    runs = step(get_client().read_task_runs(flow_run_id))

    assert [state.result() for state in states] == [x * 2 for x in range(2_000)]
    assert len([kind for kind, _ in cluster.sent if kind == "block"]) < 250
    assert len(runs) == 2_000
    assert all(run.state_name == "Completed" and run.start_time and run.end_time for run in runs)
    assert all((run.worker or "").startswith("loopback-") for run in runs)
    assert names(states[7]) == ["Pending", "Running", "Completed"]


def test_batch_size_one_sends_every_item_alone(cluster: LoopbackCluster) -> None:
    @task(map_options=MapOptions(batch_size=1))
    def tiny(x: int) -> int:
        return x

    cluster.sent.clear()

    states = run_states(LoopbackRunner.of(cluster), lambda: tiny.map(range(30)))

    assert [state.result() for state in states] == list(range(30))
    assert len([kind for kind, _ in cluster.sent if kind == "block"]) == 30


@pytest.mark.behaviour("D15")
def test_items_behind_a_slow_neighbour_are_given_back(cluster: LoopbackCluster, tmp_path: Path) -> None:
    @task(map_options=MapOptions(batch_size=10))
    def meets(x: int) -> int:
        (tmp_path / str(x)).touch()
        deadline = time.monotonic() + 20
        while x == 0 and not (tmp_path / "19").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return x

    states = run_states(LoopbackRunner.of(cluster), lambda: meets.map(range(20)))

    assert [state.result() for state in states] == list(range(20))


@pytest.mark.behaviour("LOG-1", "LOG-API-1", "LOG-PRINT-1", "LOG-API-11")
def test_every_line_arrives_once_and_in_order(task_runner: BaseTaskRunner, capfd: pytest.CaptureFixture[str]) -> None:
    with temporary_settings({"LOGGING_EXTRA_LOGGERS": "some.library"}):
        states = run_states(task_runner, lambda: chatty.map(range(6)))
    flow_run_id = states[0].state_details.flow_run_id

    for x, state in enumerate(states):
        run_id = state.state_details.task_run_id
        stored = [one.entry for one in step(get_client().read_logs(flow_run_id, task_run_id=run_id))]
        said = [entry.message for entry in stored]
        expected = [*(f"line {line} of {x}" for line in range(5)), f"printed {x}", f"from a library {x}"]
        assert said[: len(expected)] == expected
        assert all((entry.worker or "").startswith("loopback-") for entry in stored)
        if x == 3:
            assert "ValueError: three" in said[len(expected)]
    shown = capfd.readouterr().err
    assert shown.count("line 4 of 5") == 1
    assert "chatty-5" in shown


@pytest.mark.behaviour("CTX-13", "D28")
def test_settings_of_the_flow_are_in_force_on_workers_and_gone_afterwards(
    task_runner: BaseTaskRunner, tmp_path: Path
) -> None:
    @task
    def level() -> tuple[str, str, str]:
        get_run_logger().debug("a detail")
        settings = get_current_settings()
        return settings.logging_level, str(settings.home), str(settings.local_storage_path)

    with temporary_settings(
        {"LOGGING_LEVEL": "DEBUG", "HOME": tmp_path / "mine", "LOCAL_STORAGE_PATH": tmp_path / "s"}
    ):
        (state,) = run_states(task_runner, lambda: level.submit())
        assert "a detail" in lines(state)
    assert state.result() == ("DEBUG", str(tmp_path / "mine"), str(tmp_path / "s"))
    (state,) = run_states(task_runner, lambda: level.submit())

    assert state.result()[0] == "INFO"
    assert "a detail" not in lines(state)


@pytest.mark.behaviour("TASK-RETRY-4")
def test_a_retry_that_is_due_goes_before_runs_that_have_not_begun(task_runner: BaseTaskRunner, tmp_path: Path) -> None:
    notes = tmp_path / "notes"

    @task(retries=1, map_options=MapOptions(batch_size=1))
    def item(x: int) -> None:
        with notes.open("a") as file:
            file.write(f"{x} ")
        time.sleep(0.001)
        if x == 0 and notes.read_text().split().count("0") == 1:
            raise ValueError("once more")

    @flow(task_runner=task_runner)
    def outer() -> None:
        item.map(range(1_000))

    outer()

    executed = notes.read_text().split()
    assert sorted(map(int, executed)) == [0, *range(1_000)]
    # Behind those that were on their way to the workers, of which there are at most 256.
    assert executed.index("0", executed.index("0") + 1) < 400


@pytest.mark.behaviour("TASK-RETRY-1", "D13")
def test_a_retry_with_a_delay_leaves_the_worker_and_comes_back(task_runner: BaseTaskRunner, tmp_path: Path) -> None:
    @task(retries=2, retry_delay_seconds=0.05)
    def fails_twice() -> str:
        with (tmp_path / "tries").open("a") as tries:
            tries.write("x")
        if len((tmp_path / "tries").read_text()) < 3:
            raise ValueError("again")
        return "done"

    (state,) = run_states(task_runner, lambda: fails_twice.submit())

    assert state.result() == "done"
    assert names(state) == ["Pending", "Running", *["AwaitingRetry", "Retrying"] * 2, "Completed"]


def test_a_hook_that_ends_the_process_ends_the_flow(task_runner: BaseTaskRunner) -> None:
    def leaves(task: Any, task_run: Any, state: State) -> None:
        raise SystemExit(3)

    @task(on_completion=[leaves])
    def works() -> int:
        return 1

    @flow(task_runner=task_runner)
    def outer() -> State | None:
        return works.submit().wait()

    with pytest.raises(SystemExit):
        outer()


@pytest.mark.behaviour("D3")
def test_hooks_run_in_the_flows_process_after_the_commit(task_runner: BaseTaskRunner) -> None:
    seen: list[tuple[int, str]] = []

    def hook(task: Any, task_run: Any, state: State) -> None:
        seen.append((os.getpid(), step(get_client().read_task_run(task_run.id)).state_name or ""))

    @task(on_completion=[hook], on_failure=[hook])
    def ends(x: int) -> int:
        return 1 // x

    run_states(task_runner, lambda: ends.map([1, 0], return_state=True))

    assert sorted(seen) == sorted([(os.getpid(), "Completed"), (os.getpid(), "Failed")])


def test_a_cached_result_is_found_by_the_flows_process(task_runner: BaseTaskRunner, tmp_path: Path) -> None:
    @task(cache_key_fn=lambda context, parameters: f"key-{parameters['x']}")
    def counted(x: int) -> int:
        with (tmp_path / "runs").open("a") as runs:
            runs.write(f"{x}\n")
        return x * 10

    first = run_states(task_runner, lambda: counted.map([1, 2, 3]))
    second = run_states(task_runner, lambda: counted.map([3, 4]))

    assert [state.name for state in first] == ["Completed"] * 3
    assert [state.name for state in second] == ["Cached", "Completed"]
    assert [state.result() for state in second] == [30, 40]
    assert sorted((tmp_path / "runs").read_text().split()) == ["1", "2", "3", "4"]


def test_runs_behind_a_failed_one_never_travel(task_runner: BaseTaskRunner) -> None:
    @task
    def halve(x: int) -> float:
        if x == 1:
            raise ValueError("odd")
        return x / 2

    @task
    def show(x: Any) -> str:
        return type(x).__name__ if isinstance(x, Exception) else str(x)

    def chain() -> Any:
        halves = halve.map([0, 1, 2])
        return [*show.map(halves), *show.map([allow_failure(half) for half in halves])]

    states = run_states(task_runner, chain)

    assert [state.name for state in states] == ["Completed", "NotReady", "Completed", *["Completed"] * 3]
    assert [state.result() for state in states[3:]] == ["0.0", "ValueError", "1.0"]


@pytest.mark.behaviour("D12", "I6")
def test_large_values_go_on_by_reference_and_are_fetched_when_asked_for(cluster: LoopbackCluster) -> None:
    @task
    def make(x: int) -> bytes:
        return bytes([x]) * 300_000

    @task
    def size(data: bytes, factor: int) -> int:
        return len(data) * factor

    kept: list[Any] = []

    @flow(task_runner=LoopbackRunner.of(cluster))
    def chain() -> list[int]:
        made = make.map([1, 2, 3])
        sizes = [future.result() for future in size.map(made, unmapped(2))]
        payloads = [message for kind, message in cluster.sent if kind == "block"]
        assert all(len(message[2]) < 100_000 for message in payloads)
        kept.extend(future.wait() for future in made)
        return sizes

    cluster.sent.clear()

    assert chain() == [600_000] * 3
    # What somebody still holds was fetched before the runner ended (D26).
    assert [len(state.result()) for state in kept] == [300_000] * 3


@pytest.mark.behaviour("D26")
def test_large_values_above_the_limit_are_missing_with_a_reason(task_runner: BaseTaskRunner) -> None:
    @task
    def make() -> bytes:
        return bytes(300_000)

    with temporary_settings({"RESULTS_FETCH_LIMIT_BYTES": 1_000}):
        (state,) = run_states(task_runner, lambda: make.submit())

    assert state.is_completed()
    with pytest.raises(MissingResult, match=r"300,0\d\d bytes.*persist_result"):
        state.result()


def test_an_unpicklable_parameter_is_named(task_runner: BaseTaskRunner) -> None:
    @task
    def takes(x: Any) -> None: ...

    good, bad = run_states(task_runner, lambda: takes.map([{"a": 1}, {"a": [threading.Lock()]}]))

    assert good.is_completed()
    assert bad.is_crashed()
    with pytest.raises(SerializationError, match=r"parameter 'x'.*x'?\['a'\]\[0\].*lock"):
        bad.result()


def test_an_unpicklable_result_fails_its_run_and_is_named(task_runner: BaseTaskRunner) -> None:
    @task
    def gives() -> Any:
        return {"lock": threading.Lock()}

    (state,) = run_states(task_runner, lambda: gives.submit())

    assert state.is_failed()
    with pytest.raises(SerializationError, match=r"\['lock'\].*lock"):
        state.result()


def test_an_exception_that_cannot_be_pickled_arrives_as_text(task_runner: BaseTaskRunner) -> None:
    class Odd(Exception):
        def __init__(self, one: Any, two: Any) -> None:
            super().__init__("odd")
            self.lock = threading.Lock()

    @task
    def raises() -> None:
        raise Odd(1, 2)

    (state,) = run_states(task_runner, lambda: raises.submit())

    assert state.is_failed()
    with pytest.raises(Exception, match="Odd: odd"):
        state.result()


class TestErrors(ErrorsOnACluster):
    worker_prefix = "loopback-"


@pytest.mark.behaviour("LOG-API-2")
def test_a_line_of_a_plain_thread_on_a_worker_is_kept_with_the_flow_run(task_runner: BaseTaskRunner) -> None:
    @task
    def starts_a_thread() -> None:
        thread = threading.Thread(target=logging.getLogger("some.library").warning, args=("from a thread",))
        thread.start()
        thread.join()

    with temporary_settings({"LOGGING_EXTRA_LOGGERS": "some.library"}):
        (state,) = run_states(task_runner, lambda: starts_a_thread.submit())

    stored = [one.entry for one in step(get_client().read_logs(state.state_details.flow_run_id))]
    (entry,) = [entry for entry in stored if entry.message.startswith("from a thread")]
    assert entry.task_run_id is None
    assert (entry.worker or "").startswith("loopback-")
    assert "was started without its context" in entry.message


def test_a_worker_that_dies_crashes_its_run_and_no_other(fragile_cluster: LoopbackCluster, tmp_path: Path) -> None:
    @task(map_options=MapOptions(batch_size=5))
    def fragile(x: int) -> int:
        with (tmp_path / "starts").open("a") as starts:
            starts.write(f"{x}\n")
        if x == 7:
            time.sleep(0.3)  # long enough for its start to be reported
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    states = run_states(LoopbackRunner.of(fragile_cluster), lambda: fragile.map(range(20)))
    starts = (tmp_path / "starts").read_text().split()

    assert [x for x, state in enumerate(states) if not state.is_completed()] == [7]
    assert states[7].is_crashed()
    assert "loopback-" in (states[7].message or "")
    assert starts.count("7") == 1


def test_a_lost_run_is_executed_again_within_its_own_budget(fragile_cluster: LoopbackCluster, tmp_path: Path) -> None:
    @task
    def fragile() -> str:
        with (tmp_path / "starts").open("a") as starts:
            starts.write("x")
        if len((tmp_path / "starts").read_text()) == 1:
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    (state,) = run_states(LoopbackRunner.of(fragile_cluster, retries=1), lambda: fragile.submit())

    assert state.result() == "done"
    assert names(state) == ["Pending", "Running", "Rerunning", "Completed"]


def test_a_cancelled_run_is_interrupted_on_its_worker(task_runner: BaseTaskRunner, tmp_path: Path) -> None:
    @task
    def long() -> None:
        (tmp_path / "started").touch()
        try:
            while True:
                time.sleep(0.01)
        finally:
            (tmp_path / "ended").touch()

    @flow(task_runner=task_runner)
    def cancels() -> Any:
        future = long.submit()
        wait_for((tmp_path / "started").exists)
        assert future.cancel()
        return [future]

    (state,) = cancels(return_state=True).result(raise_on_failure=False)

    assert state.is_cancelled()
    assert (tmp_path / "ended").exists()


@pytest.mark.behaviour("D25", "CRASH-2")
def test_what_runs_on_workers_is_interrupted_when_the_flows_own_code_ends_the_flow(
    fragile_cluster: LoopbackCluster, caplog: pytest.LogCaptureFixture
) -> None:
    @task
    def spins() -> None:
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            time.sleep(0.01)

    @flow(task_runner=LoopbackRunner.of(fragile_cluster, 0))
    def parent() -> None:
        future = spins.submit()
        while not step(get_client().read_task_run(future.task_run_id)).state.is_running():
            time.sleep(0.01)
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        parent()

    assert time.monotonic() - started < get_current_settings().grace_seconds
    assert "1 task run that ran was interrupted and crashed with the flow run" in caplog.messages


def test_a_retry_of_the_flow_runs_only_what_failed(task_runner: BaseTaskRunner, tmp_path: Path) -> None:
    @task
    def once(x: int) -> int:
        with (tmp_path / "runs").open("a") as runs:
            runs.write(f"{x}\n")
        if x == 2 and (tmp_path / "runs").read_text().split().count("2") < 2:
            raise ValueError("not yet")
        return x

    @flow(task_runner=task_runner, retries=1)
    def retried() -> int:
        return sum(future.result() for future in once.map([1, 2, 3]))

    assert retried() == 6
    assert sorted((tmp_path / "runs").read_text().split()) == ["1", "2", "2", "3"]


def test_a_runner_of_a_cluster_can_be_pickled(task_runner: BaseTaskRunner) -> None:
    assert pickle.loads(pickle.dumps(task_runner)) == task_runner


@pytest.mark.behaviour("D19", "TASK-TIME-1")
def test_an_async_task_that_holds_its_workers_loop_is_interrupted_at_its_deadline(task_runner: BaseTaskRunner) -> None:
    @task(timeout_seconds=0.2)
    async def spins() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            pass

    started = time.monotonic()
    (state,) = run_states(task_runner, lambda: spins.submit())

    assert state.name == "TimedOut"
    assert time.monotonic() - started < 10


@pytest.mark.behaviour("D19", "TASK-TIME-1")
def test_a_deadline_does_not_wait_for_a_workers_loop_that_another_task_holds(
    fragile_cluster: LoopbackCluster, tmp_path: Path
) -> None:
    @task(timeout_seconds=1, map_options=MapOptions(batch_size=2))
    async def keeps_or_waits(name: str) -> None:
        (tmp_path / name).touch()
        if name == "keeps":
            while not (tmp_path / "waits").exists():
                await asyncio.sleep(0.01)
            os.read(os.pipe()[0], 1)  # nothing can interrupt it
        await asyncio.sleep(20)

    runner = LoopbackRunner.of(fragile_cluster, 0)
    states = run_states(runner, lambda: keeps_or_waits.map(["keeps", "waits"]))

    assert [names(state) for state in states] == [["Pending", "Running", "TimedOut"]] * 2
    for state in states:
        _, running, ended = step(get_client().read_states(state.state_details.task_run_id))
        assert (ended.timestamp - running.timestamp).total_seconds() < 0.15 + soon()


@pytest.mark.behaviour("TASK-TIME-1", "I9")
def test_async_code_on_a_worker_that_goes_on_after_its_deadline_is_left_behind(
    fragile_cluster: LoopbackCluster, tmp_path: Path
) -> None:
    @task(timeout_seconds=0.2)
    async def swallows() -> str:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (tmp_path / "go").exists():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass
        return "late"

    started = time.monotonic()
    (state,) = run_states(LoopbackRunner.of(fragile_cluster, 0), lambda: swallows.submit())
    seconds = time.monotonic() - started
    (tmp_path / "go").touch()

    assert state.name == "TimedOut"
    assert seconds < 10


@pytest.mark.behaviour("D19")
@pytest.mark.parametrize("retries", [0, 1])
def test_a_workers_loop_that_is_not_let_go_is_given_up(
    fragile_cluster: LoopbackCluster, tmp_path: Path, retries: int
) -> None:
    """Those that were on it are lost, as with a worker: Crashed, or executed again within the runner's budget."""

    @task(map_options=MapOptions(batch_size=2))
    async def keeps_or_waits(name: str) -> str:
        with (tmp_path / name).open("a") as starts:
            starts.write("x")
        if name == "keeps":
            while not (tmp_path / "waits").exists():
                await asyncio.sleep(0.01)
            (tmp_path / "held").touch()
            os.read(os.pipe()[0], 1)  # nothing can interrupt it
        if len((tmp_path / "waits").read_text()) == 1:
            await asyncio.sleep(20)
        return name

    def make() -> Any:
        futures = keeps_or_waits.map(["keeps", "waits"])
        while not (tmp_path / "held").exists():
            time.sleep(0.01)
        futures[0].cancel()
        return futures

    keeps, waits = run_states(LoopbackRunner.of(fragile_cluster, retries), make)

    assert keeps.name == "Cancelled"
    if retries:
        assert waits.result() == "waits"
        assert names(waits) == ["Pending", "Running", "Rerunning", "Completed"]
    else:
        assert waits.is_crashed()
        assert "keeps_or_waits-0" in (waits.message or "")
    assert len((tmp_path / "waits").read_text()) == 1 + retries


def test_a_run_that_waits_for_a_worker_says_so(task_runner: BaseTaskRunner, tmp_path: Path) -> None:
    """How many workers there are the cluster alone knows: so many items that some must wait."""

    @task
    def waits(_: int) -> None:
        deadline = time.monotonic() + 20
        while not (tmp_path / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)

    @flow(task_runner=task_runner)
    def parent() -> Any:
        futures = waits.with_options(map_options=MapOptions(batch_size=1)).map(range(100))
        ids = [future.task_run_id for future in futures]
        client = get_client()
        first = step(client.why(ids[0]))
        while first.reason != "running":
            time.sleep(0.01)
            first = step(client.why(ids[0]))
        last = step(client.why(ids[-1]))
        (tmp_path / "go").touch()
        return first, last

    first, last = parent()

    assert first.reason == "running"
    assert last.reason == "runner"
    assert last.details["executing"] >= 1
    assert last.details["ahead"] + last.details["executing"] == 99
