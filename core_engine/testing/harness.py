"""A temporary home for the length of a test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core_engine.schemas.records import FlowRun

# What could lead out of the temporary home; each goes back to its default, which lies in the home or is none.
_LEADS_ELSEWHERE = ("API_URL", "API_KEY", "DATABASE_PATH", "LOCAL_STORAGE_PATH", "PROFILES_PATH")


@contextmanager
def core_engine_test_harness() -> Iterator[Path]:
    """Run flows of the block in a temporary home, which the block is given as a path.

    Runs, results and cached values of the block are kept there and removed with it; connection settings are restored
    afterwards. The settings are those of the block's thread, and of the flows it calls.

    Example:
        >>> @pytest.fixture(autouse=True)
        ... def temporary_home():
        ...     with core_engine_test_harness():
        ...         yield
    """
    from core_engine.settings import temporary_settings

    with (
        tempfile.TemporaryDirectory(prefix="core-engine-test-") as folder,
        temporary_settings({"HOME": folder}, restore_defaults=_LEADS_ELSEWHERE) as settings,
    ):
        try:
            yield Path(folder)
        finally:
            if settings.database_path.exists():
                _close_database()


def _close_database() -> None:
    """Write what is queued and close the files, so that the folder can be removed."""
    from core_engine.backend import open_backend

    open_backend().close()


async def get_most_recent_flow_run() -> FlowRun | None:
    """Return the flow run that was created last, None where there is none."""
    from core_engine import get_client

    async with get_client() as client:
        runs: list[FlowRun] = await client.read_flow_runs(limit=1)
    return runs[0] if runs else None
