"""Races, lost outcomes and memory held: what a reading of the engine found, each defect with its test."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from uuid import uuid4

import pytest

from core_engine import MapOptions, as_completed, clock, flow, runtime, task
from core_engine.backend import open_backend
from core_engine.client.embedded import EmbeddedClient
from core_engine.context import FlowRunContext
from core_engine.engine import cancellation
from core_engine.engine.active import active_flow_runs
from core_engine.engine.cancellation import FlowRunCancelled, cancel_flow_run
from core_engine.engine.requests import _Watch
from core_engine.exceptions import StorageError, StoreError
from core_engine.logging.records import LogEntry
from core_engine.results.storage import LocalStorage
from core_engine.task_runners import TaskConcurrencyType
from core_engine.testing.clocks import leaping_clock
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner
from tests.behaviours.helpers import (
    PATIENCE,
    ask,
    block,
    read_flow_runs,
    read_states,
    read_task_runs,
    setting,
    until_set,
    wait_until_set,
)
from tests.runners.test_conformance import FourMembersTaskRunner


class HeldClock(clock.Clock):
    """What is due comes when the test says so."""

    def __init__(self):
        self.something_is_due = threading.Event()
        self._callbacks = []

    def call_at(self, due, callback):
        self._callbacks.append(callback)
        self.something_is_due.set()

    def go_on(self):
        for callback in self._callbacks:
            callback()


@contextmanager
def held_clock():
    before, clock.current = clock.current, HeldClock()
    try:
        yield clock.current
    finally:
        clock.current = before


class SlowToCount(dict):
    """The states of a run set that did not complete, where adding one takes long enough for another run to end."""

    def __init__(self, other_may_end, flow_was_judged):
        super().__init__()
        self._other_may_end = other_may_end
        self._flow_was_judged = flow_was_judged

    def __setitem__(self, index, state):
        self._other_may_end.set()
        self._flow_was_judged.wait(0.2)
        super().__setitem__(index, state)


@pytest.mark.behaviour("FLOW-RET-3")
def test_a_failure_is_counted_before_the_last_run_can_end_the_flow():
    may_fail, may_end, judged = threading.Event(), threading.Event(), threading.Event()
    both_run = threading.Barrier(3)

    @task
    def fails_or_waits(fails):
        both_run.wait(PATIENCE)
        if fails:
            wait_until_set(may_fail)
            raise ValueError
        wait_until_set(may_end)

    @flow
    def parent():
        run_set = fails_or_waits.map([True, False])[0]._run_set
        run_set.summary.not_completed = SlowToCount(may_end, judged)
        both_run.wait(PATIENCE)
        may_fail.set()

    state = parent(return_state=True)
    judged.set()
    assert state.is_failed()


@pytest.mark.behaviour("I1", "D3")
def test_a_value_that_the_journal_did_not_take_is_not_handed_out():
    started, may_end = threading.Event(), threading.Event()

    @task
    def ends_too_late():
        started.set()
        wait_until_set(may_end)
        return "recorded nowhere"

    @flow
    def parent():
        future = ends_too_late.submit()
        wait_until_set(started)
        break_journal()
        may_end.set()
        with pytest.raises(StoreError, match="disk is full"):
            future.result()
        refused.append(True)

    refused = []
    with setting(logging_to_api_enabled=False), pytest.raises(StoreError, match="disk is full"):
        parent()
    assert refused


def break_journal():
    """Makes the store refuse what comes next, as a full disk does, and waits until the journal knows."""

    def refuse(entries):
        raise StoreError("The disk is full.")

    journal = open_backend().journal
    journal._store = SimpleNamespace(apply=refuse)
    with pytest.raises(StoreError):
        # What the runs append may be refused before this is.
        journal.append(LogEntry(uuid4(), None, "test", 20, 0.0, "not stored"))
        journal.flush()


@pytest.mark.behaviour("D6", "I9")
def test_a_run_that_is_cancelled_while_its_call_is_on_its_way_to_a_worker_does_not_run():
    taken, may_run, ended, ran = (threading.Event() for _ in range(4))

    class SlowToBegin(ConcurrentTaskRunner):
        async def submit_batch(self, block):
            threading.Thread(target=self.take_and_wait, args=(block,)).start()

        def take_and_wait(self, block):
            call = block.take()
            taken.set()
            wait_until_set(may_run)
            call.run("slow")
            ended.set()

    @task
    def untouched():
        ran.set()

    @flow(task_runner=SlowToBegin())
    def parent():
        future = untouched.submit()
        wait_until_set(taken)
        future.cancel()
        assert future.wait(PATIENCE).is_cancelled()
        may_run.set()
        wait_until_set(ended)

    state = parent(return_state=True)

    assert not ran.is_set()
    (run,) = read_task_runs(state)
    assert [state.name for state in read_states(run.id)] == ["Pending", "Cancelled"]


@pytest.mark.behaviour("D13")
@pytest.mark.parametrize("runner", [ConcurrentTaskRunner(), FourMembersTaskRunner()], ids=lambda runner: runner.name)
def test_a_run_that_is_cancelled_while_it_waits_to_be_tried_again_is_not_tried_again(runner):
    attempts = []

    @task(retries=1, retry_delay_seconds=60)
    def fails():
        attempts.append(1)
        raise ValueError

    @flow(task_runner=runner)
    def parent(clock):
        future = fails.submit()
        wait_until_set(clock.something_is_due)
        future.cancel()
        assert future.wait(PATIENCE).is_cancelled()
        clock.go_on()
        after_it.submit().result(PATIENCE)

    @task
    def after_it():
        pass

    with held_clock() as clock:
        state = parent(clock, return_state=True)

    assert state.is_cancelled()
    assert len(attempts) == 1
    run, _ = read_task_runs(state)
    assert [state.name for state in read_states(run.id)] == ["Pending", "Running", "AwaitingRetry", "Cancelled"]


@pytest.mark.behaviour("D36")
def test_a_retry_that_comes_due_after_its_flow_has_ended_disturbs_nobody():
    @task(retries=1, retry_delay_seconds=60)
    def fails():
        raise ValueError

    @flow
    def parent(clock):
        future = fails.submit()
        wait_until_set(clock.something_is_due)
        future.cancel()
        return future.wait(PATIENCE).name

    with held_clock() as clock:
        assert parent(clock) == "Cancelled"
        clock.go_on()


class GoneTaskRunner(ConcurrentTaskRunner):
    """Takes no runs of the task named "refused"."""

    async def submit_batch(self, block):
        if block.run_set.task.name == "refused":
            raise OSError("the cluster is gone")
        await super().submit_batch(block)


@task(name="refused")
def refused(x=None):
    return x


@pytest.mark.behaviour("I7", "CRASH-3")
def test_runs_that_a_runner_refuses_crash_and_the_call_raises_why():
    @flow(task_runner=GoneTaskRunner())
    def parent():
        with pytest.raises(OSError, match="the cluster is gone"):
            refused.map(range(3))

    state = parent(return_state=True)

    assert state.is_failed()
    assert {run.state_type for run in read_task_runs(state)} == {"CRASHED"}


@pytest.mark.behaviour("I7", "CRASH-3")
def test_runs_that_a_runner_refuses_when_their_inputs_have_ended_crash():
    may_end = threading.Event()

    @task
    def upstream():
        wait_until_set(may_end)

    @flow(task_runner=GoneTaskRunner())
    def parent():
        held = upstream.submit()
        downstream = [refused.submit(held), *refused.map([held, held]), refused.submit(wait_for=[held])]
        may_end.set()
        return [future.wait(PATIENCE) for future in downstream]

    states = parent(return_state=True).result(raise_on_failure=False)

    assert [state.type.value for state in states] == ["CRASHED"] * 4
    assert all("the cluster is gone" in state.message for state in states)


@pytest.mark.behaviour("DEP-13")
def test_a_map_over_what_cannot_be_searched_raises_and_leaves_no_run_behind():
    @flow
    def parent():
        refused.with_options(name="same").submit(["linked"]).result()
        cyclic = []
        cyclic.append(cyclic)
        with pytest.raises(Exception, match="holds itself"):
            refused.with_options(name="same").map([cyclic])
        return "ended"

    assert parent() == "ended"


@pytest.mark.behaviour("FLOW-RET-16", "TASK-CALL-1")
def test_a_flow_run_whose_function_has_ended_starts_no_further_runs():
    contexts = []

    @flow
    def parent():
        contexts.append(contextvars.copy_context())
        return "ended"

    @flow
    def child():
        pass

    state = parent(return_state=True)

    for call in (refused, refused.submit, child):
        with pytest.raises(RuntimeError, match="has ended"):
            contexts[0].run(call)
    assert read_task_runs(state) == []


@pytest.mark.behaviour("FLOW-TIME-1", "FLOW-TIME-5")
def test_a_flow_times_out_while_a_sequential_runner_waits_to_try_a_task_again():
    @task(retries=1, retry_delay_seconds=600)
    def fails(x):
        raise ValueError

    @flow(timeout_seconds=0.1, task_runner=SequentialTaskRunner())
    def parent():
        fails.map(range(2))

    state = parent(return_state=True)

    assert state.name == "TimedOut"
    assert [run.state_type for run in read_task_runs(state)] == ["CANCELLED", "CANCELLED"]


@pytest.mark.anyio
async def test_runs_whose_submission_is_cancelled_in_async_code_end():
    started = threading.Event()
    may_end = threading.Event()

    @task(retries=1, retry_delay_seconds=600)
    async def held(x):
        started.set()
        await until_set(may_end)
        raise ValueError

    @flow(task_runner=SequentialTaskRunner())
    async def parent():
        submission = asyncio.ensure_future(held.map(range(3)))
        await until_set(started)
        submission.cancel()
        await asyncio.wait([submission])
        may_end.set()
        return "ended"

    assert await parent() == "ended"


class SequentialFourMembersTaskRunner(FourMembersTaskRunner):
    concurrency_type = TaskConcurrencyType.SEQUENTIAL

    async def submit(self, key, call):
        await super().submit(key, call)
        await self.wait(key)


@pytest.mark.behaviour("TASK-MAP-14", "RUN-6")
def test_a_sequential_runner_of_four_members_runs_the_children_of_a_map_one_after_another():
    attempts = []

    @task(retries=1, retry_delay_seconds=60)
    def fails_first(x):
        attempts.append(x)
        if attempts.count(x) == 1:
            raise ValueError

    @flow(task_runner=SequentialFourMembersTaskRunner())
    def parent():
        fails_first.map(range(3))

    with leaping_clock():
        assert parent(return_state=True).is_completed()
    assert attempts == [0, 0, 1, 1, 2, 2]


@pytest.fixture
def one_slot():
    """A tag whose runs have one slot between them."""
    ask(lambda client: client.create_concurrency_limit("one", 1))
    return "one"


@pytest.mark.behaviour("ORCH-22", "ORCH-23")
def test_a_run_that_is_cancelled_while_its_slot_is_taken_gives_it_back(one_slot, monkeypatch):
    taking, may_take = threading.Event(), threading.Event()
    take_slots = EmbeddedClient.take_slots

    def slow(client, *args):
        taking.set()
        wait_until_set(may_take)
        return take_slots(client, *args)

    monkeypatch.setattr(EmbeddedClient, "take_slots", slow)

    @flow
    def parent():
        limited = refused.with_options(name="limited", tags=[one_slot])
        cancelled = limited.submit()
        wait_until_set(taking)
        cancelled.cancel()
        assert cancelled.wait(PATIENCE).is_cancelled()
        may_take.set()
        return limited.submit("ran").result(PATIENCE)

    assert parent() == "ran"


@pytest.mark.behaviour("ORCH-22", "ORCH-23")
def test_a_run_that_is_tried_again_at_once_takes_a_slot_anew(one_slot):
    running, most, failed = [], [], []

    @task(retries=3, tags=[one_slot])
    def limited(x):
        running.append(x)
        time.sleep(0.005)
        most.append(len(running))
        running.remove(x)
        if failed.count(x) < 3:
            failed.append(x)
            raise ValueError

    @flow
    def parent():
        limited.map(range(4))

    assert parent(return_state=True).is_completed()
    assert set(most) == {1}


@pytest.mark.behaviour("ORCH-22", "I7")
def test_a_run_whose_slot_cannot_be_taken_crashes_and_those_behind_it_have_their_turn(one_slot, monkeypatch):
    take_slots = EmbeddedClient.take_slots
    refusals = [StoreError("The database is locked.")]

    def refuse_once(client, *args):
        if refusals:
            raise refusals.pop()
        return take_slots(client, *args)

    monkeypatch.setattr(EmbeddedClient, "take_slots", refuse_once)

    @flow
    def parent():
        limited = refused.with_options(name="limited", tags=[one_slot])
        return [future.wait(PATIENCE) for future in limited.map(range(3))]

    states = parent(return_state=True).result(raise_on_failure=False)

    assert [state.type.value for state in states] == ["CRASHED", "COMPLETED", "COMPLETED"]


@pytest.mark.behaviour("CRASH-2", "CRASH-8")
@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("returned", [None, "a value"])
def test_a_flow_that_never_looks_at_a_task_that_was_interrupted_crashes_all_the_same(exception, returned):
    @task
    def interrupted():
        raise exception

    @flow
    def parent():
        interrupted.submit().wait()
        return returned

    with pytest.raises(exception):
        parent()

    (run,) = read_flow_runs()
    assert run.state_type == "CRASHED"


@pytest.mark.behaviour("CRASH-1", "CRASH-2")
@pytest.mark.parametrize("exception", [asyncio.CancelledError, GeneratorExit])
def test_other_base_exceptions_of_a_task_crash_the_task_alone(exception):
    @task
    def crashes():
        raise exception

    @task
    async def crashes_on_the_loop():
        raise exception

    @flow
    def parent():
        return [crashes.submit().wait().type.value, crashes_on_the_loop.submit().wait().type.value]

    assert parent() == ["CRASHED", "CRASHED"]


@pytest.mark.behaviour("FLOW-RET-3")
def test_a_subflow_that_crashed_counts_for_a_parent_that_goes_on():
    class NeverStarts(ConcurrentTaskRunner):
        async def _start(self, exit_stack):
            raise OSError("no cluster")

    @flow(task_runner=NeverStarts())
    def child():
        pass

    @flow
    def parent():
        with pytest.raises(OSError, match="no cluster"):
            child()

    state = parent(return_state=True)

    assert state.is_failed()
    assert "1/1" in state.message


@pytest.mark.behaviour("D9", "FLOW-RETRY-4", "TASK-CALL-14")
@pytest.mark.parametrize("lengths", [(3, 5), (0, 2), (5, 3), (2, 4, 6)], ids=str)
def test_a_map_that_grows_or_shrinks_in_a_retry_of_its_flow_records_each_run_once(lengths):
    ran = []

    @task
    def noted(x):
        ran.append(x)
        return x

    @flow(retries=len(lengths) - 1)
    def parent():
        attempt = runtime.flow_run.run_count
        values = [future.result() for future in noted.map(range(lengths[attempt - 1]))]
        if attempt < len(lengths):
            raise ValueError
        return values

    state = parent(return_state=True)

    assert state.result() == list(range(lengths[-1]))
    assert ran == list(range(max(lengths)))
    runs = read_task_runs(state)
    assert [(run.name, run.dynamic_key, run.state_type) for run in runs] == [
        (f"noted-{index}", str(index), "COMPLETED") for index in range(max(lengths))
    ]


@pytest.mark.behaviour("TASK-DEF-5")
def test_a_run_that_was_not_ready_in_one_attempt_of_its_flow_is_named_in_the_next():
    @task
    def fails_once():
        if runtime.flow_run.run_count == 1:
            raise ValueError

    @task(task_run_name="named-{x}")
    def named(x):
        pass

    @flow(retries=1)
    def parent():
        named.submit(fails_once.submit())

    state = parent(return_state=True)

    assert state.is_completed()
    assert [run.name for run in read_task_runs(state)] == ["fails_once-0", "named-None"]


class SlowTaskRunner(ConcurrentTaskRunner):
    """Says when its start begins and when it was torn down, and waits in between until it may go on."""

    starting, may_start, torn_down = (threading.Event() for _ in range(3))

    async def _start(self, exit_stack):
        for event in (self.starting, self.may_start, self.torn_down):
            event.clear()
        exit_stack.callback(self.torn_down.set)
        self.starting.set()
        await until_set(self.may_start)
        await super()._start(exit_stack)


@pytest.mark.behaviour("I8", "RUN-13")
@pytest.mark.anyio
async def test_a_runner_whose_flow_is_interrupted_while_it_starts_is_stopped():
    @flow(task_runner=SlowTaskRunner())
    async def parent():
        pytest.fail("The function ran")

    SlowTaskRunner.starting.clear()
    call = asyncio.ensure_future(parent())
    await until_set(SlowTaskRunner.starting)
    call.cancel()
    await asyncio.sleep(0)
    SlowTaskRunner.may_start.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert SlowTaskRunner.torn_down.is_set()


def cancel_active(flow_name):
    (run,) = [run for run in active_flow_runs() if run.flow.name == flow_name]
    cancel_flow_run(run)


@pytest.mark.behaviour("D2", "FLOW-HOOK-6")
@pytest.mark.anyio
async def test_a_flow_run_that_is_cancelled_while_its_runner_starts_never_begins(hook_calls):
    ran = []

    @flow(task_runner=SlowTaskRunner(), on_cancellation=[hook_calls.note])
    async def parent():
        ran.append(True)

    SlowTaskRunner.starting.clear()
    call = asyncio.ensure_future(parent(return_state=True))
    await until_set(SlowTaskRunner.starting)
    cancel_active("parent")
    SlowTaskRunner.may_start.set()

    assert (await call).is_cancelled()
    assert not ran
    assert hook_calls.state_names == ["Cancelling"]


@pytest.mark.behaviour("FLOW-HOOK-6", "ORCH-20")
@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_a_cancellation_calls_its_hooks_once_however_the_function_ends(hook_calls, ending):
    @flow(on_cancellation=[hook_calls.note], on_completion=[hook_calls.note], on_failure=[hook_calls.note])
    def parent():
        try:
            cancel_active("parent")
            block()
        except FlowRunCancelled:
            if ending == "raises":
                raise ValueError from None

    assert parent(return_state=True).is_cancelled()
    assert hook_calls.state_names == ["Cancelling"]


class HookCalls:
    """Remembers the states with which a hook was called."""

    def __init__(self):
        self.state_names = []

    def note(self, flow, flow_run, state):
        self.state_names.append(state.name)


@pytest.fixture
def hook_calls():
    return HookCalls()


@pytest.mark.behaviour("FLOW-HOOK-1", "I9")
def test_a_runner_that_cannot_be_stopped_does_not_call_the_hooks_of_the_flow_again(hook_calls):
    class CannotStop(ConcurrentTaskRunner):
        async def _start(self, exit_stack):
            await super()._start(exit_stack)
            exit_stack.push_async_callback(self.refuse)

        async def refuse(self):
            raise OSError("the cluster does not answer")

    @flow(task_runner=CannotStop(), on_completion=[hook_calls.note], on_crashed=[hook_calls.note])
    def parent():
        return "ended"

    with pytest.raises(OSError, match="does not answer"):
        parent()

    assert hook_calls.state_names == ["Completed"]
    assert read_flow_runs()[0].state_type == "COMPLETED"


@pytest.mark.behaviour("D18")
def test_a_plain_call_after_one_that_found_no_local_runner_tries_again(monkeypatch):
    start = ConcurrentTaskRunner._start
    failures = [OSError("no more threads")]

    async def fails_once(runner, exit_stack):
        if failures:
            raise failures.pop()
        await start(runner, exit_stack)

    monkeypatch.setattr(ConcurrentTaskRunner, "_start", fails_once)

    @flow(task_runner=FourMembersTaskRunner())
    def parent():
        same = refused.with_options(name="same")
        with pytest.raises(OSError, match="no more threads"):
            same(1)
        return same(2)

    assert parent() == 2


class ShowsNothing(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.behaviour("CRASH-1", "I7")
def test_an_exception_whose_text_cannot_be_had_is_a_failure_like_any_other():
    @task
    def fails():
        raise ShowsNothing

    @flow
    def parent():
        return fails(return_state=True)

    state = parent(return_state=True).result(raise_on_failure=False)

    assert state.is_failed()
    assert "ShowsNothing" in state.message


@pytest.mark.behaviour("I7", "CACHE-2")
def test_a_cache_key_that_cannot_be_made_fails_the_run(hook_calls):
    def broken(context, parameters):
        raise ZeroDivisionError

    def note(task, task_run, state):
        hook_calls.state_names.append(state.name)

    @task(cache_key_fn=broken, on_failure=[note])
    def untouched():
        pytest.fail("The function ran")

    @flow
    def parent():
        with pytest.raises(ZeroDivisionError):
            untouched()
        return untouched.submit().wait()

    state = parent(return_state=True).result(raise_on_failure=False)

    assert state.is_failed()
    assert hook_calls.state_names == ["Failed", "Failed"]


@pytest.mark.behaviour("I7", "RES-7")
def test_an_exception_that_cannot_be_persisted_is_still_how_the_run_failed(monkeypatch):
    def refuse(storage, key, content):
        raise StorageError("The disk is full.")

    monkeypatch.setattr(LocalStorage, "write", refuse)

    @task(persist_result=True, retries=1)
    def fails(attempts):
        attempts.append(1)
        raise KeyError("mine")

    @task(persist_result=True)
    def returns():
        return [1]

    @flow(persist_result=True)
    def parent():
        attempts = []
        with pytest.raises(KeyError, match="mine"):
            fails(attempts)
        assert len(attempts) == 2
        assert isinstance(returns(return_state=True).result(raise_on_failure=False), StorageError)
        raise LookupError("the flow's")

    state = parent(return_state=True)

    assert state.is_failed()
    assert isinstance(state.result(raise_on_failure=False), LookupError)


@pytest.mark.behaviour("TASK-TIME-1", "TASK-CALL-9")
def test_the_time_limit_of_a_task_that_is_a_generator_covers_its_body():
    @task(timeout_seconds=0.05)
    def endless():
        while True:
            block(0.01)
            yield

    @flow
    def parent():
        return endless.submit().wait(PATIENCE)

    state = parent(return_state=True).result(raise_on_failure=False)

    assert state.name == "TimedOut"


@pytest.mark.behaviour("LOG-PRINT-1", "TASK-CALL-9")
def test_prints_of_a_task_that_is_a_generator_are_logged(capsys):
    @task(log_prints=True)
    def prints():
        print("from the body")
        yield 1

    @flow
    def parent():
        return prints()

    assert parent() == [1]
    assert capsys.readouterr().out == ""


@pytest.mark.behaviour("FLOW-RET-13", "FLOW-RET-16", "FLOW-RET-6")
def test_the_task_runs_of_a_flow_that_is_a_generator_are_waited_for():
    may_end = threading.Event()

    @task
    def held(x):
        wait_until_set(may_end)
        return x

    @flow
    def parent():
        for x in range(3):
            yield held.submit(x)
        may_end.set()

    states = parent(return_state=True).result()

    assert [state.result() for state in states] == [0, 1, 2]


@pytest.mark.behaviour("D10")
@pytest.mark.parametrize("exception", [ValueError, GeneratorExit])
def test_the_state_of_a_failed_run_does_not_keep_the_other_runs_of_its_map(exception):
    class Value:
        pass

    @task
    def fails_for_none(x):
        if x is None:
            raise exception
        return x

    kept = []

    @flow
    def parent():
        values = [Value() for _ in range(3)]
        futures = fails_for_none.map([*values, None])
        states = [future.wait() for future in futures]
        kept.extend(map(weakref.ref, [*values, futures[0]._run_set]))
        return states[-1]

    state = parent(return_state=True)
    gc.collect()

    assert isinstance(state.result(raise_on_failure=False).result(raise_on_failure=False), exception)
    assert [ref() for ref in kept] == [None] * 4


@pytest.mark.behaviour("FLOW-HOOK-4", "TASK-DEF-11")
@pytest.mark.anyio
async def test_async_hooks_of_sync_runs_are_awaited_in_code_that_a_loop_runs(hook_calls):
    class AsyncHook:
        async def __call__(self, state, **run):
            await asyncio.sleep(0)
            hook_calls.state_names.append(state.name)

    async def note(state, **run):
        await AsyncHook()(state)

    @task(on_completion=[note, AsyncHook()])
    def same(x):
        return x

    @flow(on_completion=[note, AsyncHook()], task_runner=SequentialTaskRunner())
    def parent():
        return same.submit(1).result()

    assert parent() == 1
    assert hook_calls.state_names == ["Completed"] * 4


@pytest.mark.behaviour("D8")
@pytest.mark.parametrize("ordered", [True, False])
def test_a_stream_yields_what_has_ended_while_its_source_has_more_to_come(ordered):
    @task(map_options=MapOptions(ordered=ordered))
    def same(x):
        return x

    read, read_when_first_yielded = [], []

    def source():
        for x in range(50):
            if not read_when_first_yielded:
                time.sleep(0.02)  # longer than a stream gathers items for one block
            read.append(x)
            yield x

    @flow
    def parent():
        values = []
        for future in same.stream(source()):
            read_when_first_yielded.append(len(read))
            values.append(future.result())
        return values

    assert sorted(parent()) == list(range(50))
    assert read_when_first_yielded[0] < 10


@pytest.mark.behaviour("D8")
@pytest.mark.anyio
async def test_an_async_stream_yields_what_has_ended_while_its_source_has_more_to_come():
    read, read_when_first_yielded = [], []

    async def source():
        for x in range(50):
            if not read_when_first_yielded:
                await asyncio.sleep(0.02)  # longer than a stream gathers items for one block
            read.append(x)
            yield x

    @task
    async def same(x):
        return x

    @flow
    async def parent():
        values = []
        async for future in same.stream(source()):
            read_when_first_yielded.append(len(read))
            values.append(await future.result())
        return values

    assert await parent() == list(range(50))
    assert read_when_first_yielded[0] < 10


@pytest.mark.behaviour("D2")
def test_a_request_that_was_written_before_its_flow_run_was_watched_is_answered(monkeypatch):
    cancelled = []
    monkeypatch.setattr(cancellation, "cancel_flow_run", cancelled.append)

    @flow
    def parent():
        run = FlowRunContext.get().run
        watch = _Watch(run.client)
        run.client.journal.flush()
        run.client.store.write_request("cancel", run.id, {})
        watch._answer({})
        watch._answer({run.id: run})
        assert cancelled == [run]

    parent()


@pytest.mark.behaviour("D2", "FLOW-SUB-17")
def test_a_subflow_that_begins_while_its_parent_is_being_cancelled_does_not_run(monkeypatch):
    ran = []

    @flow
    def child():
        ran.append(True)

    def cancel_parent(parameters):
        cancel_active("parent")
        return parameters

    monkeypatch.setattr(child, "validate_parameters", cancel_parent)

    @flow
    def parent():
        child()

    assert parent(return_state=True).is_cancelled()
    assert not ran
    assert {run.state_type for run in read_flow_runs()} == {"CANCELLED"}


@pytest.mark.behaviour("D34")
def test_as_completed_refuses_what_is_no_future():
    @flow
    def parent():
        with pytest.raises(TypeError, match="not int"):
            as_completed([refused.with_options(name="same").submit(), 1])

    parent()


@pytest.mark.anyio
async def test_a_cancelled_wait_of_as_completed_loses_no_future():
    may_end = threading.Event()

    @task
    async def held(x):
        await until_set(may_end)
        return x

    @flow
    async def parent():
        ended = as_completed(await held.map(range(3)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                async for _ in ended:
                    pytest.fail("None has ended")
        may_end.set()
        return {await future.result() async for future in ended}

    assert await parent() == {0, 1, 2}


def test_as_completed_may_be_shared_by_threads():
    @flow
    def parent():
        ended = as_completed(refused.with_options(name="same").map(range(20)), timeout=PATIENCE)
        with ThreadPoolExecutor(3) as pool:
            shares = list(pool.map(lambda _: list(ended), range(3)))
        return sorted(future.result() for share in shares for future in share)

    assert parent() == list(range(20))
