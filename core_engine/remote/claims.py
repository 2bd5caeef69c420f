"""Claims: on a cluster that may start a call again by itself, a start asks the flow's process before it executes (D22).

The question goes up at once, and what the call needs is unpickled while the answer is on its way.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from core_engine.remote.commands import GRANTED
from core_engine.remote.reports import CLAIM, UNANSWERED

if TYPE_CHECKING:
    from core_engine.remote.reporting import BlockReport

# Commands may be dropped on their way: the question is put again after a time, and given up after a longer one.
ASK_AGAIN_SECONDS = 2.0
GIVE_UP_SECONDS = 60.0


class Claim:
    """The claim of one call of a block.

    Parameters:
        report: Takes the question.
        give_up_seconds: How long to wait for an answer; None: GIVE_UP_SECONDS.
    """

    def __init__(self, report: BlockReport, give_up_seconds: float | None = None) -> None:
        self._report = report
        self._give_up_seconds = GIVE_UP_SECONDS if give_up_seconds is None else give_up_seconds
        self._answered = threading.Event()
        self._answer = ""

    def ask(self) -> None:
        """Sends the question."""
        self._report.add((CLAIM,))
        self._report.flush()

    def answer(self, what: str) -> None:
        """Takes the answer. Any thread."""
        self._answer = what
        self._answered.set()

    def is_granted(self) -> bool:
        """Waits for the answer and returns whether the call is to execute; where none comes that is reported."""
        deadline = time.monotonic() + self._give_up_seconds
        while not self._answered.wait(min(ASK_AGAIN_SECONDS, self._give_up_seconds)):
            if time.monotonic() > deadline:
                self._report.add((UNANSWERED, self._give_up_seconds))
                return False
            self.ask()
        return self._answer == GRANTED
