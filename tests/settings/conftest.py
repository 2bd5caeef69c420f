from pathlib import Path

import pytest


@pytest.fixture
def environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Environment variables for one test, whose home exists; the next test reads its settings anew."""
    home.mkdir()
    return monkeypatch
