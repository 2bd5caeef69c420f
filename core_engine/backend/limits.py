"""Concurrency limits by tag, and the slots that running task runs hold (ORCH-22 to ORCH-24)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection
from uuid import UUID

from core_engine.backend.connections import WriteConnection
from core_engine.backend.transactions import writing
from core_engine.orchestration.facts import SLOTS_GRANTED, SlotAnswer, SlotOutcome

IsFree = Callable[[str], bool]


def set_limit(db: WriteConnection, tag: str, limit: int) -> None:
    """See ``Store.set_concurrency_limit``."""
    if limit < 0:
        raise ValueError(f"The concurrency limit of the tag {tag!r} must be 0 or more, not {limit}.")
    with writing(db):
        db.execute(
            "INSERT INTO concurrency_limit (tag, slots) VALUES (?, ?) "
            "ON CONFLICT (tag) DO UPDATE SET slots = excluded.slots",
            (tag, limit),
        )


def delete_limit(db: WriteConnection, tag: str) -> bool:
    """See ``Store.delete_concurrency_limit``."""
    with writing(db):
        return db.execute("DELETE FROM concurrency_limit WHERE tag = ?", (tag,)).rowcount > 0


def read_limits(db: sqlite3.Connection, tags: Collection[str] | None) -> dict[str, int]:
    """See ``Store.read_concurrency_limits``."""
    if tags is None:
        return dict(db.execute("SELECT tag, slots FROM concurrency_limit ORDER BY tag"))
    wanted = json.dumps(list(tags))
    return dict(
        db.execute(
            "SELECT tag, slots FROM concurrency_limit WHERE tag IN (SELECT value FROM json_each(?)) ORDER BY tag",
            (wanted,),
        )
    )


def take_slots(
    db: WriteConnection, task_run_id: UUID, tags: Collection[str], owner: str, is_free: IsFree
) -> SlotAnswer:
    """See ``Store.take_slots``."""
    # Most tags have no limit: seen without a transaction that writes.
    if not tags or not read_limits(db, tags):
        return SLOTS_GRANTED
    with writing(db):
        answer = _take(db, task_run_id, tags, owner, is_free)
        if answer.outcome is not SlotOutcome.GRANTED:
            # What was taken for earlier tags goes back when a later one is full.
            db.execute("DELETE FROM slot WHERE task_run_id = ?", (task_run_id.bytes,))
    return answer


def _take(db: sqlite3.Connection, task_run_id: UUID, tags: Collection[str], owner: str, is_free: IsFree) -> SlotAnswer:
    held = {tag for (tag,) in db.execute("SELECT tag FROM slot WHERE task_run_id = ?", (task_run_id.bytes,))}
    for tag, limit in read_limits(db, tags).items():
        if tag in held:
            continue
        if limit == 0:
            return SlotAnswer.zero(tag)
        if _taken(db, tag) >= limit and (not _free_dead(db, tag, is_free) or _taken(db, tag) >= limit):
            return SlotAnswer.full(tag)
        db.execute("INSERT INTO slot (tag, task_run_id, owner) VALUES (?, ?, ?)", (tag, task_run_id.bytes, owner))
    return SLOTS_GRANTED


def _taken(db: sqlite3.Connection, tag: str) -> int:
    return int(db.execute("SELECT count(*) FROM slot WHERE tag = ?", (tag,)).fetchone()[0])


def _free_dead(db: sqlite3.Connection, tag: str, is_free: IsFree) -> bool:
    """Frees slots of `tag` whose owners are gone; returns whether there were any."""
    owners = [owner for (owner,) in db.execute("SELECT DISTINCT owner FROM slot WHERE tag = ?", (tag,))]
    dead = [owner for owner in owners if is_free(owner)]
    for owner in dead:
        db.execute("DELETE FROM slot WHERE tag = ? AND owner = ?", (tag, owner))
    return bool(dead)


def release_slots(db: WriteConnection, task_run_id: UUID) -> None:
    """See ``Store.release_slots``."""
    query = "SELECT EXISTS (SELECT 1 FROM slot WHERE task_run_id = ?)"
    if db.execute(query, (task_run_id.bytes,)).fetchone()[0]:
        with writing(db):
            db.execute("DELETE FROM slot WHERE task_run_id = ?", (task_run_id.bytes,))
