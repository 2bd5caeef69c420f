"""The store that the commands read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import UUID

from core_engine.exceptions import ObjectNotFound

if TYPE_CHECKING:
    from core_engine.backend.store import Store
    from core_engine.schemas.records import FlowRun


def open_store() -> Store:
    """Returns the store of the settings in force, after runs whose process is gone were recorded as Crashed.

    It is the process's own and stays open: a flow that ran here uses it too. Where this user may only read it, commands
    that change something are refused when they try.

    Raises:
        StoreError: The database cannot be opened, or is not one of ours.
    """
    from core_engine.backend.embedded import open_backend_for_reading

    store = open_backend_for_reading().store
    store.reconcile(time.time())
    return store


def read_run(store: Store, text: str) -> FlowRun:
    """Returns the flow run that `text` names: an id, the beginning of one, or a name.

    Raises:
        ObjectNotFound: None, or more than one, is named so.
    """
    return existing(store, store.resolve_flow_run_id(text))


def existing(store: Store, id: UUID) -> FlowRun:
    """Returns the flow run with this id.

    Raises:
        ObjectNotFound: There is none (any more).
    """
    run = store.read_flow_run(id)
    if run is None:
        raise ObjectNotFound(f"There is no flow run {id} in {store.path}.")
    return run
