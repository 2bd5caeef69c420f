"""The store that the commands read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import UUID

from core_engine.exceptions import ObjectNotFound

if TYPE_CHECKING:
    from core_engine.backend.store import Store
    from core_engine.schemas.records import FlowRun, TaskRun


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


def read_run_id(store: Store, run: str, task_run: str | None) -> UUID:
    """Returns the id of the flow run or task run that is named.

    Parameters:
        store: The store.
        run: A flow run, as for ``read_run``; or the id of a task run.
        task_run: Name or id of a task run of that flow run; None: it is not of one.

    Raises:
        ObjectNotFound: None, or more than one, is named so.
    """
    if task_run is not None:
        return _find_task_run(store, store.resolve_flow_run_id(run), task_run).id
    try:
        return store.resolve_flow_run_id(run)
    except ObjectNotFound:
        try:
            id = UUID(run)
        except ValueError:
            pass
        else:
            return id
        raise


def _find_task_run(store: Store, flow_run_id: UUID, name: str) -> TaskRun:
    # A usual name is the task's with a number; only runs that were named otherwise need a look at all.
    task_name = name.rpartition("-")[0]
    for filters in ({"task_name": task_name}, {}):
        for found in store.read_task_runs(flow_run_id, **filters):  # type: ignore[arg-type]
            if name in (found.name, str(found.id)):
                return found
    raise ObjectNotFound(f"The flow run {flow_run_id} has no task run named {name!r}.")
