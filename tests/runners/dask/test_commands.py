"""Commands on their way to Dask's workers: many at once are one message."""

from __future__ import annotations

import asyncio
import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from core_engine.task_runners import LoopThread
from runners.dask.road import DaskRoad


@pytest.mark.behaviour("D23")
def test_commands_that_come_while_others_are_on_their_way_go_together_and_once() -> None:
    sent: list[tuple[str, list[bytes]]] = []
    two_sent, may_arrive, all_sent = threading.Event(), threading.Event(), threading.Event()

    async def run(function: Any, commands: list[bytes], workers: list[str], on_error: str) -> None:
        sent.append((workers[0], commands))
        if len(sent) == 2:
            two_sent.set()
        await asyncio.to_thread(may_arrive.wait, 10)
        if len(sent) == 3:
            all_sent.set()

    client = SimpleNamespace(
        run=run, id="client-1", status="running", _handle_report_task=None, scheduler=SimpleNamespace(address="tcp://1")
    )
    loop = LoopThread("core-engine-test")
    road = DaskRoad(client, loop, logging.getLogger("core_engine.test"), 1)
    try:
        road.command("worker-1", b"first")
        road.command("worker-2", b"other")
        assert two_sent.wait(10)
        for number in range(1_000):
            road.command("worker-1", b"%d" % (number % 10))
        may_arrive.set()
        assert all_sent.wait(10)
    finally:
        loop.stop()

    assert sorted(sent[:2]) == [("worker-1", [b"first"]), ("worker-2", [b"other"])]
    assert sent[2:] == [("worker-1", [b"%d" % number for number in range(10)])]
