"""Large values that stay on the cluster: held while somebody may ask for them, fetched before it goes away (D26)."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from core_engine.exceptions import CoreEngineError
from core_engine.remote.values import ClusterResult

if TYPE_CHECKING:
    from core_engine.remote.roads import Road

# A cluster may try to bring a value for ever, where the way to it is closed: the end of a flow run waits no longer.
FETCH_SECONDS = 120.0

_logger = logging.getLogger("core_engine.remote")


class KeptValues:
    """The values of one session that are on its cluster.

    Parameters:
        road: The way to the cluster.
    """

    def __init__(self, road: Road) -> None:
        self._road = road
        self._results: weakref.WeakValueDictionary[str, ClusterResult[Any]] = weakref.WeakValueDictionary()

    def keep(self, key: str, size: int, value_type: str) -> ClusterResult[Any]:
        """Returns the record of a value that a worker kept, the same for two runs that have the same value; the cluster
        lets the value go when nobody holds the record."""
        known = self._results.get(key)
        if known is not None:
            return known
        result: ClusterResult[Any] = ClusterResult(key, size, value_type, self._road)
        try:
            self._road.reference(key)
        except LookupError:
            result.leave()  # gone with its worker as soon as that had reported it
            return result
        self._results[key] = result
        weakref.finalize(result, self._road.release, key).atexit = False
        return result

    def lose(self, keys: Iterable[str]) -> None:
        """Values are gone with a worker: who asks for one is told so, and runs that need it are not sent again."""
        for key in keys:
            result = self._results.get(key)
            if result is not None:
                result.leave()

    def fetch_all(self, limit_bytes: int) -> None:
        """Fetches what somebody may still ask for; what is too much, or does not come in time, is missing from
        now on; the former with one warning."""
        left, missing = limit_bytes, 0
        deadline = time.monotonic() + FETCH_SECONDS
        for result in list(self._results.values()):
            if result.has_cached_object():
                continue
            if result.size > left:
                missing += 1
                result.leave()
                continue
            try:
                result.fetch(max(0.0, deadline - time.monotonic()))
                left -= result.size
            except CoreEngineError as error:
                _logger.debug("A result was lost with the cluster: %s", error)
                result.leave(str(error))
        if missing:
            _logger.warning(
                "%d large results stayed on the cluster and are missing from now on: together they exceed the setting "
                "results_fetch_limit_bytes (%s). Use persist_result=True to keep such results.",
                missing,
                f"{limit_bytes:,}",
            )
