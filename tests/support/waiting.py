"""Waiting for what happens elsewhere: in other threads and processes, of which nobody tells the test."""

import time
from collections.abc import Callable

PATIENCE = 30.0


def wait_for(condition: Callable[[], bool], what: str = "it", seconds: float = PATIENCE) -> None:
    """Wait until something has happened; `what` names it for the failure."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} seconds"
        time.sleep(0.005)
