"""A batch of entries, folded: each task run once, with the last state that the batch brought it to.

Pure: nothing here knows the database. What a fold may drop is exactly what reading puts back (``history``): a plain
Running that the run left within the batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core_engine.backend.entries import (
    CacheStored,
    Entry,
    FlowRunChanged,
    FlowRunCreated,
    FlowRunUpdated,
    InputsDigested,
    TaskRunChanged,
    TaskRunsCreated,
    TaskRunUpdated,
)
from core_engine.logging.records import LogEntry
from core_engine.schemas.records import TaskRunGroup
from core_engine.schemas.states import FINAL_TYPES, RUNNING

FlowEntry = FlowRunCreated | FlowRunChanged | FlowRunUpdated


class Batch:
    """What a batch amounts to, by the tables that it goes to.

    Attributes:
        flows: Entries about flow runs, in order.
        groups: Groups that were made.
        runs: For each group the last accepted entry of each of its runs, by index.
        known: (group, index) of runs whose first entry here is not their first: they may have a row already.
        left: Entries whose state was left within the batch and does not follow from the rest.
        extras, digests, cached, logs: The other entries, in order.
    """

    __slots__ = ("cached", "digests", "extras", "flows", "groups", "known", "left", "logs", "runs")

    def __init__(self) -> None:
        self.flows: list[FlowEntry] = []
        self.groups: list[TaskRunGroup] = []
        self.runs: dict[TaskRunGroup, dict[int, TaskRunChanged]] = {}
        self.known: set[tuple[TaskRunGroup, int]] = set()
        self.left: list[TaskRunChanged] = []
        self.extras: list[TaskRunUpdated] = []
        self.digests: list[InputsDigested] = []
        self.cached: list[CacheStored] = []
        self.logs: list[LogEntry] = []


def fold(entries: Iterable[Entry]) -> Batch:
    """Returns what `entries`, in the order in which things happened, amount to."""
    batch = Batch()
    runs = batch.runs
    group: TaskRunGroup
    last_group: TaskRunGroup | None = None
    last_entries: dict[int, TaskRunChanged] = {}
    for entry in entries:
        if entry.__class__ is not TaskRunChanged:
            _sort(batch, entry)
            continue
        state = entry.state
        if state._group is not last_group:
            if state._group is None:
                raise ValueError(f"The state {state!r} of a task run does not know its group.")
            group = last_group = state._group
            last_entries = runs.setdefault(group, {})
        index = state._index
        earlier = last_entries.get(index)
        if earlier is None:
            last_entries[index] = entry
            if state._ordinal != 2:
                batch.known.add((group, index))
        elif follows(entry, earlier):
            last_entries[index] = entry
            if not follows_from_row(earlier, entry):
                batch.left.append(earlier)
    return batch


def _sort(batch: Batch, entry: Any) -> None:
    kind = entry.__class__
    if kind is LogEntry:
        batch.logs.append(entry)
    elif kind is TaskRunsCreated:
        batch.groups.append(entry.group)
    elif kind is CacheStored:
        batch.cached.append(entry)
    elif kind is TaskRunUpdated:
        batch.extras.append(entry)
    elif kind is InputsDigested:
        batch.digests.append(entry)
    elif kind is FlowRunCreated or kind is FlowRunChanged or kind is FlowRunUpdated:
        batch.flows.append(entry)
    else:
        raise TypeError(f"The journal takes entries of core_engine.backend.entries, not {entry!r}.")


def follows(entry: TaskRunChanged, earlier: TaskRunChanged) -> bool:
    """Returns whether `entry` may change a run that `earlier` brought to its state.

    A resent or overtaken entry may not; nor may one of an older execution, nor one that leaves a final state without
    opening an execution (D1). ``sql.ACCEPTS`` says the same to the database.
    """
    if entry.execution != earlier.execution:
        return entry.execution > earlier.execution
    return entry.state._ordinal > earlier.state._ordinal and earlier.state._type not in FINAL_TYPES


def follows_from_row(left: TaskRunChanged, later: TaskRunChanged) -> bool:
    """Returns whether the state of `left` can be read off the row that `later` makes: a plain first Running."""
    state = left.state
    return (
        state._ordinal == 2
        and state._type is RUNNING
        and state._time == later.start_time
        and state._name == "Running"
        and state._message is None
        and state._data is None
        and (state._details is None or not _says_something(state._details))
    )


def _says_something(details: Any) -> bool:
    """Returns whether details hold more than the ids of their run, which are filled in when somebody looks."""
    values = details.to_dict()
    values.pop("flow_run_id", None)
    values.pop("task_run_id", None)
    return bool(values)
