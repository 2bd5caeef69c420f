"""Questions of a worker whose answer it waits for: may this call start (D22), is my storage the flow's (D27).

A question goes up with the reports, and the answer comes down as a command. Commands may be dropped on their way: the
question is put again after a time, and given up after a longer one.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core_engine.remote.reporting import BlockReport
    from core_engine.remote.reports import Record

ASK_AGAIN_SECONDS = 2.0
GIVE_UP_SECONDS = 60.0


class Question:
    """A question of one call of a block; what the call needs can be done while it is on its way.

    Parameters:
        report: Takes the question.
        record: The question as it travels; who answers may meet it several times.

    Attributes:
        give_up_seconds: How long an answer is waited for.
    """

    def __init__(self, report: BlockReport, record: Record) -> None:
        self.give_up_seconds = GIVE_UP_SECONDS
        self._report = report
        self._record = record
        self._answered = threading.Event()
        self._answer = ""

    def ask(self) -> None:
        """Puts the question. Whoever takes the answer knows the question by then: it may come at once."""
        self._report.add(self._record)
        self._report.flush()

    def answer(self, what: str) -> None:
        """Takes the answer. Any thread."""
        self._answer = what
        self._answered.set()

    def wait(self) -> str | None:
        """Returns the answer; None when none came."""
        deadline = time.monotonic() + self.give_up_seconds
        while not self._answered.wait(min(ASK_AGAIN_SECONDS, self.give_up_seconds)):
            if time.monotonic() >= deadline:
                return None
            self.ask()
        return self._answer
