"""The store on SQLite: one file in write-ahead mode, shared by all processes of a home."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from core_engine.backend import (
    cache_reads,
    deployments,
    events,
    flow_reads,
    history,
    leases,
    limits,
    log_reads,
    recovery,
    requests,
    retention,
    task_reads,
)
from core_engine.backend.connections import (
    ReadPool,
    WriteConnection,
    abandon,
    connect,
    connect_for_reading,
    sidecars,
    translated,
)
from core_engine.backend.entries import Entry
from core_engine.backend.opening import prepare_database
from core_engine.backend.store import (
    DeletionReport,
    Order,
    Request,
    StoredLog,
    TaskRunCount,
    TaskRunTime,
)
from core_engine.backend.writes import BatchWriter
from core_engine.orchestration.facts import SlotAnswer
from core_engine.schemas.records import Deployment, Event, FlowRun, TaskRun, TaskRunGroup
from core_engine.schemas.states import State, StateType


class SqliteStore:
    """A database file, created when it is missing. See ``core_engine.backend.store.Store`` for the methods.

    Parameters:
        path: The file; its folder must exist.
        synchronous: "normal" survives killed processes, "full" also a loss of power, "off" neither (for tests).

    Raises:
        DatabaseDamaged, DatabaseTooNew, StoreUnavailable: The file cannot be used; it is left as it is.

    Connections: the writer's, used by whoever calls ``apply`` (one thread at a time, held by ``_apply_lock``); one for
    what callers write directly, guarded by ``_control_lock``; one for ``data_version``, guarded by ``_watch_lock``; and
    a pool for reading.
    """

    def __init__(self, path: str | os.PathLike[str], *, synchronous: str = "normal") -> None:
        self.path = Path(path).absolute()
        self._synchronous = synchronous
        prepare_database(self.path)
        with translated(self.path):
            self._writer = self._connect()
            self._control = self._connect()
            self._watcher = connect_for_reading(self.path)
        self._batches = BatchWriter(self._writer)
        self._apply_lock = threading.Lock()
        self._control_lock = threading.Lock()
        self._watch_lock = threading.Lock()
        self._pool = ReadPool(self.path)
        self._closed = False
        _stores.add(self)

    def _connect(self) -> WriteConnection:
        return connect(self.path, synchronous=self._synchronous)

    # The journal's writer.

    def apply(self, entries: Sequence[Entry]) -> None:
        with self._apply_lock, translated(self.path):
            self._batches.commit(entries)

    # Any thread: reading.

    def read_flow_run(self, id: UUID) -> FlowRun | None:
        with self._pool.reading() as db:
            return flow_reads.read_flow_run(db, id)

    def read_flow_runs(
        self,
        *,
        name: str | None = None,
        flow_name: str | None = None,
        state_types: Collection[StateType] | None = None,
        state_names: Collection[str] | None = None,
        tags: Collection[str] | None = None,
        parent_task_run_id: UUID | None = None,
        since: float | None = None,
        before: float | None = None,
        order: Order = "desc",
        limit: int | None = None,
        offset: int = 0,
    ) -> list[FlowRun]:
        with self._pool.reading() as db:
            return flow_reads.read_flow_runs(
                db,
                name=name,
                flow_name=flow_name,
                state_types=state_types,
                state_names=state_names,
                tags=tags,
                parent_task_run_id=parent_task_run_id,
                since=since,
                before=before,
                order=order,
                limit=limit,
                offset=offset,
            )

    def resolve_flow_run_id(self, text: str) -> UUID:
        with self._pool.reading() as db:
            return flow_reads.resolve_flow_run_id(db, text)

    def read_task_run(self, id: UUID) -> TaskRun | None:
        with self._pool.reading() as db:
            return task_reads.read_task_run(db, id)

    def find_task_run(self, flow_run_id: UUID, task_key: str, dynamic_index: int) -> TaskRun | None:
        with self._pool.reading() as db:
            return task_reads.find_task_run(db, flow_run_id, task_key, dynamic_index)

    def read_task_groups(self, flow_run_id: UUID) -> list[TaskRunGroup]:
        with self._pool.reading() as db:
            return task_reads.read_task_groups(db, flow_run_id)

    def read_task_runs(
        self,
        flow_run_id: UUID,
        *,
        task_name: str | None = None,
        state_types: Collection[StateType] | None = None,
        state_names: Collection[str] | None = None,
        order: Order = "asc",
        limit: int | None = None,
        offset: int = 0,
    ) -> list[TaskRun]:
        with self._pool.reading() as db:
            return task_reads.read_task_runs(
                db,
                flow_run_id,
                task_name=task_name,
                state_types=state_types,
                state_names=state_names,
                order=order,
                limit=limit,
                offset=offset,
            )

    def count_task_runs(self, flow_run_id: UUID) -> list[TaskRunCount]:
        with self._pool.reading() as db:
            return task_reads.count_task_runs(db, flow_run_id)

    def task_run_times(self, flow_run_id: UUID) -> Iterator[TaskRunTime]:
        with self._pool.reading() as db:
            yield from task_reads.task_run_times(db, flow_run_id)

    def read_input_digests(self, flow_run_id: UUID) -> dict[tuple[UUID, int], bytes]:
        with self._pool.reading() as db:
            return task_reads.read_input_digests(db, flow_run_id)

    def read_states(self, run_id: UUID) -> list[State]:
        with self._pool.reading() as db:
            return history.read_states(db, run_id)

    def read_events(self, flow_run_id: UUID, after: str | None = None, limit: int | None = None) -> list[Event]:
        with self._pool.reading() as db:
            return events.read_events(db, flow_run_id, after, limit)

    def read_logs(
        self,
        flow_run_id: UUID | None = None,
        task_run_id: UUID | None = None,
        min_level: int | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> list[StoredLog]:
        with self._pool.reading() as db:
            return log_reads.read_logs(db, flow_run_id, task_run_id, min_level, after, limit)

    def read_cached_state(self, key: str, now: float) -> State | None:
        with self._pool.reading() as db:
            return cache_reads.read_cached_state(db, key, now)

    def read_cached_states(self, keys: Collection[str], now: float) -> dict[str, State]:
        with self._pool.reading() as db:
            return cache_reads.read_cached_states(db, keys, now)

    # Any thread: concurrency limits.

    def set_concurrency_limit(self, tag: str, limit: int) -> None:
        with self._controlling() as db:
            limits.set_limit(db, tag, limit)

    def delete_concurrency_limit(self, tag: str) -> bool:
        with self._controlling() as db:
            return limits.delete_limit(db, tag)

    def read_concurrency_limits(self, tags: Collection[str] | None = None) -> dict[str, int]:
        with self._pool.reading() as db:
            return limits.read_limits(db, tags)

    def take_slots(self, task_run_id: UUID, tags: Collection[str], owner: str) -> SlotAnswer:
        with self._controlling() as db:
            return limits.take_slots(db, task_run_id, tags, owner, self._is_free)

    def release_slots(self, task_run_id: UUID) -> None:
        with self._controlling() as db:
            limits.release_slots(db, task_run_id)

    # Any thread: the inbox.

    def write_request(self, kind: str, run_id: UUID, payload: dict[str, Any] | None = None) -> int:
        with self._controlling() as db:
            return requests.write_request(db, kind, run_id, payload or {})

    def read_requests(
        self, flow_run_ids: Collection[UUID] | None = None, *, owner: str | None = None, after: int = 0
    ) -> list[Request]:
        with self._pool.reading() as db:
            return requests.read_requests(db, flow_run_ids, owner, after)

    def finish_request(self, id: int) -> None:
        with self._controlling() as db:
            requests.finish_request(db, id)

    def is_request_open(self, id: int) -> bool:
        with self._pool.reading() as db:
            return requests.is_open(db, id)

    def answer_request(self, id: int, answer: dict[str, Any]) -> None:
        with self._controlling() as db:
            requests.answer_request(db, id, answer)

    def read_answer(self, id: int) -> dict[str, Any] | None:
        with self._pool.reading() as db:
            return requests.read_answer(db, id)

    # Any thread: runs created for later.

    def write_deployment(self, deployment: Deployment) -> UUID:
        with self._controlling() as db:
            return deployments.write_deployment(db, deployment)

    def read_deployment(self, id: UUID) -> Deployment | None:
        with self._pool.reading() as db:
            return deployments.read_deployment(db, id)

    def read_deployments(self, name: str | None = None) -> list[Deployment]:
        with self._pool.reading() as db:
            return deployments.read_deployments(db, name)

    def claim_flow_run(self, id: UUID, owner: str, expected_owner: str | None) -> bool:
        with self._controlling() as db:
            return deployments.claim_flow_run(db, id, owner, expected_owner)

    def data_version(self) -> int:
        # Numbers of different connections have nothing to do with each other: always this one is asked.
        with self._watch_lock, translated(self.path):
            return int(self._watcher.execute("PRAGMA data_version").fetchone()[0])

    # Any thread: care.

    def reconcile(self, now: float, is_free: Callable[[str], bool] | None = None) -> list[UUID]:
        with self._controlling() as db:
            crashed = recovery.reconcile(db, now, is_free or self._is_free)
        leases.remove_free(self.path.parent)
        return crashed

    def delete_flow_runs(
        self,
        older_than: float,
        state_types: Collection[StateType] | None = None,
        dry_run: bool = False,
        now: float | None = None,
    ) -> DeletionReport:
        # A connection of its own: this may take long, and others want to take slots meanwhile.
        with translated(self.path), closing(self._connect()) as db:
            return retention.delete_flow_runs(db, older_than, state_types, dry_run, time.time() if now is None else now)

    def read_cleaned(self) -> float | None:
        with self._pool.reading() as db:
            return retention.read_cleaned(db)

    def note_cleaned(self, now: float) -> None:
        with self._controlling() as db:
            retention.note_cleaned(db, now)

    def forget_results(self, results: Sequence[dict[str, Any]]) -> None:
        with self._controlling() as db:
            retention.forget_results(db, results)

    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in (self.path, *sidecars(self.path)) if file.exists())

    def close(self) -> None:
        """Gives up all connections; later calls raise. Waits for an ``apply`` that is under way."""
        with self._apply_lock, self._control_lock, self._watch_lock:
            if self._closed:
                return
            self._closed = True
            _stores.discard(self)
            # Who closes last puts the write-ahead log into the file and removes it; a reader cannot.
            self._pool.close()
            for connection in (self._watcher, self._control, self._writer):
                connection.close()

    def _is_free(self, lease: str) -> bool:
        return leases.is_free(self.path.parent, lease)

    @contextmanager
    def _controlling(self) -> Iterator[WriteConnection]:
        with self._control_lock, translated(self.path):
            yield self._control

    def _rest(self) -> list[threading.Lock]:
        """Before a fork: waits until no thread of this process is in a transaction, and lets none begin one.

        SQLite keeps per process which locks its connections hold. A child would inherit that one is held, for ever.
        Returns the locks that are to be released.
        """
        locks = (self._apply_lock, self._control_lock)
        return [lock for lock in locks if lock.acquire(timeout=_FORK_SECONDS)]

    def _abandon(self) -> None:
        """In a forked child: the connections are the parent's."""
        abandon(self._writer)
        abandon(self._control)
        abandon(self._watcher)
        self._pool.abandon()
        self._apply_lock = threading.Lock()
        self._control_lock = threading.Lock()
        self._watch_lock = threading.Lock()


_stores: weakref.WeakSet[SqliteStore] = weakref.WeakSet()


# Longer than a transaction takes, unless another process holds the database: then the fork is not kept waiting for it.
_FORK_SECONDS = 5.0


class _Forking(threading.local):
    """What the thread that is forking holds."""

    def __init__(self) -> None:
        self.locks: list[threading.Lock] = []


_forking = _Forking()


def _rest_before_fork() -> None:
    for store in list(_stores):
        _forking.locks += store._rest()


def _go_on_in_parent() -> None:
    while _forking.locks:
        _forking.locks.pop().release()


def _abandon_in_child() -> None:
    _forking.locks.clear()
    for store in list(_stores):
        store._abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_rest_before_fork, after_in_parent=_go_on_in_parent, after_in_child=_abandon_in_child)
