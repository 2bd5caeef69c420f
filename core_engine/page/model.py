"""What a page shows, as plain values: ``reading.py`` fills them from the store, the other modules draw them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from core_engine.page.spans import Span
from core_engine.schemas.states import CANCELLED, COMPLETED, CRASHED, FAILED, RUNNING, StateType

# Kinds of outcome, in the order in which tables and bars list them. A cached run is a completed one that did no work.
KINDS = ("completed", "cached", "failed", "cancelled", "running", "waiting")


def kind_of(type: StateType, name: str) -> str:
    """Returns the kind of outcome that a state is drawn and counted as."""
    if type is COMPLETED:
        return "cached" if name == "Cached" else "completed"
    if type is FAILED or type is CRASHED:
        return "failed"
    return {CANCELLED: "cancelled", RUNNING: "running"}.get(type, "waiting")


@dataclass(slots=True)
class TaskSummary:
    """One task of the run: how its runs ended, and how long those took that ran (seconds, ascending)."""

    name: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    durations: list[float] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def busy_seconds(self) -> float:
        return sum(self.durations)

    def quantile(self, share: float) -> float | None:
        """Returns the duration below which `share` (0 to 1) of the runs lie; None when none ran."""
        if not self.durations:
            return None
        return self.durations[min(len(self.durations) - 1, int(share * len(self.durations)))]


@dataclass(slots=True, frozen=True)
class Failure:
    """A task run that failed or crashed, and what it said."""

    run_name: str
    state_name: str
    message: str


@dataclass(slots=True)
class RunFacts:
    """What the page's head says about the flow run. Times are aware datetimes, None means not yet.

    ``states`` is the run's history: (name, kind, seconds since the first state).
    """

    flow_name: str
    run_name: str
    run_id: str
    state_name: str
    state_kind: str
    message: str | None
    started: datetime | None
    seconds: float | None
    facts: list[tuple[str, str]] = field(default_factory=list)
    states: list[tuple[str, str, float]] = field(default_factory=list)


@dataclass(slots=True)
class Timeline:
    """The spans of all task runs by lane, with what their numbers stand for.

    Attributes:
        total_seconds: How long the timeline is; above 0.
        tasks: Names, by ``Span.task``.
        states: (state name, kind), by ``Span.state``.
        lanes: (worker, its spans in any order), in the order in which they are drawn.
    """

    total_seconds: float
    tasks: list[str]
    states: list[tuple[str, str]]
    lanes: list[tuple[str, list[Span]]]


@dataclass(slots=True)
class RunPage:
    """Everything on one page. ``failures`` holds the first of them only."""

    facts: RunFacts
    tasks: list[TaskSummary]
    timeline: Timeline
    failures: list[Failure]

    def count(self, kind: str) -> int:
        """Returns how many task runs are of `kind`."""
        return sum(task.counts[kind] for task in self.tasks)

    @property
    def total(self) -> int:
        return sum(task.total for task in self.tasks)
