"""Records: what the engine, the rules and the store say to each other about runs.

- ``states``   StateType, StateDetails, State
- ``records``  FlowRun, TaskRun, TaskRunGroup (all task runs of one call, submit or map), TaskPolicy, Event
"""

from __future__ import annotations

from core_engine.schemas.records import Event, FlowRun, TaskPolicy, TaskRun, TaskRunGroup, TaskRunResult
from core_engine.schemas.states import State, StateDetails, StateType

__all__ = [
    "Event",
    "FlowRun",
    "State",
    "StateDetails",
    "StateType",
    "TaskPolicy",
    "TaskRun",
    "TaskRunGroup",
    "TaskRunResult",
]
