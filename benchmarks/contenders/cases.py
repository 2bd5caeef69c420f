"""What is common to all flows that are measured: what the store must hold after one, and what flows note down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core_engine import Flow

# What the flows of latency and those on clusters measured, in nanoseconds; emptied before each round.
times_ns: list[int] = []


@dataclass(slots=True, frozen=True)
class Expected:
    """What the store must hold of one flow run, exactly.

    Attributes:
        states: How many task runs are in each state, by name.
        changes: How many states the task runs went through, the first one included.
        value: What the flow returns.
        lines: How many log lines the task runs wrote.
        results: How many task runs have a stored result, and files there are.
        flow_state: Name of the flow run's state.
    """

    states: dict[str, int]
    changes: int
    value: Any
    lines: int = 0
    results: int = 0
    flow_state: str = "Completed"

    @property
    def task_runs(self) -> int:
        return sum(self.states.values())


@dataclass(slots=True, frozen=True)
class Case:
    """A flow to be called with a size.

    Attributes:
        flow: Takes the size as its one parameter.
        expected: From the size to what the store must hold.
        prepare: Called with the size before the clock starts; None: nothing.
    """

    flow: Flow[..., Any]
    expected: Callable[[int], Expected]
    prepare: Callable[[Flow[..., Any], int], object] | None = None


def completed(size: int, value: Any = "done", lines: int = 0, results: int = 0) -> Expected:
    """Returns what is expected of `size` tasks that were Pending, Running and Completed, and no more."""
    return Expected({"Completed": size}, 3 * size, value, lines, results)
