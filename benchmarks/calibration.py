"""How fast this machine is just now: a fixed piece of work of the kind that a task run is made of.

A bound on CPU time would hold on one machine only; a ratio to this loop, measured in the same process between the
flows, holds on any. It does what the engine does per task, in miniature: calls, slotted objects, dictionaries, locks,
context variables, rows for SQLite.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar

STEPS = 10_000
_ROWS = 100
_INSERT = "INSERT INTO step VALUES " + ",".join(["(?, ?, ?, ?)"] * _ROWS)

_variable: ContextVar[int] = ContextVar("benchmarks_calibration")


class _Step:
    __slots__ = ("name", "number", "time", "values")

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.time = time.time()
        self.values = {"number": number, "name": name}


def calibrate() -> float:
    """Does the work, and returns the CPU seconds that one step of it took."""
    start = time.process_time()
    lock = threading.Lock()
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("CREATE TABLE step (number INTEGER PRIMARY KEY, name TEXT, time REAL, state TEXT)")
    steps = [_one_step(number, lock) for number in range(STEPS)]
    for first in range(0, STEPS, _ROWS):
        rows = steps[first : first + _ROWS]
        db.execute(_INSERT, [value for step in rows for value in (step.number, step.name, step.time, None)])
    db.close()
    return (time.process_time() - start) / STEPS


def _one_step(number: int, lock: threading.Lock) -> _Step:
    step = _Step(number, "Completed")
    token = _variable.set(number)
    with lock:
        step.values.update(state=None, number=_variable.get())
    _variable.reset(token)
    return step


def cost_in_steps(flow: Callable[[int], object], tasks: int, rounds: int) -> float:
    """Returns what a task of `flow` costs, as a multiple of a step of the calibration.

    Both are measured in turn, and of each the least counts: whatever disturbs a round makes it dearer, never cheaper.

    Parameters:
        flow: Called with a number of tasks; returns when everything is durable.
        tasks: How many; enough for what the flow itself costs not to matter.
        rounds: How many, after one that warms up.
    """
    flow(tasks)
    calibrate()
    tasks_seconds, steps_seconds = [], []
    for _ in range(rounds):
        steps_seconds.append(calibrate())
        start = time.process_time()
        flow(tasks)
        tasks_seconds.append((time.process_time() - start) / tasks)
    return min(tasks_seconds) / min(steps_seconds)
