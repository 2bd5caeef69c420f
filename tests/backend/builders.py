"""Runs and their entries: those of the suite for stores."""

from core_engine.testing.stores.builders import (
    START,
    TaskRunScript,
    all_said,
    finish,
    flow_run,
    flow_state,
    group,
    log_line,
    moved,
    recorded,
    said,
)

__all__ = [
    "START",
    "TaskRunScript",
    "all_said",
    "finish",
    "flow_run",
    "flow_state",
    "group",
    "log_line",
    "moved",
    "recorded",
    "said",
]
