"""A store that keeps everything in memory, and a client over it: tests that need neither a file nor a cleanup.

    with memory_client() as client:
        my_flow()
        runs = client.store.read_flow_runs()

``memory_records.py`` has what the store holds, ``memory_writes.py`` how entries get there, ``memory_care.py`` crashed
owners and deletions, ``memory_deployments.py`` runs created for later. ``store_conformance.py`` holds it to the
behaviours of the store on SQLite.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from core_engine.backend.embedded import Backend, register_backend
from core_engine.backend.encoding import TYPE_CODES, to_json
from core_engine.backend.entries import Entry
from core_engine.backend.flow_reads import digits_of_id, the_one_meant
from core_engine.backend.journal import Journal
from core_engine.backend.leases import Lease
from core_engine.backend.store import DeletionReport, Order, Request, StoredLog, TaskRunCount, TaskRunTime
from core_engine.client.embedded import EmbeddedClient
from core_engine.exceptions import ObjectNotFound
from core_engine.orchestration.facts import SLOTS_GRANTED, SlotAnswer
from core_engine.schemas.records import Event, FlowRun, TaskRun, TaskRunGroup
from core_engine.schemas.states import State, StateType
from core_engine.testing import memory_care, memory_writes
from core_engine.testing.harness import core_engine_test_harness
from core_engine.testing.memory_deployments import KeepsDeployments
from core_engine.testing.memory_records import KeptFlow, KeptState, Tables, copy_of, event_of

T = TypeVar("T")


class MemoryStore(KeepsDeployments):
    """A store without a database, gone with its object. See ``core_engine.backend.store.Store`` for the methods.

    Parameters:
        path: By which messages and settings name it; nothing is written there.
        owner: The lease of this process. Every other owner counts as dead, because nobody else can reach the store.

    One lock guards everything; any thread may call any method.
    """

    def __init__(self, path: str | os.PathLike[str] = "runs-in-memory", *, owner: str = "this-process") -> None:
        self.path = Path(path).absolute()
        self.owner = owner
        self._tables = Tables()
        self._lock = threading.RLock()

    @contextmanager
    def _reading(self) -> Iterator[Tables]:
        with self._lock:
            yield self._tables

    @contextmanager
    def _changing(self) -> Iterator[Tables]:
        with self._lock:
            yield self._tables
            self._tables.version += 1

    def apply(self, entries: Sequence[Entry]) -> None:
        with self._changing() as tables:
            memory_writes.apply(tables, entries)

    def close(self) -> None:
        """Does nothing: there are no connections, and what was recorded can still be read."""

    # Flow runs.

    def read_flow_run(self, id: UUID) -> FlowRun | None:
        with self._reading() as tables:
            flow = tables.flows.get(id)
            return None if flow is None else flow.read()

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
        def is_wanted(flow: KeptFlow) -> bool:
            columns = flow.columns
            return (
                (name is None or columns["name"] == name)
                and (flow_name is None or columns["flow_name"] == flow_name)
                and (parent_task_run_id is None or columns["parent_task_run_id"] == parent_task_run_id.bytes)
                and (since is None or columns["created"] >= since)
                and (before is None or columns["created"] < before)
                and _has_state(flow.state, state_types, state_names)
                and set(tags or ()) <= set(json.loads(columns["tags"]))
            )

        with self._reading() as tables:
            found = _newest_first(flow for flow in tables.flows.values() if is_wanted(flow))
            if order == "asc":
                found.reverse()
            return [flow.read() for flow in _page(found, limit, offset)]

    def resolve_flow_run_id(self, text: str) -> UUID:
        text = text.strip()
        digits = digits_of_id(text)
        with self._reading() as tables:
            flows = _newest_first(tables.flows.values())
        named = [flow for flow in flows if flow.columns["name"] == text]
        found = named or [flow for flow in flows if digits is not None and flow.id.hex.startswith(digits)]
        return the_one_meant(text, [(flow.id, flow.columns["name"]) for flow in found])

    # Task runs.

    def read_task_run(self, id: UUID) -> TaskRun | None:
        with self._reading() as tables:
            found = tables.find_run(id)
            return None if found is None else found[0].read(found[1])

    def find_task_run(self, flow_run_id: UUID, task_key: str, dynamic_index: int) -> TaskRun | None:
        with self._reading() as tables:
            for group in tables.groups_of(flow_run_id):
                index = dynamic_index - group.made.first_index
                if group.made.task_key == task_key and 0 <= index < group.made.count:
                    return group.read(index)
        return None

    def read_input_digests(self, flow_run_id: UUID) -> dict[tuple[UUID, int], bytes]:
        with self._reading() as tables:
            return {
                (group.made.run_id(index), execution): digest
                for group in tables.groups_of(flow_run_id)
                for (index, execution), digest in group.digests.items()
            }

    def read_task_groups(self, flow_run_id: UUID) -> list[TaskRunGroup]:
        with self._reading() as tables:
            return [copy_of(group.made) for group in tables.groups_of(flow_run_id)]

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
        with self._reading() as tables:
            found = [
                (group, index)
                for group, index in tables.children_of(flow_run_id)
                if task_name in (None, group.made.task_name)
                and _has_state(group.state(index), state_types, state_names)
            ]
            if order == "desc":
                found.reverse()
            return [group.read(index) for group, index in _page(found, limit, offset)]

    def count_task_runs(self, flow_run_id: UUID) -> list[TaskRunCount]:
        with self._reading() as tables:
            counts: Counter[tuple[str, StateType, str]] = Counter()
            for group, index in tables.children_of(flow_run_id):
                state = group.state(index)
                counts[group.made.task_name, state.type, state.name] += 1
            tasks = list(dict.fromkeys(task for task, _, _ in counts))

        def place(key: tuple[str, StateType, str]) -> tuple[int, int, str]:
            task, type, name = key
            # A name that the type says by itself comes first.
            return tasks.index(task), TYPE_CODES[type], "" if name.upper() == type.value else name

        return [TaskRunCount(*key, counts[key]) for key in sorted(counts, key=place)]

    def task_run_times(self, flow_run_id: UUID) -> Iterator[TaskRunTime]:
        times = []
        with self._reading() as tables:
            for group, index in tables.children_of(flow_run_id):
                state, run, made = group.state(index), group.runs.get(index), group.made
                start, end, worker = (None,) * 3 if run is None else (run.start_time, run.end_time, run.worker)
                name = group.extras.get(index, {}).get("name")
                number = made.first_index + index
                times.append(
                    TaskRunTime(made.task_name, number, name, worker, state.type, state.name, made.created, start, end)
                )
        return iter(times)

    # History.

    def read_states(self, run_id: UUID) -> list[State]:
        with self._reading() as tables:
            flow = tables.flows.get(run_id)
            if flow is not None:
                return [flow.read_state(kept) for kept in flow.states]
            found = tables.find_run(run_id)
            if found is None:
                return []
            group, index = found
            return [group.read_state(index, kept) for kept in group.states(index)]

    def read_events(self, flow_run_id: UUID, after: str | None = None, limit: int | None = None) -> list[Event]:
        start = 0 if after is None else _read_cursor(after)
        with self._reading() as tables:
            flow = tables.flows.get(flow_run_id)
            if flow is None:
                return []
            changes = _page(flow.events, limit, start)
            return [event_of(flow, change, str(number)) for number, change in enumerate(changes, start + 1)]

    def read_logs(
        self,
        flow_run_id: UUID | None = None,
        task_run_id: UUID | None = None,
        min_level: int | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> list[StoredLog]:
        with self._reading() as tables:
            found = [
                stored
                for stored in tables.logs
                if flow_run_id in (None, stored.entry.flow_run_id)
                and task_run_id in (None, stored.entry.task_run_id)
                and (min_level is None or stored.entry.level >= min_level)
                and (after is None or stored.cursor > after)
            ]
        return found[:limit]

    # Caching.

    def read_cached_state(self, key: str, now: float) -> State | None:
        return self.read_cached_states([key], now).get(key)

    def read_cached_states(self, keys: Collection[str], now: float) -> dict[str, State]:
        found = {}
        with self._reading() as tables:
            for key in keys:
                valid = [kept for kept in tables.cached.get(key, []) if kept.is_valid(now)]
                if valid:
                    found[key] = max(valid, key=lambda kept: (kept.state.time, kept.number)).read()
        return found

    # Concurrency limits.

    def set_concurrency_limit(self, tag: str, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"The concurrency limit of the tag {tag!r} must be 0 or more, not {limit}.")
        with self._changing() as tables:
            tables.limits[tag] = limit

    def delete_concurrency_limit(self, tag: str) -> bool:
        with self._changing() as tables:
            return tables.limits.pop(tag, None) is not None

    def read_concurrency_limits(self, tags: Collection[str] | None = None) -> dict[str, int]:
        with self._reading() as tables:
            return {tag: limit for tag, limit in sorted(tables.limits.items()) if tags is None or tag in tags}

    def take_slots(self, task_run_id: UUID, tags: Collection[str], owner: str) -> SlotAnswer:
        with self._changing() as tables:
            answer = SLOTS_GRANTED
            for tag, limit in self.read_concurrency_limits(tags).items():
                if (tag, task_run_id) in tables.slots:
                    continue
                if limit == 0:
                    answer = SlotAnswer.zero(tag)
                elif self._count_slots(tag) >= limit:
                    answer = SlotAnswer.full(tag)
                if answer is not SLOTS_GRANTED:
                    # What was taken for earlier tags goes back when a later one is full.
                    self.release_slots(task_run_id)
                    break
                tables.slots[tag, task_run_id] = owner
            return answer

    def _count_slots(self, tag: str) -> int:
        """Counts the slots of `tag` that living owners hold; the others are free from now on."""
        slots = self._tables.slots
        self._tables.slots = {
            (taken, run): owner for (taken, run), owner in slots.items() if taken != tag or not self._is_free(owner)
        }
        return sum(taken == tag for taken, _ in self._tables.slots)

    def release_slots(self, task_run_id: UUID) -> None:
        with self._changing() as tables:
            tables.slots = {slot: owner for slot, owner in tables.slots.items() if slot[1] != task_run_id}

    # The inbox.

    def write_request(self, kind: str, run_id: UUID, payload: dict[str, Any] | None = None) -> int:
        with self._changing() as tables:
            found = tables.find_run(run_id)
            if run_id not in tables.flows and found is None:
                raise ObjectNotFound(f"There is no flow run or task run {run_id} of which to ask {kind!r}.")
            flow_run_id = run_id if found is None else found[0].flow.id
            id = next(tables.numbers)
            stored_payload = json.loads(to_json(payload or {}))
            tables.requests[id] = Request(id, kind, run_id, flow_run_id, stored_payload, time.time())
            return id

    def read_requests(
        self, flow_run_ids: Collection[UUID] | None = None, *, owner: str | None = None, after: int = 0
    ) -> list[Request]:
        with self._reading() as tables:
            return [
                request
                for id, request in tables.requests.items()
                if id > after
                and id not in tables.answers
                and (flow_run_ids is None or request.flow_run_id in flow_run_ids)
                and (owner is None or tables.owner_of(request.flow_run_id) == owner)
            ]

    def finish_request(self, id: int) -> None:
        with self._changing() as tables:
            tables.requests.pop(id, None)
            tables.answers.pop(id, None)

    def answer_request(self, id: int, answer: dict[str, Any]) -> None:
        with self._changing() as tables:
            if id in tables.requests:
                tables.answers[id] = json.loads(json.dumps(answer))

    def read_answer(self, id: int) -> dict[str, Any] | None:
        with self._reading() as tables:
            return tables.answers.get(id)

    def is_request_open(self, id: int) -> bool:
        with self._reading() as tables:
            return id in tables.requests and id not in tables.answers

    def data_version(self) -> int:
        return self._tables.version

    # Care.

    def reconcile(self, now: float, is_free: Callable[[str], bool] | None = None) -> list[UUID]:
        with self._changing() as tables:
            return memory_care.reconcile(tables, now, is_free or self._is_free)

    def delete_flow_runs(
        self,
        older_than: float,
        state_types: Collection[StateType] | None = None,
        dry_run: bool = False,
        now: float | None = None,
    ) -> DeletionReport:
        with self._changing() as tables:
            now = time.time() if now is None else now
            return memory_care.delete_flow_runs(tables, older_than, state_types, dry_run, now)

    def read_cleaned(self) -> float | None:
        with self._reading() as tables:
            return tables.cleaned

    def note_cleaned(self, now: float) -> None:
        with self._changing() as tables:
            tables.cleaned = now

    def forget_results(self, results: Sequence[dict[str, Any]]) -> None:
        with self._changing() as tables:
            memory_care.forget_results(tables, results)

    def size_bytes(self) -> int:
        """Returns 0: there are no files."""
        return 0

    def _is_free(self, owner: str) -> bool:
        return owner != self.owner


def _newest_first(flows: Iterable[KeptFlow]) -> list[KeptFlow]:
    return sorted(flows, key=lambda flow: (flow.columns["created"], flow.number), reverse=True)


def _page(found: Sequence[T], limit: int | None, offset: int) -> Sequence[T]:
    return found[offset : None if limit is None else offset + limit]


def _has_state(state: KeptState | None, types: Collection[StateType] | None, names: Collection[str] | None) -> bool:
    if state is None:
        return types is None and names is None
    return (types is None or state.type in types) and (names is None or state.name in names)


def _read_cursor(cursor: str) -> int:
    """Returns how many events there are up to the one with this cursor."""
    if not cursor.isdecimal():
        raise ValueError(f"{cursor!r} is no cursor: pass `after` the cursor of an event that was read before.")
    return int(cursor)


@contextmanager
def memory_client() -> Iterator[EmbeddedClient]:
    """Record the flows that the block calls in memory; the block is given the client that sees them.

    As with ``core_engine_test_harness``, persisted results lie in a temporary home, which is removed with them. Only
    this process sees the runs: commands, and task runners whose workers are other processes, need the harness.

    Example:
        >>> with memory_client() as client:
        ...     flow_under_test()
        ...     (run,) = client.store.read_flow_runs()
        >>> assert run.state.is_completed()
    """
    from core_engine.settings import get_current_settings

    with core_engine_test_harness() as home:
        store = MemoryStore(get_current_settings().database_path)
        lease = Lease(store.owner, home / store.owner, os.getpid())
        backend = Backend(store, Journal(store), lease)
        register_backend(backend)
        try:
            yield EmbeddedClient(backend)
        finally:
            backend.close()
