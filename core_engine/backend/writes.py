"""From a folded batch to rows, in one transaction.

A resent, late or refused entry changes nothing: ``sql.ACCEPTS`` and ``flow_writes`` hold that, so that invariants
I2 and I9 do not rest on the sender.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any
from uuid import UUID

from core_engine.backend.connections import WriteConnection
from core_engine.backend.encoding import (
    TYPE_CODES,
    data_column,
    details_column,
    file_column,
    inputs_column,
    name_column,
    policy_column,
    prefix_bytes,
    to_json,
)
from core_engine.backend.entries import CacheStored, Entry, TaskRunChanged, TaskRunUpdated
from core_engine.backend.flow_writes import FlowKeys, write_flow_entries
from core_engine.backend.folding import Batch, fold
from core_engine.backend.sql import (
    DROP_OUTLIVED,
    INSERT_CACHED,
    INSERT_COMMITS,
    INSERT_DIGESTS,
    INSERT_FILES,
    INSERT_GROUPS,
    INSERT_LOGS,
    INSERT_PAST,
    INSERT_TASKS,
    KEEP_PAST,
    UPSERT_EXTRAS,
    UPSERT_RUNS,
)
from core_engine.backend.transactions import writing
from core_engine.exceptions import StoreError
from core_engine.logging.records import LogEntry
from core_engine.results.records import PersistedResult
from core_engine.schemas.records import TaskRunGroup
from core_engine.schemas.states import DEFAULT_NAMES


class BatchWriter:
    """Writes batches over one connection. One thread at a time; keeps the keys of what it wrote last."""

    def __init__(self, db: WriteConnection) -> None:
        self._db = db
        self._flow_keys = FlowKeys(db)
        # By flow key, then by what distinguishes a task: its row.
        self._tasks: dict[int, dict[tuple[Any, ...], int]] = {}

    def commit(self, entries: Sequence[Entry]) -> None:
        """Writes `entries` in a transaction of its own, all of them or, when it raises, none."""
        batch = fold(entries)
        new_groups = [group for group in batch.groups if group.key is None]
        try:
            with writing(self._db):
                self._write(batch, new_groups)
        except BaseException:
            self._forget_keys(new_groups)
            raise

    def _forget_keys(self, new_groups: list[TaskRunGroup]) -> None:
        """Forgets the keys of a transaction that did not commit: they belong to nobody."""
        for group in new_groups:
            group.key = None
        self._flow_keys.clear()
        self._tasks.clear()

    def _write(self, batch: Batch, new_groups: list[TaskRunGroup]) -> None:
        keys = len(batch.flows) + 2 * len(new_groups) + len(batch.logs) + len(batch.cached)
        seq, next_key = self._take_numbers(keys)
        if batch.flows:
            finished = write_flow_entries(self._db, self._flow_keys, batch.flows, seq, next_key)
            for flow_key in finished:
                self._tasks.pop(flow_key, None)
        if new_groups:
            self._write_groups(new_groups, seq, next_key)
        if batch.runs:
            self._write_runs(batch, seq)
        if batch.extras:
            self._write_extras(batch.extras)
        if batch.digests:
            rows = [(self._group_key(one.group), one.first, one.execution, seq, one.digests) for one in batch.digests]
            INSERT_DIGESTS.execute(self._db, rows)
        if batch.cached:
            self._write_cached(batch.cached, next_key)
        if batch.logs:
            self._write_logs(batch.logs, next_key)

    def _take_numbers(self, keys: int) -> tuple[int, count[int]]:
        """Takes the number of this commit and `keys` keys that nothing in the store has."""
        self._db.execute("UPDATE counter SET seq = seq + 1, next_key = next_key + ?", (keys,))
        seq, next_key = self._db.execute("SELECT seq, next_key FROM counter").fetchone()
        return seq, count(next_key - keys)

    def _write_groups(self, groups: list[TaskRunGroup], seq: int, next_key: count[int]) -> None:
        tasks: list[tuple[Any, ...]] = []
        rows = []
        for group in groups:
            flow_key = self._flow_keys.of(group.flow_run_id)
            if flow_key is None:
                raise StoreError(
                    f"Task runs of {group.task_name!r} belong to the flow run {group.flow_run_id}, "
                    "which is not in the store: it was never recorded, or was deleted while it ran."
                )
            task = self._task_key(flow_key, group, tasks, next_key)
            key = next(next_key)
            rows.append(
                (
                    flow_key,
                    task,
                    group.first_index,
                    key,
                    prefix_bytes(group.prefix),
                    group.count,
                    seq,
                    int(group.is_map),
                    None if group.kind == "task" else group.kind,
                    group.created,
                    inputs_column(group.task_inputs),
                )
            )
            group.key = key
        if tasks:
            INSERT_TASKS.execute(self._db, tasks)
        if INSERT_GROUPS.execute(self._db, rows) != len(rows):
            # Some were recorded before, by this or another process: theirs are the keys that count.
            for group in groups:
                group.key = self._find_group(group)

    def _task_key(
        self, flow_key: int, group: TaskRunGroup, new_rows: list[tuple[Any, ...]], next_key: count[int]
    ) -> int:
        """Returns the key of the task's row, adding to `new_rows` when this flow run has none like it yet."""
        known = self._tasks.setdefault(flow_key, {})
        identity = (group.task_key, group.task_name, group.task_version, group.tags, group.policy)
        key = known.get(identity)
        if key is None:
            key = known[identity] = next(next_key)
            tags, policy = to_json(sorted(group.tags)), policy_column(group.policy)
            new_rows.append((key, flow_key, group.task_key, group.task_name, group.task_version, tags, policy))
        return key

    def _group_key(self, group: TaskRunGroup) -> int:
        key = group.key
        if key is None:
            key = group.key = self._find_group(group)
        return key

    def _find_group(self, group: TaskRunGroup) -> int:
        row = self._db.execute(
            "SELECT key FROM task_run_group WHERE prefix = ?", (prefix_bytes(group.prefix),)
        ).fetchone()
        if row is None:
            raise StoreError(
                f"Task runs of {group.task_name!r} in the flow run {group.flow_run_id} changed, "
                "but the store does not hold them: they were never recorded, or were deleted while they ran."
            )
        return int(row[0])

    def _write_runs(self, batch: Batch, seq: int) -> None:
        rows: list[tuple[Any, ...]] = []
        files: list[tuple[UUID, str | None]] = []
        add = rows.append
        codes, default_names = TYPE_CODES, DEFAULT_NAMES
        for group, entries in batch.runs.items():
            key = self._group_key(group)
            for index, entry in entries.items():
                state = entry.state
                type, name, time, data, details = state._type, state._name, state._time, state._data, state._details
                end_time = entry.end_time
                if data is not None:
                    if data.__class__ is PersistedResult:
                        files.append((group.flow_run_id, file_column(data)))
                    data = data_column(data)
                add(
                    (
                        key,
                        index,
                        state._ordinal,
                        entry.execution,
                        seq,
                        codes[type],
                        None if name == default_names[type] else name,
                        state._message,
                        None if time == end_time else time,
                        data,
                        None if details is None else details_column(details),
                        entry.run_count,
                        entry.flow_run_count,
                        entry.start_time,
                        end_time,
                        entry.total_run_time,
                        entry.worker,
                    )
                )
        if batch.known:
            KEEP_PAST.execute(self._db, [self._coming(batch, group, index) for group, index in batch.known])
        if batch.left:
            INSERT_PAST.execute(self._db, [self._past_row(entry, seq) for entry in batch.left])
        UPSERT_RUNS.execute(self._db, rows)
        INSERT_COMMITS.execute(self._db, self._commit_rows(batch, seq))
        if files:
            INSERT_FILES.execute(
                self._db, [(self._flow_keys.of(flow_run_id) or 0, file) for flow_run_id, file in files]
            )

    def _commit_rows(self, batch: Batch, seq: int) -> list[tuple[Any, ...]]:
        """Returns for each flow run where its task runs lie that the batch changed."""
        found: dict[int, tuple[int, int, int, int, int]] = {}
        for group, entries in batch.runs.items():
            flow_key = self._flow_keys.of(group.flow_run_id) or 0
            key = self._group_key(group)
            lowest, highest = min(entries), max(entries)
            runs, first_group, last_group, first, last = found.get(flow_key, (0, key, key, lowest, highest))
            found[flow_key] = (
                runs + len(entries),
                min(first_group, key),
                max(last_group, key),
                min(first, lowest),
                max(last, highest),
            )
        return [(flow_key, seq, *where) for flow_key, where in found.items()]

    def _coming(self, batch: Batch, group: TaskRunGroup, index: int) -> tuple[Any, ...]:
        entry = batch.runs[group][index]
        return self._group_key(group), index, entry.state._ordinal, entry.execution

    def _past_row(self, entry: TaskRunChanged, seq: int) -> tuple[Any, ...]:
        state = entry.state
        group = state._group
        assert group is not None  # folding has seen to it
        return (
            self._group_key(group),
            state._index,
            state._ordinal,
            entry.execution,
            seq,
            TYPE_CODES[state._type],
            name_column(state),
            state._message,
            state._time,
            data_column(state._data),
            details_column(state._details),
        )

    def _write_extras(self, entries: list[TaskRunUpdated]) -> None:
        rows = []
        for entry in entries:
            child = entry.changes.get("child_flow_run_id")
            rows.append(
                (
                    self._group_key(entry.group),
                    entry.index,
                    entry.changes.get("name"),
                    inputs_column(entry.changes.get("task_inputs")),
                    None if child is None else child.bytes,
                )
            )
        UPSERT_EXTRAS.execute(self._db, rows)

    def _write_cached(self, entries: list[CacheStored], next_key: count[int]) -> None:
        # Of several for one key the last counts; one that is past when it is made never does (CACHE-5).
        newest = {entry.key: entry for entry in entries if entry.expires is None or entry.expires > entry.state._time}
        if newest:
            coming = [(key, entry.state._time, entry.expires) for key, entry in newest.items()]
            DROP_OUTLIVED.execute(self._db, coming)
            INSERT_CACHED.execute(self._db, [self._cached_row(entry, next(next_key)) for entry in newest.values()])

    def _cached_row(self, entry: CacheStored, number: int) -> tuple[Any, ...]:
        state = entry.state
        # Through the property: it fills in the ids of the run that the value comes from.
        details = state.state_details
        flow_run_id = details.flow_run_id or UUID(int=0)
        return (
            entry.key,
            number,
            entry.expires,
            self._flow_keys.of(flow_run_id) or 0,
            flow_run_id.bytes,
            state.id.bytes,
            name_column(state),
            state._message,
            state._time,
            data_column(state._data),
            to_json(details.to_dict()),
        )

    def _write_logs(self, entries: list[LogEntry], next_key: count[int]) -> None:
        rows = []
        key_of = self._flow_keys.of
        for (flow_run_id, task_run_id, name, level, time, message, worker), cursor in zip(
            entries, next_key, strict=False
        ):
            flow_key = key_of(flow_run_id)
            rows.append(
                (
                    flow_key or 0,
                    cursor,
                    # A line about a flow run that the store does not hold keeps its id itself.
                    None if flow_key else flow_run_id.bytes,
                    None if task_run_id is None else task_run_id.bytes,
                    name,
                    level,
                    time,
                    message,
                    worker,
                )
            )
        INSERT_LOGS.execute(self._db, rows)
