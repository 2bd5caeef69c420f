"""Streams and the failure policy of maps."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
import tracemalloc

import pytest

from core_engine import MapOptions, flow, get_client, runtime, task
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner

RUNNERS = [SequentialTaskRunner, ConcurrentTaskRunner]


@task
def double(x: int, y: int = 0) -> int:
    return 2 * x + y


@task
async def double_async(x: int) -> int:
    return 2 * x


@task(map_options=MapOptions(window=8, ordered=False))
def held(x: int, gate: threading.Event) -> int:
    if x == 0:
        gate.wait(30)
    return x


@pytest.mark.behaviour("D8")
@pytest.mark.parametrize("runner", RUNNERS)
def test_a_stream_takes_the_other_arguments_for_every_run(runner):
    @flow(task_runner=runner)
    def parent():
        return [future.result() for future in double.stream(range(5), y=1)]

    assert parent() == [1, 3, 5, 7, 9]


@pytest.mark.behaviour("D8")
def test_an_unordered_stream_yields_what_has_ended_before_what_has_not():
    gate = threading.Event()

    @flow
    def parent():
        found = []
        for future in held.stream(range(20), gate=gate):
            found.append(future.result())
            if len(found) == 5:
                gate.set()
        return found

    found = parent()
    assert sorted(found) == list(range(20))
    assert 0 not in found[:5]


@pytest.mark.behaviour("D8")
@pytest.mark.anyio
async def test_an_async_stream_reads_an_async_iterable():
    async def items():
        for i in range(30):
            yield i

    @flow
    async def parent():
        return [await future.result() async for future in double_async.stream(items())]

    assert await parent() == [2 * i for i in range(30)]


@pytest.mark.behaviour("D8")
def test_leaving_a_stream_early_stops_reading_and_cancels_what_is_in_flight():
    read = []
    gate = threading.Event()
    started = threading.Event()

    @task(map_options=MapOptions(window=4))
    def waits(x):
        if x:
            started.set()
            while not gate.wait(0.01):
                pass
        return x

    @flow
    def parent():
        source = (read.append(i) or i for i in itertools.count())
        for future in waits.stream(source):
            assert future.result() == 0
            started.wait(30)
            break
        return 1

    assert parent() == 1
    assert len(read) <= 8
    gate.set()


@pytest.mark.behaviour("D8")
@pytest.mark.anyio
async def test_leaving_an_async_stream_of_an_endless_iterable_early_cancels_what_is_in_flight():
    read = []

    async def endless():
        while True:
            read.append(len(read))
            yield read[-1]

    @task(map_options=MapOptions(window=4))
    async def waits(x):
        if x:
            await asyncio.sleep(30)
        return x

    @flow
    async def parent():
        async for future in waits.stream(endless()):
            assert await future.result() == 0
            break
        return runtime.flow_run.id

    started = time.monotonic()
    id = await parent()

    assert time.monotonic() - started < 10
    assert len(read) <= 8
    names = [run.state_name for run in await get_client().read_task_runs(id)]
    assert names == ["Completed"] + ["Cancelled"] * (len(names) - 1)
    assert len(names) > 1


@pytest.mark.behaviour("D8", "D10")
def test_a_long_stream_takes_constant_memory():
    @flow
    def parent(count):
        total = sum(future.result() for future in double.stream(range(count)))
        gc.collect()
        return total, tracemalloc.get_traced_memory()[0]

    parent(100)
    tracemalloc.start()
    try:
        _, small = parent(11_000)  # beyond this the lineage of bare values has reached its bound
        total, large = parent(33_000)
    finally:
        tracemalloc.stop()
    assert total == 33_000 * 32_999
    assert large - small < 22_000 * 100  # bytes: a future with its state would be some hundreds each


def test_a_stream_needs_a_parameter_and_an_iterable():
    @task
    def nothing():
        return None

    @flow
    def parent(what):
        return list(nothing.stream([1])) if what == "parameter" else list(double.stream(5))

    with pytest.raises(TypeError, match="no parameter"):
        parent("parameter")
    with pytest.raises(TypeError, match="iterable"):
        parent("iterable")


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_drained_map_starts_no_more_and_every_index_ends_in_a_recorded_state(runner):
    started = []

    @task(map_options=MapOptions(max_failures=1, on_failure="drain"))
    def fails(x):
        started.append(x)
        raise ValueError(x)

    @flow(task_runner=runner)
    def parent():
        return [state.name for state in fails.map(range(200), return_state=True)]

    names = parent()
    assert names.count("Failed") == len(started)
    assert 2 <= len(started) < 200
    assert names.count("Cancelled") == 200 - len(started)


def test_a_map_that_continues_runs_every_item():
    @task(map_options=MapOptions(max_failures=0, on_failure="continue"))
    def fails(x):
        raise ValueError(x)

    @flow
    def parent():
        return {state.name for state in fails.map(range(20), return_state=True)}

    assert parent() == {"Failed"}


def test_a_cancelled_map_interrupts_what_runs():
    running = threading.Event()

    @task(map_options=MapOptions(max_failures=0, on_failure="cancel"))
    def work(x):
        if x == 0:
            running.set()
            while True:
                threading.Event().wait(0.005)
        running.wait(30)
        raise ValueError(x)

    @flow
    def parent():
        return [state.name for state in work.map(range(2), return_state=True)]

    assert parent() == ["Cancelled", "Failed"]


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"window": 0}, {"max_failures": -1}, {"on_failure": "stop"}], ids=str
)
def test_map_options_out_of_range_are_refused_by_name(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        MapOptions(**options)
