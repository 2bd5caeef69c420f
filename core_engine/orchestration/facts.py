"""What a decision needs to know beside the run and its policy, gathered by whoever asks. Times are epoch seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from core_engine.schemas.states import State, StateType


class SlotOutcome(Enum):
    """What came of asking for concurrency slots."""

    GRANTED = "granted"
    FULL = "full"
    ZERO = "zero"


@dataclass(slots=True, frozen=True)
class SlotAnswer:
    """What came of asking for a slot of each limited tag of a run.

    Attributes:
        outcome: GRANTED: the run holds a slot of every limited tag. FULL: `tag` has none to spare. ZERO: `tag` has the
            limit 0. After FULL and ZERO the run holds none at all.
        tag: The tag in the way; None if granted.
    """

    outcome: SlotOutcome
    tag: str | None = None

    @classmethod
    def full(cls, tag: str) -> SlotAnswer:
        return cls(SlotOutcome.FULL, tag)

    @classmethod
    def zero(cls, tag: str) -> SlotAnswer:
        return cls(SlotOutcome.ZERO, tag)


SLOTS_GRANTED = SlotAnswer(SlotOutcome.GRANTED)


@dataclass(slots=True, eq=False)
class TaskFacts:
    """Facts for a decision on a task run. One object may serve many decisions, with its fields set anew for each.

    Attributes:
        now: The time by the flow's process' clock; accepted states get it as their timestamp.
        flow_state_type: What the flow run is in. None means that it is not known here, because it was asked at
            dispatch.
        flow_run_count: Which attempt of the flow this is, from 1.
        flow_run_found: False when the flow run was looked for and does not exist any more.
        cached: The newest valid state that is stored under the proposed state's cache key; None means none.
        slots: What came of asking for concurrency slots for this start; None means that the run needs none.
        jitter: A uniform random number in [0, 1) from which a retry delay varies.
        execution: The execution of the run that the proposal comes from. None means that it comes from outside of any,
            such as the start of a new one.
    """

    now: float
    flow_state_type: StateType | None = None
    flow_run_count: int = 1
    flow_run_found: bool = True
    cached: State | None = None
    slots: SlotAnswer | None = None
    jitter: float = 0.5
    execution: int | None = None


@dataclass(slots=True, eq=False)
class FlowFacts:
    """Facts for a decision on a flow run.

    Attributes:
        now: The time; accepted states get it as their timestamp.
        has_process: Whether a process is known to look after the run, which can answer to a cancellation.
        new_pause_key: A fresh random text, the key of a pause that names none; None leaves such a pause without one.
        execution: As for TaskFacts.
    """

    now: float
    has_process: bool = False
    new_pause_key: str | None = None
    execution: int | None = None
