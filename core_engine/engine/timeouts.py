"""Timeouts: a call that must be over at a deadline, whatever the user's code does.

The call runs in a helper thread and the thread of the run waits for it. At the deadline the helper is interrupted,
again and again while Python code keeps it; the run goes on at once, and what the helper may still bring is dropped.
"""

from __future__ import annotations

import contextvars
import weakref
from collections.abc import Callable
from types import GeneratorType
from typing import Any

from core_engine.concurrency.interrupts import Interrupt, Section, call_interruptibly, current_section
from core_engine.concurrency.loops import engine_loop
from core_engine.concurrency.threads import service_threads
from core_engine.concurrency.waiting import Outcome

INTERRUPT_AGAIN_SECONDS = 0.1

# Calls of this process that went on when their time was over.
_abandoned: weakref.WeakSet[TimedCall] = weakref.WeakSet()


class Expired(Interrupt):
    """Raised in a call whose time is over."""


class TimedOut(Exception):
    """The call did not end in time; ``ended`` tells whether its code has ended since."""

    def __init__(self, timeout_seconds: float, abandoned: bool) -> None:
        super().__init__(f"exceeded the timeout of {timeout_seconds} seconds")
        self.timeout_seconds = timeout_seconds
        self.abandoned = abandoned


class TimedCall:
    """A call in a helper thread: its outcome, and where it can be interrupted."""

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.outcome: Outcome[Any] = Outcome()
        self.section: Section | None = None
        self._function = function
        self._args = args
        self._kwargs = kwargs

    @property
    def ident(self) -> int | None:
        """The thread that makes the call; None before it has begun."""
        return None if self.section is None else self.section.ident

    def run(self) -> None:
        self.section = section = current_section()
        self.outcome.run(self._call, section)

    def _call(self, section: Section) -> Any:
        value = call_interruptibly(section, self, self._function, self._args, self._kwargs)
        return value if type(value) is not GeneratorType else call_interruptibly(section, self, list, (value,), {})

    def interrupt(self, call: object, exception: type[Interrupt]) -> bool:
        """Interrupts the call if it has not ended; returns whether it has not."""
        if self.outcome.is_set():
            return False
        return self.section is None or self.section.interrupt(self, exception)

    def expire(self) -> None:
        """Interrupts the call until it has ended."""
        if self.interrupt(self, Expired):
            engine_loop().call_later(INTERRUPT_AGAIN_SECONDS, self.expire)


def call_in_time(call: TimedCall, timeout_seconds: float) -> Any:
    """Makes the call in a helper thread and returns what it returns, within a time limit. Blocks this thread.

    Raises:
        TimedOut: It did not end in time.
        BaseException: What the function raised.
    """
    context = contextvars.copy_context()
    service_threads.run(lambda: context.run(call.run))
    try:
        ended = call.outcome.wait(timeout_seconds)
    except BaseException:
        call.expire()  # who waits is ended, and with it the call
        raise
    if ended:
        return call.outcome.result()
    call.expire()
    # Python code that can be interrupted is gone within a moment: then nothing is left running behind the run's back.
    ended = call.outcome.wait(INTERRUPT_AGAIN_SECONDS / 2)
    if not ended:
        _abandoned.add(call)
    raise TimedOut(timeout_seconds, abandoned=not ended)


def is_code_left_behind() -> bool:
    """Returns whether a call of this process goes on whose time is over."""
    return len(_abandoned) > 0 and any(not call.outcome.is_set() for call in list(_abandoned))
