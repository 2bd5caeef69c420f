"""Reading groups of task runs, and expanding them into their children (D9).

A child has a row only once it has left Pending. ``children`` is the one place that puts the others back; reads,
filters, timelines and events all go through it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

from core_engine.backend.encoding import prefix_bytes, prefix_from_bytes, read_inputs, read_policy
from core_engine.backend.store import Order
from core_engine.schemas.records import TaskRunGroup

Row = tuple[Any, ...]


# Groups of one are read this many at a time; larger ones one by one.
_SINGLES = 500

_GROUP_COLUMNS = (
    "task_run_group.key, prefix, first_index, count, is_map, kind, task_run_group.created, task_inputs, seq, "
    "task.task_key, task.name, task.version, task.tags, task.policy"
)
_FROM_GROUPS = f"SELECT {_GROUP_COLUMNS} FROM task_run_group JOIN task ON task.key = task_run_group.task"


class StoredGroup(TaskRunGroup):
    """A group as read from the store. ``seq`` is the commit that made it."""

    __slots__ = ("seq",)

    seq: int


Child = tuple[StoredGroup, int, Row | None]


def read_groups(
    db: sqlite3.Connection, flow_key: int, flow_run_id: UUID, task_name: str | None = None
) -> list[StoredGroup]:
    """Returns the groups of a flow run (None: of any task), in the order in which they were made."""
    name = "" if task_name is None else " AND task.name = ?"
    rows = db.execute(
        f"{_FROM_GROUPS} WHERE task_run_group.flow_key = ?{name} ORDER BY task_run_group.key",
        (flow_key,) if task_name is None else (flow_key, task_name),
    )
    make = _group_maker(flow_run_id)
    return [make(row) for row in rows]


def find_group(db: sqlite3.Connection, prefix: int) -> StoredGroup | None:
    """Returns the group from whose prefix an id was made, None when the store has no such group."""
    row = db.execute(
        f"SELECT flow_run.id, {_GROUP_COLUMNS} FROM task_run_group JOIN task ON task.key = task_run_group.task "
        "JOIN flow_run ON flow_run.key = task_run_group.flow_key WHERE prefix = ?",
        (prefix_bytes(prefix),),
    ).fetchone()
    return None if row is None else _group_maker(UUID(bytes=row[0]))(row[1:])


def find_group_of_call(
    db: sqlite3.Connection, flow_key: int, flow_run_id: UUID, task_key: str, dynamic_index: int
) -> StoredGroup | None:
    """Returns the group that holds the call number `dynamic_index` of a task in a flow run, or None."""
    tasks = db.execute("SELECT key FROM task WHERE flow_key = ? AND task_key = ?", (flow_key, task_key)).fetchall()
    for (task,) in tasks:
        row = db.execute(
            f"{_FROM_GROUPS} WHERE task_run_group.flow_key = ? AND task = ? AND first_index <= ? "
            "ORDER BY first_index DESC LIMIT 1",
            (flow_key, task, dynamic_index),
        ).fetchone()
        if row is not None and dynamic_index < row[2] + row[3]:
            return _group_maker(flow_run_id)(row)
    return None


def _group_maker(flow_run_id: UUID) -> Callable[[Row], StoredGroup]:
    # Thousands of groups share a task: what was parsed is kept by its text.
    tags_of: dict[str, frozenset[str]] = {}
    policies: dict[str, Any] = {}

    def make(row: Row) -> StoredGroup:
        key, prefix, first_index, count, is_map, kind, created, inputs, seq, task_key, name, version, tags, policy = row
        if tags not in tags_of:
            tags_of[tags] = frozenset(json.loads(tags))
        if policy not in policies:
            policies[policy] = read_policy(policy)
        group = StoredGroup(
            prefix=prefix_from_bytes(prefix),
            flow_run_id=flow_run_id,
            task_key=task_key,
            task_name=name,
            created=created,
            first_index=first_index,
            count=count,
            is_map=bool(is_map),
            kind=kind or "task",
            task_version=version,
            tags=tags_of[tags],
            policy=policies[policy],
            task_inputs=read_inputs(inputs),
            key=key,
        )
        group.seq = seq
        return group

    return make


def children(
    db: sqlite3.Connection,
    groups: Sequence[StoredGroup],
    columns: str,
    *,
    order: Order = "asc",
    where: str = "",
    values: Sequence[Any] = (),
    fill: bool = True,
    skip: int = 0,
) -> Iterator[Child]:
    """Yields (group, index, row) of the task runs of `groups`, in their order; row is None for one that has none yet.

    Parameters:
        columns: What to select of ``task_run``; names of its columns.
        order: "desc" goes through the groups and their children backwards.
        where: A condition on ``task_run`` that starts with AND; only without `fill`, which takes a missing row to
            mean a child that never left Pending.
        values: What `where` binds.
        fill: Whether to yield children without a row.
        skip: How many children to leave out; only with `fill`.
    """
    ordered = groups if order == "asc" else list(reversed(groups))
    for is_single, chunk in groupby(ordered, key=lambda group: group.count == 1):
        for piece in _pieces(list(chunk), _SINGLES if is_single else 1):
            size = sum(group.count for group in piece)
            if skip >= size:
                skip -= size
                continue
            if not fill:
                yield from _rows(db, piece, columns, order, where, values)
            elif is_single:
                yield from _filled(piece[skip:], _rows(db, piece[skip:], columns, order))
            else:
                yield from _filled_from(db, piece[0], columns, order, skip)
            skip = 0


def _pieces(groups: list[StoredGroup], size: int) -> Iterator[list[StoredGroup]]:
    for start in range(0, len(groups), size):
        yield groups[start : start + size]


def _rows(
    db: sqlite3.Connection,
    groups: list[StoredGroup],
    columns: str,
    order: Order,
    where: str = "",
    values: Sequence[Any] = (),
) -> Iterator[tuple[StoredGroup, int, Row]]:
    if len(groups) == 1:
        group = groups[0]
        found = db.execute(
            f"SELECT idx, {columns} FROM task_run WHERE group_key = ? {where} ORDER BY idx {order}",
            (group.key, *values),
        )
        for row in found:
            yield group, row[0], row[1:]
        return
    by_key = {group.key: group for group in groups}
    found = db.execute(
        # CROSS JOIN: SQLite keeps this order of loops, so rows come in the order of the groups.
        f"SELECT group_key, idx, {columns} FROM json_each(?) AS wanted CROSS JOIN task_run "
        f"ON group_key = wanted.value {where} ORDER BY wanted.key",
        (json.dumps(list(by_key)), *values),
    )
    for row in found:
        yield by_key[row[0]], row[1], row[2:]


def _filled_from(db: sqlite3.Connection, group: StoredGroup, columns: str, order: Order, skip: int) -> Iterator[Child]:
    """Yields the children of one group without the first `skip` of them, which are not read either."""
    if order == "asc":
        rows = _rows(db, [group], columns, order, "AND idx >= ?", (skip,))
        return _filled([group], rows, range(skip, group.count))
    last = group.count - 1 - skip
    rows = _rows(db, [group], columns, order, "AND idx <= ?", (last,))
    return _filled([group], rows, range(last, -1, -1))


def _filled(
    groups: list[StoredGroup],
    rows: Iterator[tuple[StoredGroup, int, Row]],
    indexes: Sequence[int] = (0,),
) -> Iterator[Child]:
    """Yields the children at `indexes` of each group: what `rows` has of them, and None for the others."""
    row = next(rows, None)
    for group in groups:
        for index in indexes:
            if row is not None and row[1] == index and row[0] is group:
                yield row
                row = next(rows, None)
            else:
                yield group, index, None
