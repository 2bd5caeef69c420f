"""Invariants that the engine holds, each named by its number."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time

import pytest

from core_engine import flow, get_client, runtime, task, unmapped
from core_engine.concurrency import threads
from core_engine.concurrency.loops import engine_loop
from core_engine.concurrency.waiting import step
from tests.support.waiting import wait_for

LONGEST_HOLD_SECONDS = 0.05


class LoopGuard:
    """Measures for how long the engine loop's thread is at work, by its own CPU time, without letting others on."""

    def __enter__(self):
        self.longest = 0.0
        self._loop = engine_loop().loop
        self._run = asyncio.Handle._run
        guard = self

        def measured(handle):
            if handle._loop is not guard._loop:
                return guard._run(handle)
            start = time.thread_time()
            try:
                return guard._run(handle)
            finally:
                guard.longest = max(guard.longest, time.thread_time() - start)

        asyncio.Handle._run = measured
        # A full collection goes through all that earlier tests left, in whichever thread it begins.
        gc.collect()
        gc.freeze()
        return self

    def __exit__(self, *error):
        gc.unfreeze()
        asyncio.Handle._run = self._run


@task
def same(x):
    return x


@task(retries=1)
def fails_once(x, seen):
    if x not in seen:
        seen.add(x)
        raise ValueError(x)
    return x


@task
async def same_async(x):
    return x


@pytest.mark.behaviour("I4")
def test_the_engine_loop_is_never_held():
    @flow
    def parent():
        seen = set()
        total = sum(future.result() for future in same.map(range(20_000)))
        total += sum(future.result() for future in same.map(same_async.map(same.map(range(500)))))
        return total + sum(future.result() for future in fails_once.map(range(200), unmapped(seen)))

    with LoopGuard() as guard:
        assert parent() == sum(range(20_000)) + sum(range(500)) + sum(range(200))
    assert guard.longest < LONGEST_HOLD_SECONDS


@pytest.mark.behaviour("I4")
def test_the_guard_notices_a_loop_that_is_held():
    def hold():
        end = time.thread_time() + 2 * LONGEST_HOLD_SECONDS
        while time.thread_time() < end:
            pass

    with LoopGuard() as guard:
        done = threading.Event()
        engine_loop().loop.call_soon_threadsafe(lambda: (hold(), done.set()))
        assert done.wait(30)
    assert guard.longest > LONGEST_HOLD_SECONDS


@pytest.mark.behaviour("I8", "D36")
def test_after_a_root_flow_only_idle_threads_remain():
    script = """
import threading
from core_engine import flow, task

@task
def work(x): return x

@task
async def work_async(x): return x

@flow
def child(): return sum(f.result() for f in work.map(range(50)))

@flow
def parent():
    return child() + sum(f.result() for f in work_async.map(range(50)))

assert parent() == 2 * sum(range(50))
for thread in threading.enumerate():
    # A worker wakes who waits for its call before it takes the name of an idle one.
    while thread.name in ("core-engine-worker", "core-engine-service"):
        threading.Event().wait(0.001)
for thread in threading.enumerate():
    print(thread.name, thread.daemon)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=50)
    threads = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
    threads.pop("MainThread")
    assert set(threads.values()) <= {"True"}
    assert set(threads) <= {"core-engine-loop", "core-engine-journal", "core-engine-idle"}


@pytest.mark.behaviour("D36")
def test_an_idle_thread_serves_again_and_is_gone_when_it_had_nothing_to_do_for_long(monkeypatch: pytest.MonkeyPatch):
    assert threads.IDLE_SECONDS == 10
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.5)
    pool = threads.WorkerThreads("core-engine-worker")

    first = pool.submit(threading.current_thread).wait_result()
    wait_for(lambda: first.name == threads.IDLE_NAME)
    again = pool.submit(threading.current_thread).wait_result()
    first.join(20)

    assert again is first
    assert first.daemon
    assert not first.is_alive()


@pytest.mark.behaviour("D2")
def test_another_process_only_leaves_a_request_and_the_owner_acts_on_it():
    asked = """
import sys
from uuid import UUID
from core_engine import get_client
from core_engine.concurrency.waiting import step
client = get_client()
step(client.cancel_flow_run(UUID(sys.argv[1])))
print(step(client.read_flow_run(UUID(sys.argv[1]))).state_name)
"""
    told, asking = [], []

    def ask(run_id):
        command = [sys.executable, "-c", asked, run_id]
        told.append(subprocess.run(command, capture_output=True, text=True, check=True, timeout=50).stdout.strip())

    @flow
    def waits():
        asking.append(threading.Thread(target=ask, args=(runtime.flow_run.id,)))
        asking[0].start()
        threading.Event().wait(30)

    state = waits(return_state=True)
    asking[0].join()

    assert state.name == "Cancelled"
    assert told[0] in ("Running", "Cancelling", "Cancelled")
    names = [one.name for one in step(get_client().read_states(state.state_details.flow_run_id))]
    assert names == ["Pending", "Running", "Cancelling", "Cancelled"]
