"""Write transactions: one at a time over all processes, committed whole or not at all."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from core_engine.backend import connections
from core_engine.backend.connections import BUSY, WriteConnection, error_code, roll_back

# Within the gate only programs that know no gate can hold the lock.
_FIRST_PAUSE_SECONDS = 0.0005
_LONGEST_PAUSE_SECONDS = 0.01


@contextmanager
def writing(db: WriteConnection) -> Iterator[None]:
    """A write transaction: committed at the end of the block, rolled back when it raises."""
    gate = db.gate
    try:
        # In here, because a signal may end the waiting when the lock has just been got.
        if gate is not None:
            gate.enter()
        begin(db)
        yield
        db.execute("COMMIT")
    except BaseException:
        roll_back(db)
        raise
    finally:
        if gate is not None:
            gate.leave()


def begin(db: WriteConnection) -> None:
    """Begins a transaction, as soon as no other program writes. A signal may interrupt the thread in here."""
    deadline: float | None = None
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            db.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if error_code(error) not in BUSY:
                raise
            now = time.monotonic()
            deadline = deadline or now + connections.BUSY_TIMEOUT_SECONDS
            if now >= deadline:
                raise
        # Random, so that processes which lost together do not come back together.
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
