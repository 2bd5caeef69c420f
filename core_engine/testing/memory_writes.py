"""Recording entries in the store in memory: all of a batch, or nothing when it raises."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from core_engine.backend.encoding import (
    FLOW_RUN_FIELDS,
    data_column,
    file_column,
    inputs_column,
    read_inputs,
    to_json,
)
from core_engine.backend.entries import (
    CacheStored,
    Entry,
    FlowRunChanged,
    FlowRunCreated,
    FlowRunUpdated,
    InputsDigested,
    TaskRunChanged,
    TaskRunUpdated,
)
from core_engine.backend.folding import Batch, fold
from core_engine.backend.statements import storable
from core_engine.backend.store import StoredLog
from core_engine.backend.task_reads import split_digests
from core_engine.exceptions import StoreError
from core_engine.schemas.records import FlowRun, TaskRunGroup
from core_engine.testing.memory_records import Change, KeptCached, KeptFlow, KeptGroup, KeptRun, KeptState, Tables

# When a run was created, and by which run, is said once.
_CHANGING_FIELDS = tuple(field for field in FLOW_RUN_FIELDS if field not in ("created", "parent_task_run_id"))


class Commit:
    """The state changes of one commit, which become events in the order of their times."""

    def __init__(self) -> None:
        self._changes: list[tuple[float, KeptFlow, Change]] = []
        self._latest: dict[tuple[KeptFlow | KeptGroup, int], float] = {}

    def add(self, flow: KeptFlow, change: Change) -> None:
        run = (change.group or flow, change.index)
        # A clock that was set back does not turn a run's events round.
        time = self._latest[run] = max(change.state.time, self._latest.get(run, change.state.time))
        self._changes.append((time, flow, change))

    def close(self) -> None:
        for _, flow, change in sorted(self._changes, key=lambda changed: changed[0]):
            flow.events.append(change)


def apply(tables: Tables, entries: Sequence[Entry]) -> None:
    """See ``Store.apply``."""
    batch = fold(entries)
    _check(tables, batch)
    commit = Commit()
    for entry in batch.flows:
        if isinstance(entry, FlowRunCreated):
            _create_flow_run(tables, commit, entry.flow_run)
        elif isinstance(entry, FlowRunChanged):
            _change_flow_run(tables, commit, entry.flow_run)
        else:
            _update_flow_run(tables, entry)
    for group in batch.groups:
        _create_group(tables, commit, group)
    for change in entries:
        if isinstance(change, TaskRunChanged):
            _change_task_run(tables, commit, change)
    for extra in batch.extras:
        _update_task_run(tables, extra)
    for digested in batch.digests:
        _keep_digests(tables, digested)
    # Of several for one key the last counts.
    for cached in {stored.key: stored for stored in batch.cached}.values():
        _store_cached(tables, cached)
    tables.logs += [StoredLog(next(tables.numbers), line._replace(message=_text(line.message))) for line in batch.logs]
    commit.close()


def _text(text: str) -> str:
    return str(storable(text))


def _check(tables: Tables, batch: Batch) -> None:
    """Raises for what cannot be recorded, before anything is."""
    created = {entry.flow_run.id for entry in batch.flows if isinstance(entry, FlowRunCreated)}
    for group in batch.groups:
        if group.key is None and group.flow_run_id not in created and group.flow_run_id not in tables.flows:
            raise StoreError(
                f"Task runs of {group.task_name!r} belong to the flow run {group.flow_run_id}, "
                "which is not in the store: it was never recorded, or was deleted while it ran."
            )
    coming = {group.prefix for group in batch.groups}
    for group in [*batch.runs, *(extra.group for extra in batch.extras)]:
        # One with a key was recorded before: its flow run was deleted, and nobody asks for it any more.
        if group.key is None and group.prefix not in coming and group.prefix not in tables.groups:
            raise StoreError(
                f"Task runs of {group.task_name!r} in the flow run {group.flow_run_id} changed, "
                "but the store does not hold them: they were never recorded, or were deleted while they ran."
            )
    for entry in batch.flows:
        if isinstance(entry, FlowRunUpdated) and (unknown := entry.changes.keys() - set(FLOW_RUN_FIELDS)):
            raise ValueError(
                f"A FlowRunUpdated cannot set {sorted(unknown)}; it sets any of {', '.join(FLOW_RUN_FIELDS)}."
            )


def _create_flow_run(tables: Tables, commit: Commit, run: FlowRun) -> None:
    if run.id in tables.flows:
        return
    flow = tables.flows[run.id] = KeptFlow(run.id, next(tables.numbers))
    for name in FLOW_RUN_FIELDS:
        flow.set(name, getattr(run, name))
    state = run.state
    if run.created is None:
        flow.columns["created"] = time.time() if state is None else state._time
    if state is not None:
        commit.add(flow, Change(None, 0, flow.keep(state, state._ordinal or 1, run.execution), None))


def _change_flow_run(tables: Tables, commit: Commit, run: FlowRun) -> None:
    flow, state = tables.flows.get(run.id), run.state
    if flow is None or state is None:
        return
    before = flow.state
    ordinal = state._ordinal or (1 if before is None else before.ordinal + 1)
    if before is not None:
        # What was set apart from any state counts too.
        current = before._replace(execution=flow.columns["execution"])
        is_known = not state._ordinal and any(kept.id == state.id for kept in flow.states)
        if is_known or not current.may_become(ordinal, run.execution):
            return
    for name in _CHANGING_FIELDS:
        flow.set(name, getattr(run, name))
    commit.add(flow, Change(None, 0, flow.keep(state, ordinal, run.execution), before))


def _update_flow_run(tables: Tables, entry: FlowRunUpdated) -> None:
    flow = tables.flows.get(entry.flow_run_id)
    if flow is not None:
        for name, value in entry.changes.items():
            flow.set(name, value)


def _create_group(tables: Tables, commit: Commit, group: TaskRunGroup) -> None:
    known = tables.groups.get(group.prefix)
    if known is not None:
        group.key = known.made.key
    elif group.key is None:
        group.key = next(tables.numbers)
        flow = tables.flows[group.flow_run_id]
        kept = tables.groups[group.prefix] = KeptGroup(flow, group)
        flow.groups.append(kept)
        for index in range(group.count):
            commit.add(flow, Change(kept, index, kept.first, None))


def _change_task_run(tables: Tables, commit: Commit, entry: TaskRunChanged) -> None:
    state, index = entry.state, entry.state._index
    assert state._group is not None  # folding has seen to it
    group = tables.groups.get(state._group.prefix)
    if group is None:
        return
    before = group.state(index)
    if before.may_become(state._ordinal, entry.execution):
        for kept in group.runs.setdefault(index, KeptRun()).keep(entry):
            commit.add(group.flow, Change(group, index, kept, before))
            before = kept
        group.flow.refer_to(state._data)


def _update_task_run(tables: Tables, entry: TaskRunUpdated) -> None:
    group = tables.groups.get(entry.group.prefix)
    if group is not None:
        changes = {name: value for name, value in entry.changes.items() if value}
        if "name" in changes:
            changes["name"] = _text(changes["name"])
        if "task_inputs" in changes:
            changes["task_inputs"] = read_inputs(inputs_column(changes["task_inputs"]))
        group.extras.setdefault(entry.index, {}).update(changes)


def _keep_digests(tables: Tables, entry: InputsDigested) -> None:
    group = tables.groups.get(entry.group.prefix)
    if group is not None:
        for place, digest in enumerate(split_digests(entry.digests)):
            group.digests[entry.first + place, entry.execution] = digest


def _store_cached(tables: Tables, entry: CacheStored) -> None:
    state, expires = entry.state, entry.expires
    if expires is not None and expires <= state._time:
        return
    # One that the new one outlives will never be the newest valid one again.
    others = [
        old
        for old in tables.cached.get(entry.key, [])
        if old.state.time > state._time or (expires is not None and (old.expires is None or old.expires > expires))
    ]
    # Through the property: it fills in the ids of the run that the value comes from.
    details = replace(state.state_details)
    kept = KeptState(
        0,
        0,
        state._type,
        state._time,
        state._name,
        state._message,
        data_column(state._data),
        to_json(details.to_dict()),
        state.id,
    )
    new = KeptCached(next(tables.numbers), expires, details.flow_run_id, file_column(state._data), kept)
    tables.cached[entry.key] = [*others, new]
