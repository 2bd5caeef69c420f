"""Races, lost outcomes and memory held: what a reading of the engine found, each defect with its test."""

from __future__ import annotations

import threading

import pytest

from core_engine import flow, task

PATIENCE = 10.0


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

    @task
    def fails_or_waits(fails):
        if fails:
            assert may_fail.wait(PATIENCE)
            raise ValueError
        assert may_end.wait(PATIENCE)

    @flow
    def parent():
        run_set = fails_or_waits.map([True, False])[0]._run_set
        run_set.summary.not_completed = SlowToCount(may_end, judged)
        run_set.flow_run.when_all_ended().add_callback(judged.set)
        may_fail.set()

    assert parent(return_state=True).is_failed()
