"""What a worker keeps of what was unpickled, and which value stands where."""

import gc
import os
import pickle
import sys
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from core_engine import flow, get_client, task, unmapped
from core_engine.concurrency.waiting import step
from core_engine.remote import loading
from core_engine.task_runners import BaseTaskRunner
from core_engine.tasks import MapOptions
from tests.support.loopback import LoopbackCluster, LoopbackRunner


class One(NamedTuple):
    content: Any


@pytest.fixture(autouse=True)
def nothing_is_kept_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_kept", loading._Kept())


def load(content: bytes, key: str | None = None) -> Any:
    return loading.load_common(pickle.dumps((content,)), One, key or content[:1].hex(), {})


@pytest.mark.behaviour("I5")
def test_what_has_one_key_is_unpickled_once_and_what_has_another_is_another() -> None:
    assert load(b"definition") is load(b"definition")
    assert load(b"definition", "another") is not load(b"definition")


def test_what_was_not_used_for_long_goes_when_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MOST_KEPT", 2)
    first, second = load(b"1"), load(b"2")
    assert load(b"1") is first

    load(b"3")

    assert load(b"1") is first
    assert load(b"2") is not second


def test_large_contents_count_by_their_bytes_but_the_last_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MOST_KEPT_BYTES", 1_000)
    first, large = load(b"1"), load(bytes(2_000))

    assert load(bytes(2_000)) is large
    assert load(b"1") is not first


@task
def large(number: int) -> bytes:
    return bytes([number]) * 100_000


@task
def firsts(own: bytes, shared: bytes) -> tuple[int, int]:
    return own[0], shared[0]


@pytest.mark.behaviour("D12")
def test_large_values_of_rows_and_of_all_runs_are_told_apart(task_runner: BaseTaskRunner) -> None:
    @flow(task_runner=task_runner)
    def exchanging() -> list[list[tuple[int, int]]]:
        one, two, three = large.map([1, 2, 3])
        found = [
            firsts.map([two, three], unmapped(one)),
            firsts.map([one, three], unmapped(two)),
            firsts.map([three, three], unmapped(three)),
        ]
        return [[future.result() for future in futures] for futures in found]

    assert exchanging() == [[(2, 1), (3, 1)], [(1, 2), (3, 2)], [(3, 3), (3, 3)]]


@pytest.mark.behaviour("D12")
def test_a_value_on_one_cluster_is_brought_to_tasks_on_another(
    task_runner: BaseTaskRunner, one_worker: BaseTaskRunner
) -> None:
    @flow(task_runner=task_runner)
    def parent() -> tuple[int, int]:
        one = large.submit(1)

        @flow(task_runner=one_worker)
        def child() -> tuple[int, int]:
            return firsts.submit(one, large.submit(2)).result()

        return child()

    assert parent() == (1, 2)


def test_two_runs_of_one_value_let_it_go_when_both_have(task_runner: BaseTaskRunner) -> None:
    @task(
        cache_key_fn=lambda context, parameters: "one for all",
        persist_result=False,
        map_options=MapOptions(batch_size=2),
    )
    def cached(number: int) -> bytes:
        return large.fn(number)

    @flow(task_runner=task_runner)
    def both() -> bytes:
        first, second = cached.map([1, 1])
        first.wait()
        assert second.wait() is not None
        del first
        gc.collect()
        return second.result()[:1]

    assert both() == b"\x01"


@pytest.fixture
def one_worker() -> Any:
    """A cluster whose only worker has executed what came before, and which may die."""
    cluster = LoopbackCluster(1)
    yield LoopbackRunner.of(cluster, retries=1)
    cluster.close()


def test_what_tasks_do_to_the_parameters_of_one_map_is_nothing_to_another(one_worker: BaseTaskRunner) -> None:
    @task
    def adds(number: int, seen: list[int]) -> list[int]:
        seen.append(number)
        return list(seen)

    @flow(task_runner=one_worker)
    def twice() -> list[list[int]]:
        return [[*future.result()] for _ in range(2) for future in adds.map([1, 2], unmapped([]))]

    assert twice() == twice() == [[1], [1, 2], [1], [1, 2]]


