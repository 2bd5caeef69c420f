"""Crashed owners and deletions in the store in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any
from uuid import UUID

from core_engine import ids
from core_engine.backend.encoding import file_column, read_file
from core_engine.backend.recovery import FLOW_MESSAGE, TASK_MESSAGE
from core_engine.backend.retention import CACHE_HIT_SECONDS
from core_engine.backend.store import DeletionReport
from core_engine.results.records import record_from_json
from core_engine.schemas.states import CRASHED, DEFAULT_NAMES, FINAL_TYPES, StateType
from core_engine.testing.memory_records import Change, KeptFlow, KeptState, Tables
from core_engine.testing.memory_writes import Commit


def reconcile(tables: Tables, now: float, is_free: Callable[[str], bool]) -> list[UUID]:
    """See ``Store.reconcile``."""
    owned = [flow for flow in tables.flows.values() if flow.columns["owner"] is not None and not flow.is_final]
    dead = {owner for owner in {flow.columns["owner"] for flow in owned} | set(tables.slots.values()) if is_free(owner)}
    if not dead:
        return []
    commit = Commit()
    crashed = [flow for flow in owned if flow.columns["owner"] in dead]
    for flow in crashed:
        _crash_flow_run(commit, flow, now)
        _crash_task_runs(commit, flow, now)
    commit.close()
    tables.slots = {slot: owner for slot, owner in tables.slots.items() if owner not in dead}
    # Nobody can fulfil a request to a flow run that has ended.
    tables.requests = {
        id: request
        for id, request in tables.requests.items()
        if request.flow_run_id in tables.flows and not tables.flows[request.flow_run_id].is_final
    }
    tables.answers = {id: answer for id, answer in tables.answers.items() if id in tables.requests}
    return [flow.id for flow in crashed]


def _crash_flow_run(commit: Commit, flow: KeptFlow, now: float) -> None:
    before = flow.state
    ordinal = 1 if before is None else before.ordinal + 1
    # Ids made here leave room for the ordinal; one that was made elsewhere may not.
    follows_from_run = flow.id.int & ids.MAX_ORDINAL == 0
    id = UUID(int=flow.id.int | ordinal) if follows_from_run else ids.new_id()
    state = KeptState(ordinal, flow.columns["execution"], CRASHED, now, DEFAULT_NAMES[CRASHED], FLOW_MESSAGE, id=id)
    flow.states.append(state)
    flow.columns |= {"end_time": now, "owner": None, "next_scheduled_start_time": None}
    commit.add(flow, Change(None, 0, state, before))


def _crash_task_runs(commit: Commit, flow: KeptFlow, now: float) -> None:
    """Crashes the task runs that had begun. Children that never left Pending stay so: nothing happened to them."""
    for group in flow.groups:
        for index, run in group.runs.items():
            before = run.states[-1]
            if before.type not in FINAL_TYPES:
                state = KeptState(
                    before.ordinal + 1, before.execution, CRASHED, now, DEFAULT_NAMES[CRASHED], TASK_MESSAGE
                )
                run.states.append(state)
                run.end_time = now
                commit.add(flow, Change(group, index, state, before))


def delete_flow_runs(
    tables: Tables, older_than: float, state_types: Collection[StateType] | None, dry_run: bool, now: float
) -> DeletionReport:
    """See ``Store.delete_flow_runs``."""
    types = FINAL_TYPES if state_types is None else FINAL_TYPES & {StateType(type) for type in state_types}
    going = {flow.id: flow for flow in _select(tables, older_than, types)}
    staying = [flow for flow in tables.flows.values() if flow.id not in going]
    report = DeletionReport(dry_run=dry_run, flow_runs=list(going))
    report.task_runs = sum(group.made.count for flow in going.values() for group in flow.groups)
    report.log_lines = sum(line.entry.flow_run_id in going for line in tables.logs)
    report.cache_entries = sum(kept.flow_run_id in going for entries in tables.cached.values() for kept in entries)
    referenced = _files(staying)
    cached = {kept.file for entries in tables.cached.values() for kept in entries if kept.flow_run_id in going}
    files = {
        file: now + CACHE_HIT_SECONDS if file in cached else 0.0
        for file in _files(going.values())
        if file not in referenced
    }
    if not dry_run:
        _delete(tables, going, staying, older_than)
        files = tables.unreferenced = {
            file: removable for file, removable in {**files, **tables.unreferenced}.items() if file not in referenced
        }
    report.results = [read_file(file) for file, removable in sorted(files.items()) if removable <= now]
    report.results_later = len(files) - len(report.results)
    return report


def _files(flows: Iterable[KeptFlow]) -> set[str]:
    return {file for flow in flows for file in flow.files}


def _select(tables: Tables, older_than: float, types: Collection[StateType]) -> list[KeptFlow]:
    """Returns the flow runs to delete: old ones that are no subflows, and all below them."""
    found = []
    for flow in sorted(tables.flows.values(), key=lambda flow: float(flow.columns["created"])):
        state, end = flow.state, flow.columns["end_time"]
        if flow.columns["parent_task_run_id"] is not None or state is None or state.type not in types:
            continue
        if (state.time if end is None else end) < older_than:
            family = _family(tables, flow)
            if all(member.is_final for member in family):
                found += family
    return found


def _family(tables: Tables, root: KeptFlow) -> list[KeptFlow]:
    family = [root]
    for member in family:
        prefixes = {group.made.prefix for group in member.groups if group.made.kind == "subflow"}
        for flow in tables.flows.values():
            parent = flow.columns["parent_task_run_id"]
            if parent is not None and ids.split_id(UUID(bytes=parent))[0] in prefixes:
                family.append(flow)
    return family


def _delete(tables: Tables, going: dict[UUID, KeptFlow], staying: list[KeptFlow], older_than: float) -> None:
    for flow in going.values():
        del tables.flows[flow.id]
        for group in flow.groups:
            del tables.groups[group.made.prefix]
    tables.logs = [
        line
        for line in tables.logs
        if line.entry.flow_run_id not in going
        # Nobody will ever delete a line of a flow run that the store does not hold but for its age.
        and (line.entry.flow_run_id in tables.flows or line.entry.timestamp >= older_than)
    ]
    # An entry goes with the last flow run that refers to its file.
    heirs = {file: flow.id for flow in staying for file in flow.files}
    for key, entries in tables.cached.items():
        kept = [entry for entry in entries if entry.expires is None or entry.expires >= older_than]
        tables.cached[key] = [
            entry._replace(flow_run_id=heirs[entry.file or ""]) if entry.flow_run_id in going else entry
            for entry in kept
            if entry.flow_run_id not in going or entry.file in heirs
        ]


def forget_results(tables: Tables, results: Sequence[dict[str, Any]]) -> None:
    """See ``Store.forget_results``."""
    for result in results:
        tables.unreferenced.pop(file_column(record_from_json(result)) or "", None)
