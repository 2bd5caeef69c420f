"""Every test has a home of its own."""

import os
from pathlib import Path

import pytest

from core_engine.settings import get_current_settings

_homes_seen: set[Path] = set()


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_a_home_that_nobody_has_used(home: Path, turn: int) -> None:
    assert home not in _homes_seen
    assert not home.exists()
    _homes_seen.add(home)
    home.mkdir(parents=True)


def test_settings_and_child_processes_see_the_home_of_the_test(home: Path) -> None:
    assert get_current_settings().home == home
    assert os.environ["CORE_ENGINE_HOME"] == str(home)
