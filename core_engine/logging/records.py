"""One stored log line, and where such lines go.

This module is the seam between logging and the store, and imports neither.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol
from uuid import UUID


class LogEntry(NamedTuple):
    """One line that a flow or task run logged: immutable, and cheap to make (a tuple).

    Attributes:
        flow_run_id: The flow run to which the line belongs.
        task_run_id: The task run that logged it; None for a line of the flow itself.
        name: The logger's name, such as ``core_engine.flow_runs``.
        level: The level's number, such as 20 for INFO.
        timestamp: When the line was logged, in seconds since the epoch.
        message: The text with its arguments filled in, followed by the traceback if there is one.
        worker: Which worker logged it; None for the flow's own process.
    """

    flow_run_id: UUID
    task_run_id: UUID | None
    name: str
    level: int
    timestamp: float
    message: str
    worker: str | None = None


class LogSink(Protocol):
    """Takes log lines on behalf of a store: the journal here, a worker's reporter elsewhere.

    Both methods may be called from any thread. A line that is logged by the sink itself is not handed back to it.
    """

    def append_log(self, entry: LogEntry) -> None:
        """Queue `entry`; returns at once. Lines of one thread keep their order."""

    def flush(self, timeout_seconds: float) -> bool:
        """Block until all that was queued before the call is delivered; returns False if the time ran out first."""
