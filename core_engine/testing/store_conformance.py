"""What every store must do, as a test class for pytest. A store proves itself by a subclass:

    from core_engine.testing.store_conformance import StoreConformance

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self):
            return MyStore()

        @pytest.fixture
        def owner(self, store):
            return store.own_lease

The fixture `store` gives an empty store, `owner` a lease that this store takes for held. What several processes on one
store do to each other is each store's own affair, and so is what survives a killed process. Each test names the
behaviours that it holds in its attribute ``behaviours``. The tests are in ``core_engine.testing.stores``.
"""

from __future__ import annotations

from core_engine.testing.stores.cache import CacheSuite
from core_engine.testing.stores.flow_runs import FlowRunsSuite
from core_engine.testing.stores.histories import HistoriesSuite
from core_engine.testing.stores.later import LaterSuite
from core_engine.testing.stores.limits import LimitsSuite
from core_engine.testing.stores.logs import LogsSuite
from core_engine.testing.stores.recovery import RecoverySuite
from core_engine.testing.stores.requests import RequestsSuite
from core_engine.testing.stores.retention import RetentionSuite
from core_engine.testing.stores.task_runs import TaskRunsSuite

__all__ = ["StoreConformance"]


class StoreConformance(
    FlowRunsSuite,
    TaskRunsSuite,
    HistoriesSuite,
    LogsSuite,
    CacheSuite,
    LimitsSuite,
    RequestsSuite,
    RecoverySuite,
    RetentionSuite,
    LaterSuite,
):
    """Every behaviour that the engine and its clients rely upon, whatever the runs are kept in."""