def test_what_a_task_remembers_is_nothing_to_one_that_is_defined_alike(one_worker: BaseTaskRunner) -> None:
    def remembers(name: str) -> Any:
        seen: list[int] = []

        @task(name=name)
        def adds(number: int) -> list[int]:
            seen.append(number)
            return list(seen)

        return adds

    @flow(task_runner=one_worker)
    def two() -> list[list[int]]:
        tasks = [remembers("adds"), remembers("adds").with_options(name="adds")]
        return [future.result() for one in tasks for future in one.map([1, 2])]

    assert two() == two() == [[1], [1, 2], [1], [1, 2]]


def test_what_a_function_has_from_around_it_is_what_it_is_when_it_is_called(task_runner: BaseTaskRunner) -> None:
    def scaled(number: int) -> int:
        return number * factor

    @task
    def scales(number: int) -> int:
        return scaled(number)

    @flow(task_runner=task_runner)
    def several() -> list[int]:
        nonlocal factor
        found = []
        for value in (1, 2, 3):
            factor = value
            found.append(scales.submit(5).result())
        return found

    factor = 0

    assert several() == [5, 10, 15]


def test_of_runs_that_have_ended_nothing_is_kept_that_nobody_holds(task_runner: BaseTaskRunner) -> None:
    @task
    def size(content: bytes) -> int:
        return len(content)

    @flow(task_runner=task_runner)
    def many() -> int:
        sets = []
        for number in range(10):
            future = size.submit(bytes(number))
            sets.append(weakref.ref(future._run_set))
            assert future.result() == number
            del future
        gc.collect()
        return sum(one() is not None for one in sets)

    # What was reported last may just be being handled.
    assert many() <= 1


class Difficult:
    """Ends the process that unpickles it first, and cannot be unpickled later."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return end_or_raise, (self.path,)


def end_or_raise(path: Path) -> None:
    if not path.exists():
        path.touch()
        os._exit(1)
    raise ValueError("it is difficult")


def test_a_run_that_came_back_from_a_lost_worker_does_not_crash_for_another_that_cannot_be_unpickled(
    one_worker: BaseTaskRunner, tmp_path: Path
) -> None:
    @task(map_options=MapOptions(batch_size=2))
    def same(value: Any) -> Any:
        return value

    @flow(task_runner=one_worker)
    def both() -> Any:
        return same.map([Difficult(tmp_path / "met"), 1])

    difficult, easy = both(return_state=True).result(raise_on_failure=False)

    assert easy.result() == 1
    assert difficult.is_crashed()
    assert "it is difficult" in difficult.message


@pytest.mark.behaviour("D12")
def test_a_pickled_value_travels_beside_the_pickle_that_carries_it():
    kept = loading.Pickled(pickle.dumps({"x": [1, 2]}))
    beside: list[pickle.PickleBuffer] = []

    carried = pickle.dumps(kept, protocol=5, buffer_callback=beside.append)
    arrived = pickle.loads(carried, buffers=[bytes(buffer) for buffer in beside])

    assert kept.content not in carried
    assert kept.content == bytes(beside[0])
    assert loading.unpacked(arrived) == {"x": [1, 2]}
    assert loading.unpacked(pickle.loads(pickle.dumps(kept, protocol=4))) == {"x": [1, 2]}
    assert sys.getsizeof(kept) >= len(kept.content)


@pytest.mark.behaviour("I7", "LOG-1")
def test_the_traceback_of_a_task_that_travelled_by_value_names_its_file(task_runner: BaseTaskRunner) -> None:
    @task
    def fails() -> None:
        raise ValueError("here")

    @flow(task_runner=task_runner)
    def outer() -> Any:
        return [fails.submit()]

    (state,) = outer(return_state=True).result(raise_on_failure=False)
    stored = step(get_client().read_logs(state.state_details.flow_run_id))
    (trace,) = [one.entry.message for one in stored if "Traceback" in one.entry.message]

    assert __file__ in trace
    assert 'raise ValueError("here")' in trace
