"""Which flow run this process works for: a line of a thread that was started without its context is kept with that."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from core_engine.logging.records import LogSink

# Added to and removed from by the thread of a root flow run, on a worker by that of a block; read by any.
_here: list[tuple[UUID, LogSink]] = []


def add_run(flow_run_id: UUID, sink: LogSink) -> None:
    """Say that this process works for a root flow run, or on a worker for a block of a flow run's calls."""
    _here.append((flow_run_id, sink))


def remove_run(flow_run_id: UUID, sink: LogSink) -> None:
    """Take back what ``add_run`` said; a forked child has forgotten it."""
    if (flow_run_id, sink) in _here:
        _here.remove((flow_run_id, sink))


def only_run() -> tuple[UUID, LogSink] | None:
    """Return the flow run for which this process works, with what stores its lines; None: there is none, or several."""
    here = list(_here)
    return here[-1] if len({flow_run_id for flow_run_id, _ in here}) == 1 else None


def forget_all() -> None:
    """In a forked child: the flow runs are the parent's."""
    _here.clear()
