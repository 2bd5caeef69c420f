"""Removing stored results whose runs were deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from core_engine.exceptions import CoreEngineError
from core_engine.results.files import delete_result

if TYPE_CHECKING:
    from core_engine.backend.store import DeletionReport, Store


def remove_results(store: Store, report: DeletionReport, on_error: Callable[[CoreEngineError], None]) -> None:
    """Removes the files of a deletion's report, to which nothing refers any more, and tells the store which are gone.

    Parameters:
        store: The store that made the report.
        report: What was deleted; not that of a dry run.
        on_error: Told of each file that cannot be removed; the store's next report lists it again.

    Raises:
        StoreError: The store cannot be told.
    """
    removed = []
    for record in report.results:
        try:
            delete_result(record)
        except CoreEngineError as error:
            on_error(error)
        else:
            removed.append(record)
    if removed:
        store.forget_results(removed)
