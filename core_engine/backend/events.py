"""State changes as events, in the order of their commits (D5).

A read looks only at what its commits touched: ``flow_commit`` says where that is. So following a flow run costs what is
new in it, whatever its size.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from core_engine import ids
from core_engine.backend.encoding import PENDING_CODE, TYPES, to_datetime
from core_engine.backend.flow_reads import flow_key
from core_engine.backend.groups import StoredGroup, children, read_groups
from core_engine.backend.history import PAST_COLUMNS, ROW_COLUMNS, steps
from core_engine.schemas.records import Event, TaskRunGroup
from core_engine.schemas.states import DEFAULT_NAMES

# Orders events: the commit, the time within it, and the state's number where times are equal.
_Place = tuple[int, float, int]


@dataclass(slots=True)
class _Change:
    """An event before it is made into one: light, because most are only sorted."""

    place: _Place
    group: TaskRunGroup | None
    index: int
    step: tuple[Any, ...]
    before: tuple[Any, ...] | None


# Above every number of a commit, and every index.
_NEVER = 1 << 62


class _Window(NamedTuple):
    """What a read looks at: events after `start`, in commits up to `last_seq`, `limit` of a group at most."""

    start: _Place
    last_seq: int
    limit: int | None


def read_events(db: sqlite3.Connection, flow_run_id: UUID, after: str | None, limit: int | None) -> list[Event]:
    """See ``Store.read_events``."""
    key = flow_key(db, flow_run_id)
    if key is None:
        return []
    start = (0, 0.0, 0) if after is None else _read_cursor(after)
    commits = _commits(db, key, start[0], limit)
    # Pages are cut by commits, so that reading one does not sort all that is still to come.
    window = _Window(start, _NEVER if commits.are_all else commits.last_seq, limit)
    groups = read_groups(db, key, flow_run_id)
    changes = [
        change
        for source in (
            _flow_changes(db, key),
            _first_changes(groups, window),
            _run_changes(db, commits.places(groups), window),
        )
        for change in source
        if start < change.place and change.place[0] <= window.last_seq
    ]
    changes.sort(key=lambda change: change.place)
    return [_event(flow_run_id, change) for change in changes[:limit]]


# Where to look.


class _Span(NamedTuple):
    """Some groups, and the indexes in them between which runs were changed."""

    groups: list[StoredGroup]
    first: int
    last: int


class _Commits:
    """Commits that follow each other, and what they touched. `are_all` says whether there are no later ones."""

    def __init__(self) -> None:
        self.are_all = True
        self.last_seq = 0
        self._parts: dict[int, tuple[int, int]] = {}
        self._whole = (_NEVER, 0)

    def add(self, seq: int, first_group: int, last_group: int, first: int, last: int) -> None:
        self.last_seq = seq
        if first_group == last_group:
            known = self._parts.get(first_group, (_NEVER, 0))
            self._parts[first_group] = (min(known[0], first), max(known[1], last))
        else:
            self._whole = (min(self._whole[0], first_group), max(self._whole[1], last_group))

    def places(self, groups: list[StoredGroup]) -> list[_Span]:
        """Returns where in `groups` the commits changed something."""
        first_group, last_group = self._whole
        spans = []
        whole = []
        for group in groups:
            assert group.key is not None
            if first_group <= group.key <= last_group:
                whole.append(group)
            elif group.key in self._parts:
                spans.append(_Span([group], *self._parts[group.key]))
        return [*spans, _Span(whole, 0, _NEVER)]


def _commits(db: sqlite3.Connection, key: int, since_seq: int, limit: int | None) -> _Commits:
    """Returns the commits from `since_seq` on, or as many of them as have at least `limit` events after it."""
    commits = _Commits()
    events = 0
    rows = db.execute(
        "SELECT seq, first_group, last_group, first_idx, last_idx, runs FROM flow_commit "
        "WHERE flow_key = ? AND seq >= ? ORDER BY seq",
        (key, since_seq),
    )
    for *touched, runs in rows:
        if limit is not None and events >= limit:
            commits.are_all = False
            break
        commits.add(*touched)
        # Of the first commit some, perhaps all, have been read.
        events += runs if touched[0] > since_seq else 0
    return commits


# What is there.


def _flow_changes(db: sqlite3.Connection, key: int) -> Iterator[_Change]:
    rows = db.execute(
        "SELECT seq, ordinal, type, name, message, time, id FROM flow_run_state WHERE flow_key = ? ORDER BY ordinal",
        (key,),
    )
    before: tuple[Any, ...] | None = None
    clock = _Clock()
    for seq, *columns in rows:
        step = tuple(columns)
        yield _Change((seq, clock.read(seq, step[4]), int.from_bytes(step[5], "big")), None, 0, step, before)
        before = step


def _first_changes(groups: list[StoredGroup], window: _Window) -> Iterator[_Change]:
    """The first change of every child, whether or not it has a row: it came with its group."""
    for group in groups:
        if not window.start[0] <= group.seq <= window.last_seq:
            continue
        step = (1, PENDING_CODE, None, None, group.created)
        first = 0
        if window.start[:2] == (group.seq, group.created):
            prefix, index, _ = ids.split_id(UUID(int=window.start[2]))
            # Children of a group follow each other without a gap.
            first = index + 1 if prefix == group.prefix else 0
        last = group.count if window.limit is None else min(group.count, first + window.limit)
        for index in range(first, last):
            place = (group.seq, group.created, ids.run_number(group.prefix, index) | 1)
            yield _Change(place, group, index, step, None)


# A run's row has the commit of its last change, and that of its first but for Pending.
_IN_WINDOW = "AND idx BETWEEN ? AND ? AND seq >= ? AND coalesce(start_seq, seq) <= ?"


def _run_changes(db: sqlite3.Connection, spans: list[_Span], window: _Window) -> Iterator[_Change]:
    """Every change but the first of the runs that changed within the window, and some of theirs outside of it."""
    past = _Past(db)
    for span in spans:
        values = (span.first, span.last, window.start[0], window.last_seq)
        for group, index, row in children(db, span.groups, ROW_COLUMNS, where=_IN_WINDOW, values=values, fill=False):
            number = ids.run_number(group.prefix, index)
            before: tuple[Any, ...] | None = None
            clock = _Clock()
            for seq, step in steps(group, row, past.of(group, index)):
                place = (seq, clock.read(seq, step[4]), number | step[0])
                if before is not None:
                    yield _Change(place, group, index, step, before)
                before = step


class _Past:
    """Rows of ``past_state``; groups of which no run has any are asked about once."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._last: tuple[int | None, bool] = (None, False)

    def of(self, group: StoredGroup, index: int) -> list[tuple[Any, ...]]:
        if self._last[0] != group.key:
            query = "SELECT EXISTS (SELECT 1 FROM past_state WHERE group_key = ?)"
            self._last = (group.key, bool(self._db.execute(query, (group.key,)).fetchone()[0]))
        if not self._last[1]:
            return []
        query = f"SELECT {PAST_COLUMNS} FROM past_state WHERE group_key = ? AND idx = ?"
        return self._db.execute(query, (group.key, index)).fetchall()


