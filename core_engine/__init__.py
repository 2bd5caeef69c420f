"""core_engine: a workflow engine whose task runners are plug-ins.

    flows, tasks, futures   what users write and hold            definitions, *_methods: what they have in common
    states, schemas         what a run is in; records             exceptions, annotations, context, runtime
    engine                  how calls become runs                 orchestration: the rules, pure
    task_runners            the runner protocol                   concurrency: waiting, threads, loops, interrupts
    threads                 the user's own threads
    client, backend         how runs are recorded and read        results, serializers, lineage, lazy_states
    settings, logging       configuration, lines of runs          cli, page, testing, utilities
    vocabulary              which names are here, and what to use instead of others (absent_modules)

Everything below is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from core_engine import absent_modules as _absent_modules

if TYPE_CHECKING:
    from core_engine import runtime
    from core_engine.annotations import allow_failure, quote, unmapped
    from core_engine.client.embedded import get_client
    from core_engine.context import tags
    from core_engine.engine.pauses import pause_flow_run, resume_flow_run
    from core_engine.flows import Flow, flow
    from core_engine.futures import TaskFuture, as_completed
    from core_engine.logging import get_run_logger
    from core_engine.map_options import MapOptions
    from core_engine.schemas.states import State
    from core_engine.tasks import Task, exponential_backoff, task, task_input_hash

__version__ = "0.1.0"

__all__ = [
    "Flow",
    "MapOptions",
    "State",
    "Task",
    "TaskFuture",
    "__version__",
    "allow_failure",
    "as_completed",
    "exponential_backoff",
    "flow",
    "get_client",
    "get_run_logger",
    "pause_flow_run",
    "quote",
    "resume_flow_run",
    "runtime",
    "tags",
    "task",
    "task_input_hash",
    "unmapped",
]

_HOMES = {
    "Flow": "flows",
    "MapOptions": "map_options",
    "State": "schemas.states",
    "Task": "tasks",
    "TaskFuture": "futures",
    "allow_failure": "annotations",
    "as_completed": "futures",
    "exponential_backoff": "tasks",
    "flow": "flows",
    "get_client": "client.embedded",
    "get_run_logger": "logging.run_loggers",
    "pause_flow_run": "engine.pauses",
    "quote": "annotations",
    "resume_flow_run": "engine.pauses",
    "tags": "context",
    "task": "tasks",
    "task_input_hash": "tasks",
    "unmapped": "annotations",
}


def __getattr__(name: str) -> Any:
    if name == "runtime":
        return import_module("core_engine.runtime")
    if name not in _HOMES:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
    value = getattr(import_module(f"core_engine.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


_absent_modules.install()


def __dir__() -> list[str]:
    return sorted(__all__)
