"""Code that records by hand: the least that a recorded task can cost here, without rules, states or handles."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks.contenders.bare import noop
from benchmarks.contenders.base import Contender, Round

FILE = "by_hand.db"
ROWS_IN_A_TRANSACTION = 1_000

_TABLE = (
    "CREATE TABLE IF NOT EXISTS task_run (owner INTEGER, number INTEGER, state INTEGER, created REAL, started REAL, "
    "ended REAL, run_time REAL, run_count INTEGER, worker TEXT, PRIMARY KEY (owner, number)) WITHOUT ROWID"
)
_INSERT = "INSERT INTO task_run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


def open_file(folder: Path) -> sqlite3.Connection:
    """Opens the database in `folder`, with the engine's synchronous mode."""
    folder.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(folder / FILE, isolation_level=None, check_same_thread=False, timeout=60.0)
    # SQLite does not wait when two processes make the file at once: this statement fails.
    patiently(lambda: db.execute("PRAGMA journal_mode = WAL"))
    db.execute(f"PRAGMA synchronous = {os.environ.get('CORE_ENGINE_DATABASE_SYNCHRONOUS', 'normal')}")
    db.execute(_TABLE)
    return db


def patiently(call: Callable[[], object]) -> None:
    """Calls until the file is not locked any more, in pauses that grow and differ between processes."""
    pause = 0.0005
    while True:
        try:
            call()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(pause * 1.5, 0.01)


def row(owner: int, number: int, created: float, started: float, ended: float) -> tuple[Any, ...]:
    """Returns a row about one call, with the three times of its states."""
    return (owner, number, 5, created, started, ended, ended - started, 1, "worker-1")


def insert_one(db: sqlite3.Connection, values: tuple[Any, ...]) -> None:
    """Commits one row."""
    db.execute("BEGIN IMMEDIATE")
    db.execute(_INSERT, values)
    db.execute("COMMIT")


class _WithFile(Contender):
    def prepare(self, round: Round) -> None:
        self._db = open_file(round.folder)

    def close(self, round: Round) -> None:
        self._db.close()


class LoopWithRows(_WithFile):
    """A loop that writes a row for each call, in transactions of many."""

    def run(self, round: Round) -> None:
        clock = time.time
        created = clock()
        rows = []
        for number in range(round.size):
            started = clock()
            noop(number)
            rows.append(row(1, number, created, started, clock()))
            if len(rows) == ROWS_IN_A_TRANSACTION:
                self._commit(rows)
                rows = []
        if rows:
            self._commit(rows)

    def _commit(self, rows: list[tuple[Any, ...]]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(_INSERT, rows)
        self._db.execute("COMMIT")


class Chain(_WithFile):
    """The bare chain behind one durable call: user thread, loop, worker thread, loop, writer that commits a row."""

    def run(self, round: Round) -> None:
        self._worker: SimpleQueue[tuple[int, float] | None] = SimpleQueue()
        self._writer: SimpleQueue[tuple[Any, ...] | None] = SimpleQueue()
        self._durable = threading.Lock()
        self._durable.acquire()
        self._loop = asyncio.new_event_loop()
        threads = [threading.Thread(target=target) for target in (self._loop.run_forever, self._work, self._write)]
        for thread in threads:
            thread.start()
        self._times = [self._call(number) for number in range(round.size)]
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._worker.put(None)
        self._writer.put(None)
        for thread in threads:
            thread.join()
        self._loop.close()

    def _call(self, number: int) -> int:
        start = time.perf_counter_ns()
        self._loop.call_soon_threadsafe(self._worker.put, (number, time.time()))
        self._durable.acquire()
        return time.perf_counter_ns() - start

    def _work(self) -> None:
        while (call := self._worker.get()) is not None:
            number, created = call
            started = time.time()
            noop(number)
            self._loop.call_soon_threadsafe(self._writer.put, row(1, number, created, started, time.time()))

    def _write(self) -> None:
        while (values := self._writer.get()) is not None:
            insert_one(self._db, values)
            self._durable.release()

    def report(self, round: Round) -> dict[str, Any]:
        return {"times_ns": self._times}


class Commits(_WithFile):
    """One process of many on a file: a commit of one row after another, asking for the lock again and again."""

    def run(self, round: Round) -> None:
        self._db.execute("PRAGMA busy_timeout = 0")
        self._times = [self._commit(number) for number in range(round.size)]

    def _commit(self, number: int) -> int:
        start = time.perf_counter_ns()
        values = row(os.getpid(), number, time.time(), time.time(), time.time())
        patiently(lambda: insert_one(self._db, values))
        return time.perf_counter_ns() - start

    def report(self, round: Round) -> dict[str, Any]:
        return {"commit_times_ns": self._times}
