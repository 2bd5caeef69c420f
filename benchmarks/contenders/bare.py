"""Code that records nothing: what the work costs when nobody wants to know of it afterwards."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.contenders.base import Contender, Round

# How many threads the pool has; more are slower for calls that only hold the interpreter's lock.
POOL_THREADS = 8
# How many asyncio tasks are in flight, as in the engine's concurrent runner.
ASYNC_WINDOW = 1_000


def noop(number: int) -> None:
    """Does nothing."""


async def async_noop(number: int) -> None:
    """Does nothing, as a coroutine."""


class Loop(Contender):
    """``for``."""

    def run(self, round: Round) -> None:
        for number in range(round.size):
            noop(number)


class Pool(Contender):
    """A ThreadPoolExecutor, its start and end included, as the engine's runner starts and ends with its flow."""

    def run(self, round: Round) -> None:
        with ThreadPoolExecutor(POOL_THREADS) as pool:
            for _ in pool.map(noop, range(round.size)):
                pass


class Asyncio(Contender):
    """A new event loop, and a task of it for each call."""

    def run(self, round: Round) -> None:
        asyncio.run(self._main(round.size))

    async def _main(self, size: int) -> None:
        for start in range(0, size, ASYNC_WINDOW):
            await asyncio.gather(*(async_noop(number) for number in range(start, min(start + ASYNC_WINDOW, size))))


class PoolLatency(Contender):
    """One ``submit().result()`` after another on a ThreadPoolExecutor."""

    def run(self, round: Round) -> None:
        from time import perf_counter_ns

        self._times: list[int] = []
        with ThreadPoolExecutor(POOL_THREADS) as pool:
            for number in range(round.size):
                start = perf_counter_ns()
                pool.submit(noop, number).result()
                self._times.append(perf_counter_ns() - start)

    def report(self, round: Round) -> dict[str, Any]:
        return {"times_ns": self._times}


class _Dropping(logging.Handler):
    """Formats each record and drops the text."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)


class LogLines(Contender):
    """Lines logged to a handler that formats them and keeps nothing."""

    def prepare(self, round: Round) -> None:
        self._logger = logging.getLogger("benchmarks.bare")
        self._logger.handlers = [_Dropping()]
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False

    def run(self, round: Round) -> None:
        for number in range(round.size):
            self._logger.info("Line %d of %d", number, round.size)
