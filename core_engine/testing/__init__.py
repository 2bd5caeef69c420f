"""Helpers for the tests of those who use or extend core_engine.

harness.py       core_engine_test_harness: a temporary home, so that tests leave no trace in the real one
memory.py        memory_client: flows recorded in memory; MemoryStore, made of the modules memory_*.py
clocks.py        leaping_clock: retries that are due in an hour come at once
assertions.py    assert_does_not_warn, exceptions_equal, assert_uses_result_serializer, assert_uses_result_storage
conformance.py   TaskRunnerConformance: what every task runner must do
store_conformance.py   StoreConformance: what every store must do; its tests are in stores/

The last two need pytest: import them by their own names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core_engine.testing.assertions import (
    assert_does_not_warn,
    assert_uses_result_serializer,
    assert_uses_result_storage,
    exceptions_equal,
)
from core_engine.testing.clocks import LeapingClock, leaping_clock
from core_engine.testing.harness import core_engine_test_harness, get_most_recent_flow_run
from core_engine.testing.memory import MemoryStore, memory_client

__all__ = [
    "LeapingClock",
    "MemoryStore",
    "assert_does_not_warn",
    "assert_uses_result_serializer",
    "assert_uses_result_storage",
    "core_engine_test_harness",
    "exceptions_equal",
    "get_most_recent_flow_run",
    "leaping_clock",
    "memory_client",
]


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
