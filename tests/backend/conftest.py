"""A real store on a real file, fast because nothing is synced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core_engine.backend.journal import Journal
from core_engine.backend.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "core_engine.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path, synchronous="off")
    yield store
    store.close()


@pytest.fixture
def journal(store: SqliteStore) -> Iterator[Journal]:
    journal = Journal(store)
    yield journal
    if journal.failure is None:
        journal.close()


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """The suite for stores names behaviours in an attribute, because users of it do not have our marker."""
    behaviours = getattr(getattr(item, "function", None), "behaviours", ())
    if behaviours:
        item.add_marker(pytest.mark.behaviour(*behaviours))