class _Clock:
    """Times of a run's states as an order: within one commit a later state is never put before an earlier one."""

    def __init__(self) -> None:
        self._seq = 0
        self._time = 0.0

    def read(self, seq: int, time: float) -> float:
        if seq == self._seq:
            time = max(time, self._time)
        self._seq, self._time = seq, time
        return time


# From changes to events.


def _event(flow_run_id: UUID, change: _Change) -> Event:
    step, before, group = change.step, change.before, change.group
    type = TYPES[step[1]]
    id = UUID(int=change.place[2])
    if before is None:
        follows = None
    elif group is None:
        follows = UUID(bytes=before[5])
    else:
        follows = ids.state_id(group.prefix, change.index, before[0])
    occurred = to_datetime(step[4])
    assert occurred is not None
    return Event(
        id=id,
        follows=follows,
        flow_run_id=flow_run_id,
        task_run_id=None if group is None else group.run_id(change.index),
        from_type=None if before is None else TYPES[before[1]],
        to_type=type,
        to_name=step[2] or DEFAULT_NAMES[type],
        message=step[3],
        occurred=occurred,
        cursor=_cursor(change.place),
    )


def _cursor(place: _Place) -> str:
    seq, time, number = place
    return f"{seq}.{time.hex()}.{number:032x}"


def _read_cursor(cursor: str) -> _Place:
    try:
        seq, rest = cursor.split(".", 1)
        time, number = rest.rsplit(".", 1)
        return int(seq), float.fromhex(time), int(number, 16)
    except ValueError:
        raise ValueError(
            f"{cursor!r} is no cursor: pass `after` the cursor of an event that was read before."
        ) from None
