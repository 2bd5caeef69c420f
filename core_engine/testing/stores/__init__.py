"""The parts of ``core_engine.testing.store_conformance``, by what they ask of a store.

builders.py     flow runs, groups and entries as the engine would make them
lives.py        what task runs may go through, and the check that it is told as it was
suite.py        the fixtures that all parts are given
flow_runs.py, task_runs.py, histories.py, logs.py, cache.py, limits.py, requests.py, recovery.py, retention.py
"""

from __future__ import annotations

import pytest

_WITH_ASSERTIONS = (
    "cache",
    "flow_runs",
    "histories",
    "limits",
    "lives",
    "logs",
    "recovery",
    "requests",
    "retention",
    "task_runs",
)

# Before they are imported: a failing assertion then shows its values, as in a test file.
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _WITH_ASSERTIONS))
