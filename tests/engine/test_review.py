"""Races, lost outcomes and memory held: what a reading of the engine found, each defect with its test."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from types import SimpleNamespace
from uuid import uuid4

import pytest

from core_engine import clock, flow, task
from core_engine.backend import open_backend
from core_engine.exceptions import StoreError
from core_engine.logging.records import LogEntry
from runners.concurrent import ConcurrentTaskRunner
from tests.behaviours.helpers import PATIENCE, read_states, read_task_runs, setting, wait_until_set
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
    journal.append(LogEntry(uuid4(), None, "test", 20, 0.0, "not stored"))
    with pytest.raises(StoreError):
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
