"""The store on SQLite: one file in write-ahead mode, shared by all processes of a home."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from core_engine.backend import cache_reads, flow_reads, history, log_reads, task_reads
from core_engine.backend.connections import ReadPool, abandon, connect, sidecars, translated
from core_engine.backend.entries import Entry
from core_engine.backend.opening import prepare_database
from core_engine.backend.store import Order, StoredLog, TaskRunCount, TaskRunTime
from core_engine.backend.writes import BatchWriter
from core_engine.schemas.records import Event, FlowRun, TaskRun, TaskRunGroup
from core_engine.schemas.states import State, StateType


class SqliteStore:
    """A database file, created when it is missing. See ``core_engine.backend.store.Store`` for the methods.

    Parameters:
        path: The file; its folder must exist.
        home: Where the leases of owners lie; None means the file's folder.
        synchronous: "normal" survives killed processes, "full" also a loss of power, "off" neither (for tests).

    Raises:
        DatabaseDamaged, DatabaseTooNew, StoreUnavailable: The file cannot be used; it is left as it is.

    Three kinds of connections: the writer's, used by whoever calls ``apply`` (one thread at a time, held by
    ``_apply_lock``); a pool for reading; and one for what callers write directly, guarded by ``_control_lock``.
    """

    def __init__(self, path: str | os.PathLike[str], *, synchronous: str = "normal", home: Path | None = None) -> None:
        self.path = Path(path).absolute()
        self._home = self.path.parent if home is None else Path(home)
        self._synchronous = synchronous
        prepare_database(self.path)
        with translated(self.path):
            self._writer = self._connect()
            self._control = self._connect()
        self._batches = BatchWriter(self._writer)
        self._apply_lock = threading.Lock()
        self._control_lock = threading.Lock()
        self._pool = ReadPool(self.path)
        self._closed = False
        _stores.add(self)

    def _connect(self) -> sqlite3.Connection:
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

    def read_states(self, run_id: UUID) -> list[State]:
        with self._pool.reading() as db:
            return history.read_states(db, run_id)

    def read_events(self, flow_run_id: UUID, after: str | None = None, limit: int | None = None) -> list[Event]:
        with self._pool.reading() as db:
            return history.read_events(db, flow_run_id, after, limit)

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

    # Any thread: care.

    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in (self.path, *sidecars(self.path)) if file.exists())

    def close(self) -> None:
        """Gives up all connections; later calls raise. Waits for an ``apply`` that is under way."""
        with self._apply_lock, self._control_lock:
            if not self._closed:
                self._closed = True
                self._writer.close()
                self._control.close()
        self._pool.close()
        _stores.discard(self)

    @contextmanager
    def _controlling(self) -> Iterator[sqlite3.Connection]:
        with self._control_lock, translated(self.path):
            yield self._control

    def _abandon(self) -> None:
        """In a forked child: the connections are the parent's."""
        abandon(self._writer)
        abandon(self._control)
        self._pool.abandon()
        self._apply_lock = threading.Lock()
        self._control_lock = threading.Lock()


_stores: weakref.WeakSet[SqliteStore] = weakref.WeakSet()


def _abandon_in_child() -> None:
    for store in list(_stores):
        store._abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_in_child)
