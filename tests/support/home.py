"""Every test has a home of its own: no test sees another's runs, cache or settings, nor the developer's.

The home of the whole session is set while pytest starts, before anything imports ``core_engine``.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

_PREFIX = "CORE_ENGINE_"
_session_home = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    for name in [name for name in os.environ if name.startswith(_PREFIX)]:
        del os.environ[name]
    config.stash[_session_home] = Path(tempfile.mkdtemp(prefix="core-engine-tests-"))
    os.environ["CORE_ENGINE_HOME"] = str(config.stash[_session_home] / "session")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_session_home], ignore_errors=True)
