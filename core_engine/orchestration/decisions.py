"""The answer to a proposal: what the rules return, and what they write their answer into."""

from __future__ import annotations

from enum import Enum

from core_engine.schemas.states import State


class Answer(Enum):
    """The four answers to "this run wants to be in that state"."""

    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    WAIT = "WAIT"
    ABORT = "ABORT"


# An attribute of an Enum class costs more than a global, and every task run asks for one several times.
ACCEPT = Answer.ACCEPT
REJECT = Answer.REJECT
WAIT = Answer.WAIT
ABORT = Answer.ABORT


class Decision:
    """What orchestration answers to a proposed state.

    Attributes:
        answer: ACCEPT: the run is in the proposed state, which is `state`. REJECT: it is in `state` instead. WAIT:
            nothing changed; ask again in `seconds`. ABORT: nothing changed, and this execution is to end.
        current: The state that the run was in when it was asked; None means in none yet.
        proposed: The state that was asked for.
        state: The state to record and to go on with. After a REJECT it may be `current` itself: see `records`. None
            for WAIT and ABORT.
        seconds: How long to wait; 0.0 unless the answer is WAIT.
        reason: Why, in a sentence for people; None for ACCEPT.
        store_cache: Whether `state` may serve other runs under the cache key in its details.
        release_slots: Whether concurrency slots that the run holds, or was just granted, are to be given back.
    """

    __slots__ = ("answer", "current", "proposed", "reason", "release_slots", "seconds", "state", "store_cache")

    def __init__(self, current: State | None, proposed: State) -> None:
        self.answer = ACCEPT
        self.current = current
        self.proposed = proposed
        self.state: State | None = proposed
        self.seconds = 0.0
        self.reason: str | None = None
        self.store_cache = False
        self.release_slots = False

    @property
    def records(self) -> bool:
        """Whether `state` is a new one, to be recorded; False when the run stays as it is."""
        return self.state is not None and self.state is not self.current

    def reject(self, state: State, reason: str) -> None:
        """Answers that the run is to be in `state` instead."""
        self.answer = REJECT
        self.state = state
        self.reason = reason

    def stay(self, reason: str) -> None:
        """Answers that the run stays in the state it is in."""
        self.answer = REJECT
        self.state = self.current
        self.reason = reason

    def wait(self, seconds: float, reason: str) -> None:
        """Answers that the same is to be asked again in `seconds`."""
        self.answer = WAIT
        self.state = None
        self.seconds = seconds
        self.reason = reason

    def abort(self, reason: str) -> None:
        """Answers that this execution is to end without a change of state."""
        self.answer = ABORT
        self.state = None
        self.reason = reason

    def __repr__(self) -> str:
        parts = [self.answer.value]
        if self.state is not None:
            parts.append(str(self.state))
        if self.answer is WAIT:
            parts.append(f"{self.seconds:g} s")
        if self.reason:
            parts.append(repr(self.reason))
        return f"Decision({', '.join(parts)})"
