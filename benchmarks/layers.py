"""Which part of the engine a line of code belongs to."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from benchmarks.processes import ROOT

# The first that fits counts; paths below the checkout.
_LAYERS = (
    ("core_engine/engine/maps", "map, run sets, futures"),
    ("core_engine/engine/run_sets", "map, run sets, futures"),
    ("core_engine/engine/task_calls", "map, run sets, futures"),
    ("core_engine/futures", "map, run sets, futures"),
    ("core_engine/engine/active", "map, run sets, futures"),
    ("core_engine/ids", "map, run sets, futures"),
    ("core_engine/lineage", "inputs and lineage"),
    ("core_engine/engine/inputs", "inputs and lineage"),
    ("core_engine/context", "contexts"),
    ("core_engine/engine/dispatch", "dispatch and runner"),
    ("core_engine/engine/calls", "dispatch and runner"),
    ("core_engine/concurrency/call_threads", "dispatch and runner"),
    ("core_engine.engine.task_loops", "dispatch and runner"),
    ("core_engine/concurrency/threads", "dispatch and runner"),
    ("runners/", "dispatch and runner"),
    ("core_engine/engine/proposals", "proposals: facts, entries"),
    ("core_engine/orchestration/", "rules"),
    ("core_engine/schemas/", "states and results"),
    ("core_engine/states", "states and results"),
    ("core_engine/results/", "states and results"),
    ("core_engine/utilities/callables", "binding of arguments"),
    ("core_engine/logging/", "logging"),
    ("core_engine/engine/run_logs", "logging"),
    ("core_engine/backend/journal", "journal: queue"),
    ("core_engine/backend/entries", "journal: queue"),
    ("core_engine/backend/folding", "journal: fold"),
    ("core_engine/backend/statements", "SQLite"),
    ("core_engine/backend/connections", "SQLite"),
    ("core_engine/backend/transactions", "SQLite"),
    ("core_engine/backend/gates", "SQLite"),
    ("core_engine/backend/", "journal: rows"),
    ("core_engine/", "task run: steps, the call, waiting"),
    ("benchmarks/", "the user's code"),
)
ELSEWHERE = "elsewhere"


@cache
def layer_of(file: str) -> str | None:
    """Returns the layer that a source file belongs to; None for a file outside of this checkout."""
    path = Path(file)
    if not path.is_relative_to(ROOT):
        return None
    relative = path.relative_to(ROOT).as_posix()
    return next((layer for prefix, layer in _LAYERS if relative.startswith(prefix)), None)
