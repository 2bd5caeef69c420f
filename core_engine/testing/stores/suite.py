"""What every part of the suite for stores is given."""

from __future__ import annotations

import pytest

from core_engine.backend.store import Store


class StoreSuite:
    """Base of the parts: the fixtures that a subclass gives."""

    @pytest.fixture
    def store(self) -> Store:
        """Returns an empty store; each subclass has its own."""
        raise NotImplementedError("Give the subclass a fixture `store` that returns an empty store.")

    @pytest.fixture
    def owner(self, store: Store) -> str:
        """Returns a lease that the store takes for held; each subclass has its own."""
        raise NotImplementedError("Give the subclass a fixture `owner` that returns a lease which is held.")
