"""What a process that runs flows does for the store beside: dead processes' runs are ended, old runs deleted (D31)."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from core_engine import clock
from core_engine.concurrency.threads import service_threads
from core_engine.settings import get_current_settings

if TYPE_CHECKING:
    from core_engine.backend.store import Store
    from core_engine.client.embedded import EmbeddedClient
    from core_engine.concurrency.waiting import Outcome
    from core_engine.exceptions import CoreEngineError

SECONDS_PER_DAY = 86_400.0
# How often a process asks whether a day has passed since any process deleted what was to be deleted.
ASK_SECONDS = 3_600.0

_logger = logging.getLogger("core_engine.engine")


class StoreCare:
    """Looks after one store while flow runs of this process use it. Used by the engine loop alone.

    Parameters:
        client: Of the store.
    """

    def __init__(self, client: EmbeddedClient) -> None:
        self._store = client.store
        self._has_reconciled = False
        self._ask_at = 0.0
        self._cleaning: Outcome[None] | None = None
        # Of whoever began the first flow run; the engine loop's thread knows no settings of its own.
        self._days = get_current_settings().runs_retention_days

    async def look(self) -> None:
        """Records what dead processes left, once; and begins, in a thread of its own, what is due once a day."""
        if not self._has_reconciled:
            self._has_reconciled = True
            await service_threads.submit(self._store.reconcile, clock.now()).arrive_result()
        if self._days is None or time.monotonic() < self._ask_at:
            return
        if self._cleaning is None or self._cleaning.is_set():
            self._ask_at = time.monotonic() + ASK_SECONDS
            # Not waited for: it may take long, and requests are to be answered meanwhile.
            self._cleaning = service_threads.submit(self._clean, self._days)

    def _clean(self, days: float) -> None:
        try:
            clean(self._store, days, clock.now())
        except Exception:
            _logger.warning("Old flow runs could not be deleted; it is tried again in an hour.", exc_info=True)


def clean(store: Store, days: float, now: float) -> bool:
    """Deletes flow runs that ended more than some days ago, with their results, unless that was done within a day.

    When several processes come to do it at the same time they share the work: each deletion is a short transaction.

    Parameters:
        store: The store.
        days: How long flow runs are kept.
        now: Seconds since the epoch.

    Returns:
        Whether it was done.
    """
    from core_engine.results import remove_results

    cleaned = store.read_cleaned()
    if cleaned is not None and now - cleaned < SECONDS_PER_DAY:
        return False
    report = store.delete_flow_runs(older_than=now - days * SECONDS_PER_DAY, now=now)
    remove_results(store, report, on_error=_warn_of_file_that_stays)
    # At the end: if this process ends meanwhile, the next one goes on.
    store.note_cleaned(now)
    if report.flow_runs:
        _logger.info(
            "Deleted %d flow runs that ended more than %g days ago (the setting RUNS_RETENTION_DAYS)",
            len(report.flow_runs),
            days,
        )
    return True


def _warn_of_file_that_stays(error: CoreEngineError) -> None:
    _logger.warning("%s It belonged to a flow run that was kept long enough; it is tried again tomorrow.", error)
