"""No item waits for a slow one beside it while a slot is free (D15)."""

import threading
import time

import pytest

from core_engine import flow, task
from core_engine.task_runners import ConcurrentTaskRunner
from tests.faults.helpers import PATIENCE

SLOTS = 8


@pytest.mark.behaviour("D15")
def test_all_other_items_end_while_all_slots_but_one_are_taken():
    count, slow = 1_000, set(range(0, 1_000, 143))
    others_ended, lock, ended = threading.Event(), threading.Lock(), 0
    assert len(slow) == SLOTS - 1

    @task
    def item(index: int) -> int:
        nonlocal ended
        if index in slow:
            assert others_ended.wait(PATIENCE), "an item was committed to a slot whose item waits for it"
            return index
        with lock:
            ended += 1
            if ended == count - len(slow):
                others_ended.set()
        return index

    @flow(task_runner=ConcurrentTaskRunner(max_workers=SLOTS))
    def job() -> list[int]:
        return [future.result() for future in item.map(range(count))]

    assert job() == list(range(count))


@pytest.mark.behaviour("D15")
def test_as_many_items_as_slots_meet_after_a_thousand_of_which_some_are_slow():
    barrier = threading.Barrier(SLOTS)

    @task
    def item(index: int) -> int:
        if index >= 1_000:
            barrier.wait(PATIENCE)
        elif index % 100 == 0:
            time.sleep(0.01)
        else:
            time.sleep(0.0002)
        return index

    @flow(task_runner=ConcurrentTaskRunner(max_workers=SLOTS))
    def job() -> list[int]:
        return [future.result() for future in item.map(range(1_000 + SLOTS))]

    assert job() == list(range(1_000 + SLOTS))
