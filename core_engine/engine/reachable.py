"""Whether runs can be recorded, checked once per place and remembered for a while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from core_engine.concurrency.waiting import run_blocking

if TYPE_CHECKING:
    from core_engine.client.embedded import EmbeddedClient

REMEMBERED_SECONDS = 600.0

_reached: dict[str, float] = {}


async def check_api_reachable(client: EmbeddedClient, fail_message: str) -> None:
    """Checks that runs can be recorded; a success is remembered for ten minutes, a failure is not.

    Parameters:
        client: The client.
        fail_message: What cannot be done otherwise, for the error.

    Raises:
        RuntimeError: They cannot; names what could not be done, and where.
    """
    url = client.api_url
    if _reached.get(url, 0.0) > time.monotonic():
        return
    failure = client.journal.failure
    if failure is None:
        try:
            await run_blocking(client.store.data_version)
        except Exception as error:
            failure = error  # type: ignore[assignment]
    if failure is not None:
        raise RuntimeError(f"{fail_message}: {url} cannot be used. {failure}") from failure
    _reached[url] = time.monotonic() + REMEMBERED_SECONDS
