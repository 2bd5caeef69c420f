"""The worker's end of the road over Dask: values are announced together, before any message that speaks of them."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from runners.dask.worker_road import DaskWorkerRoad


class Worker:
    """What the road uses of a Dask worker, on a loop of its own; the scheduler answers when it is let."""

    def __init__(self, fails=False):
        self.address = "tcp://here:1"
        self.loop = SimpleNamespace(asyncio_loop=asyncio.new_event_loop())
        self.scheduler = SimpleNamespace(update_data=self._update_data)
        self.happened = []
        self.may_answer = threading.Event()
        self._fails = fails
        self._thread = threading.Thread(target=self.loop.asyncio_loop.run_forever)
        self._thread.start()

    def update_data(self, data):
        self.happened.append(("data", sorted(data.values())))

    def log_event(self, topic, message):
        self.happened.append(("message", message))

    async def _update_data(self, who_has, nbytes, client):
        await asyncio.to_thread(self.may_answer.wait, 10)
        if self._fails:
            raise OSError("the scheduler is gone")
        assert who_has.keys() == nbytes.keys()
        self.happened.append(("announced", len(who_has)))

    def stop(self):
        self.loop.asyncio_loop.call_soon_threadsafe(self.loop.asyncio_loop.stop)
        self._thread.join()
        self.loop.asyncio_loop.close()


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.may_answer.set()
    worker.stop()


def road_of(worker):
    road = DaskWorkerRoad("client-1")
    road._worker = worker
    return road


@pytest.mark.behaviour("D12")
def test_values_are_announced_together_and_before_the_messages_that_follow(worker):
    road = road_of(worker)
    keys = [road.keep(value) for value in ("one", "two")]
    road.send(b"first")
    road.keep("three")
    road.send(b"second")
    road.send(b"third")
    assert ("message", b"first") not in worker.happened
    worker.may_answer.set()

    road.close()

    assert len(set(keys)) == 2
    assert worker.happened == [
        ("data", ["one", "two"]),
        ("announced", 2),
        ("message", b"first"),
        ("data", ["three"]),
        ("announced", 1),
        ("message", b"second"),
        ("message", b"third"),
    ]


@pytest.mark.behaviour("D12")
def test_a_call_does_not_end_before_its_values_are_announced(worker):
    road = road_of(worker)
    road.keep("value")
    closing = threading.Thread(target=road.close)
    closing.start()
    assert closing.is_alive()
    worker.may_answer.set()
    closing.join(10)

    assert worker.happened == [("data", ["value"]), ("announced", 1)]


def test_messages_of_a_call_without_values_go_at_once(worker):
    road = road_of(worker)

    road.send(b"first")
    road.close()

    assert worker.happened == [("message", b"first")]


def test_what_a_call_says_is_sent_though_its_values_cannot_be_announced(caplog):
    worker = Worker(fails=True)
    worker.may_answer.set()
    road = road_of(worker)
    road.keep("value")
    road.send(b"message")

    road.close()
    worker.stop()

    assert worker.happened == [("data", ["value"]), ("message", b"message")]
    assert "1 values could not be announced to the Dask scheduler: the scheduler is gone" in caplog.text
