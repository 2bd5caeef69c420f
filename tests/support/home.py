"""Every test has a home of its own: no test sees another's runs, cache or settings, nor the developer's.

Only the path is made for each test; whoever writes to it makes the folder. Processes that a test starts inherit it.
"""

import contextlib
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_PREFIX = "CORE_ENGINE_"
_VARIABLE = _PREFIX + "HOME"
_homes_of_session = pytest.StashKey[Path]()
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    # Before anything imports core_engine: collection already runs code of test modules.
    for name in [name for name in os.environ if name.startswith(_PREFIX)]:
        del os.environ[name]
    config.stash[_homes_of_session] = Path(tempfile.mkdtemp(prefix="core-engine-tests-"))
    os.environ[_VARIABLE] = str(config.stash[_homes_of_session] / "collection")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_homes_of_session], ignore_errors=True)


@pytest.fixture(autouse=True)
def home(pytestconfig: pytest.Config, nothing_left_behind: None) -> Iterator[Path]:
    """Give the test a home that nobody has used, and settings that name it; return its path."""
    homes = pytestconfig.stash[_homes_of_session]
    path = homes / f"home-{next(_numbers)}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(_VARIABLE, str(path))
        _read_settings_anew()
        yield path
        _close_databases()
    _read_settings_anew()
    shutil.rmtree(path, ignore_errors=True)


def _read_settings_anew() -> None:
    """Make the process's settings those of the environment; where nobody has read any, nothing is imported."""
    settings = sys.modules.get("core_engine.settings")
    if settings is not None:
        settings.load_process_settings()


def _close_databases() -> None:
    """Close what the test's runs were recorded in: each database costs a thread and some files until then."""
    embedded = sys.modules.get("core_engine.backend.embedded")
    if embedded is None:
        return
    from core_engine.exceptions import StoreError

    for backend in list(embedded._backends.values()):
        # A test that broke its database has said so itself.
        with contextlib.suppress(StoreError):
            backend.close()
