"""Waiting for calls to end: together in one thread, as long as they are short; by a callback of Ray's when they last.

Ray calls back in the very thread that hands workers their next calls, so that what is done there keeps workers waiting.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import Any

import ray

from runners.ray.calls import Call

# When the oldest calls have been waited for so long, and not enough of them have ended, some are left to callbacks.
SHORT_SECONDS = 0.02
# Calls end nearly in the order in which they were sent: it is enough to wait for the oldest.
MOST_TOGETHER = 32
# Where so many are on the way nobody waits for the next one: several are taken at once, which costs less.
TAKEN_TOGETHER = 8

# Takes an ended call, and what returns the value of its ``ending`` or raises what it ended with.
Take = Callable[[Call, Callable[[], Any]], None]


class Waiter:
    """The thread that takes ended calls, and whatever else is not to be done where it comes up.

    Parameters:
        logger: The runner's.
        take: Called in the thread, once for each call.
        waits_together: Whether several calls can be waited for at no cost. With Ray Client that is a question to its
            server.
        slots: Returns how many calls can be executed at once.
    """

    def __init__(self, logger: logging.Logger, take: Take, waits_together: bool, slots: Callable[[], int]) -> None:
        self._logger = logger
        self._take = take
        self._waits_together = waits_together
        self._slots = slots
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # Used in the thread only.
        self._together: dict[Any, Call] = {}
        self._thread = threading.Thread(target=self._run, name="core-engine-ray-calls", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Ends the thread, whatever calls are on their way. Blocks."""
        self._work.put(None)
        self._thread.join(timeout_seconds)
        self._together.clear()

    # Any thread -------------------------------------------------------------------------------------------------------

    def do(self, work: Callable[[], None]) -> None:
        """Has something done in the thread. Called by the garbage collector too: takes no lock."""
        self._work.put(work)

    def wait_for(self, call: Call) -> None:
        """Has a call taken when it has ended."""
        if self._waits_together:
            self._work.put(partial(self._together.__setitem__, call.ending, call))
        else:
            self._call_back(call)

    def _call_back(self, call: Call) -> None:
        def ended(future: Any) -> None:
            self._work.put(lambda: self._take(call, future.result))

        call.ending.future().add_done_callback(ended)

    # The thread -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                if self._together and self._work.empty():
                    self._wait_together()
                elif (work := self._work.get()) is None:
                    return
                else:
                    work()
            except Exception:
                self._logger.exception("What a worker of Ray returned could not be handled.")

    def _wait_together(self) -> None:
        oldest = list(islice(self._together, MOST_TOGETHER))
        enough = TAKEN_TOGETHER if len(oldest) == MOST_TOGETHER else 1
        ended = _ended(oldest, enough, SHORT_SECONDS)
        are_short = len(ended) >= enough
        if not are_short:
            # Others may have passed them, which want something else of a worker.
            ended = _ended(list(self._together), len(self._together), 0)
        for reference, fetch in zip(ended, _fetched(ended), strict=True):
            self._take(self._together.pop(reference), fetch)
        if not are_short:
            # No more than may be executed by now: of those behind them nothing is known. Were they left to callbacks
            # too, the next ones would have to wait for them, and be taken for long as well, and so on to the last.
            for reference in list(islice(self._together, max(1, self._slots()))):
                self._call_back(self._together.pop(reference))


def _ended(references: list[Any], enough: int, timeout_seconds: float) -> list[Any]:
    """Waits until so many have ended, or for so long; returns those that have."""
    try:
        ended, _ = ray.wait(references, num_returns=enough, timeout=timeout_seconds, fetch_local=False)
    except Exception:  # it says why when it is asked for each
        ended = references
    return list(ended)


def _fetched(ended: list[Any]) -> list[Callable[[], Any]]:
    """Returns what returns the value of each reference or raises its error, asking Ray once where none has one."""
    try:
        return [partial(_same, value) for value in ray.get(ended)]
    except Exception:
        return [partial(ray.get, reference) for reference in ended]


def _same(value: Any) -> Any:
    return value
