"""The stores pass the suite that every store must pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core_engine.backend import leases
from core_engine.backend.sqlite import SqliteStore
from core_engine.testing import MemoryStore
from core_engine.testing.store_conformance import StoreConformance


class TestSqliteStore(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqliteStore]:
        store = SqliteStore(tmp_path / "core_engine.db", synchronous="off")
        yield store
        store.close()

    @pytest.fixture
    def owner(self, store: SqliteStore) -> str:
        return leases.own_lease(store.path.parent).name


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    @pytest.fixture
    def owner(self, store: MemoryStore) -> str:
        return store.owner
