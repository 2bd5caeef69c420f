"""What a store can do, and the small records that it hands out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

from core_engine.backend.entries import Entry
from core_engine.logging.records import LogEntry
from core_engine.orchestration.facts import SlotAnswer
from core_engine.schemas.records import Deployment, Event, FlowRun, TaskRun, TaskRunGroup
from core_engine.schemas.states import State, StateType

Order = Literal["asc", "desc"]


class TaskRunCount(NamedTuple):
    """How many task runs of one task are in one state."""

    task_name: str
    state_type: StateType
    state_name: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here


class TaskRunTime(NamedTuple):
    """One task run on a timeline. Times are seconds since the epoch, None means not yet; `name` None: the usual one."""

    task_name: str
    index: int  # type: ignore[assignment]  # hides tuple.index
    name: str | None
    worker: str | None
    state_type: StateType
    state_name: str
    created: float
    start: float | None
    end: float | None


class StoredLog(NamedTuple):
    """A log line and the cursor by which to read on after it."""

    cursor: int
    entry: LogEntry


@dataclass(slots=True, frozen=True)
class Request:
    """Something that another process asked of the owner of a flow run (D2).

    Attributes:
        id: Grows with each request.
        kind: What is asked, such as "cancel".
        run_id: The flow run or task run that it is about.
        flow_run_id: The flow run whose owner is asked.
        payload: More facts, as JSON says them.
        created: When, in seconds since the epoch.
    """

    id: int
    kind: str
    run_id: UUID
    flow_run_id: UUID
    payload: dict[str, Any]
    created: float


@dataclass(slots=True)
class DeletionReport:
    """What a deletion took away, or would take away.

    Attributes:
        flow_runs: Ids of the flow runs, subflows included.
        task_runs, log_lines, cache_entries: How many of each.
        results: Result records (as stored, JSON) whose files nothing refers to any more. Remove the files, then call
            ``forget_results`` with them; until then every report lists them again.
        results_later: How many more there are whose cache entry went just now. A run of another process may be about
            to refer to one, so only a later report lists them.
        bytes_freed: By how much the database file shrank.
        dry_run: Whether nothing was done.
    """

    flow_runs: list[UUID] = field(default_factory=list)
    task_runs: int = 0
    log_lines: int = 0
    cache_entries: int = 0
    results: list[dict[str, Any]] = field(default_factory=list)
    results_later: int = 0
    bytes_freed: int = 0
    dry_run: bool = False


class Store(Protocol):
    """What the engine asks of a database. Reads may come from any thread and never wait for the writer.

    Raises (all of them): StoreError or one of its kinds when the database cannot be reached, read or written.
    """

    path: Path

    # Writing: the journal's writer.

    def apply(self, entries: Sequence[Entry]) -> None:
        """Records `entries`, in this order, in one transaction. Entries that were recorded before change nothing."""

    def close(self) -> None:
        """Gives up all connections."""

    # Flow runs.

    def read_flow_run(self, id: UUID) -> FlowRun | None:
        """Returns a flow run, or None."""

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
        """Returns flow runs by when they were created; of each filter that is not None.

        Parameters:
            name, flow_name: Exact names.
            state_types, state_names: The run's state is one of these.
            tags: The run has all of these.
            parent_task_run_id: The task run that stands for it in its parent.
            since, before: Created in [since, before), seconds since the epoch.
            order: "desc" gives the newest first.
            limit: None means all.
            offset: How many to skip.
        """

    def resolve_flow_run_id(self, text: str) -> UUID:
        """Returns the id of the flow run that `text` names: an id, a unique beginning of one, or a run's exact name.

        Raises:
            ObjectNotFound: No run, or several, are named so; the message lists candidates.
        """

    # Task runs.

    def read_task_run(self, id: UUID) -> TaskRun | None:
        """Returns a task run, or None."""

    def find_task_run(self, flow_run_id: UUID, task_key: str, dynamic_index: int) -> TaskRun | None:
        """Returns the task run of that number among the flow run's calls of one task, or None."""

    def read_task_groups(self, flow_run_id: UUID) -> list[TaskRunGroup]:
        """Returns the groups of a flow run, in the order in which they were made."""

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
        """Returns task runs in the order in which they were made, children without a row included (D9)."""

    def count_task_runs(self, flow_run_id: UUID) -> list[TaskRunCount]:
        """Returns how many task runs there are by task, state type and state name."""

    def task_run_times(self, flow_run_id: UUID) -> Iterator[TaskRunTime]:
        """Returns every task run of a flow run as light as it can be, for drawing."""

    def read_input_digests(self, flow_run_id: UUID) -> dict[tuple[UUID, int], bytes]:
        """Returns digests of what a flow run's task runs were made of, by task run and execution; none is all zeros."""

    # History.

    def read_states(self, run_id: UUID) -> list[State]:
        """Returns every state that a flow run or task run was in, in order, also those written with a later one."""

    def read_events(self, flow_run_id: UUID, after: str | None = None, limit: int | None = None) -> list[Event]:
        """Returns the state changes of a flow run and its task runs in the order of their commits (D5).

        Parameters:
            after: The cursor of the last event seen; None means from the beginning.
            limit: None means all.
        """

    def read_logs(
        self,
        flow_run_id: UUID | None = None,
        task_run_id: UUID | None = None,
        min_level: int | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> list[StoredLog]:
        """Returns log lines in the order in which they were recorded; of each filter that is not None."""

    # Caching.

    def read_cached_state(self, key: str, now: float) -> State | None:
        """Returns the newest completed state that may serve for `key` at `now`, or None (CACHE-5, CACHE-6)."""

    def read_cached_states(self, keys: Collection[str], now: float) -> dict[str, State]:
        """Returns ``read_cached_state`` of many keys, without those that have none."""

    # Concurrency limits.

    def set_concurrency_limit(self, tag: str, limit: int) -> None:
        """Lets at most `limit` task runs with `tag` run at once; 0 lets none."""

    def delete_concurrency_limit(self, tag: str) -> bool:
        """Takes a limit away; returns whether there was one."""

    def read_concurrency_limits(self, tags: Collection[str] | None = None) -> dict[str, int]:
        """Returns the limits of `tags` (None: of all) by tag; a tag without a limit is missing."""

    def take_slots(self, task_run_id: UUID, tags: Collection[str], owner: str) -> SlotAnswer:
        """Takes a slot of each limited tag; a run that holds one of a tag takes no second one.

        When one tag has none to spare the run holds none at all afterwards.

        Parameters:
            task_run_id: Who takes them.
            tags: The run's tags.
            owner: The lease of the process; when that is free, so are the slots.
        """

    def release_slots(self, task_run_id: UUID) -> None:
        """Gives back what the run holds."""

    # The inbox.

    def write_request(self, kind: str, run_id: UUID, payload: dict[str, Any] | None = None) -> int:
        """Leaves a request for the owner of a flow run or task run; returns its id.

        Raises:
            ObjectNotFound: There is no such run.
        """

    def read_requests(
        self, flow_run_ids: Collection[UUID] | None = None, *, owner: str | None = None, after: int = 0
    ) -> list[Request]:
        """Returns open requests with ids above `after`, oldest first: about those flow runs, or to that owner."""

    def finish_request(self, id: int) -> None:
        """Takes a request out of the inbox."""

    def is_request_open(self, id: int) -> bool:
        """Returns whether nobody has finished or answered the request yet."""

    def answer_request(self, id: int, answer: dict[str, Any]) -> None:
        """Answers a request; it is kept for whoever made it, who then finishes it."""

    def read_answer(self, id: int) -> dict[str, Any] | None:
        """Returns the answer to a request, None while there is none."""

    # Runs created for later.

    def write_deployment(self, deployment: Deployment) -> UUID:
        """Keeps a deployment, in place of the one of that name if there is one, whose id it takes; returns its id."""

    def read_deployment(self, id: UUID) -> Deployment | None:
        """Returns a deployment, or None."""

    def read_deployments(self, name: str | None = None) -> list[Deployment]:
        """Returns the deployments by name; of that name if one is given."""

    def claim_flow_run(self, id: UUID, owner: str, expected_owner: str | None) -> bool:
        """Makes a process the owner of a flow run. Of several that try at once one succeeds.

        Parameters:
            id: The flow run.
            owner: The lease of the process.
            expected_owner: Who was read to be its owner; None: nobody. If that has changed nothing is done.

        Returns:
            Whether the flow run belongs to `owner` now.
        """

    def data_version(self) -> int:
        """Returns a number that changes when any process has committed something. Costs a few microseconds."""

    # Care.

    def reconcile(self, now: float, is_free: Callable[[str], bool] | None = None) -> list[UUID]:
        """Makes unfinished flow runs whose owner is gone Crashed, with their started task runs; returns their ids.

        Parameters:
            now: Seconds since the epoch.
            is_free: Whether a lease is held by nobody; None asks the home of this store.
        """

    def delete_flow_runs(
        self,
        older_than: float,
        state_types: Collection[StateType] | None = None,
        dry_run: bool = False,
        now: float | None = None,
    ) -> DeletionReport:
        """Deletes flow runs that ended before a time, with all that belongs to them (D31), in short transactions.

        Parameters:
            older_than: Seconds since the epoch.
            state_types: Which final states; None means all of them.
            dry_run: Only say what would go.
            now: Seconds since the epoch; None: the system's time.
        """

    def read_cleaned(self) -> float | None:
        """Returns when ``note_cleaned`` was called last, by any process, in seconds since the epoch; None: never."""

    def note_cleaned(self, now: float) -> None:
        """Says that everything has been deleted that was to be deleted at a time."""

    def forget_results(self, results: Sequence[dict[str, Any]]) -> None:
        """Says that the files of records listed by a DeletionReport are gone."""

    def size_bytes(self) -> int:
        """Returns the size of the database's files."""
