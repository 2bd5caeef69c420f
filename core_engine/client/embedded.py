"""The client of a process that works on the database itself: no server, nothing to start."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack
from uuid import UUID

from core_engine import clock
from core_engine.backend import Backend, open_backend
from core_engine.concurrency.waiting import Latch, run_blocking
from core_engine.exceptions import ObjectNotFound, SettingsError
from core_engine.option_checks import check_count, check_id, check_text
from core_engine.settings import get_current_settings

if TYPE_CHECKING:
    from core_engine.backend.store import StoredLog
    from core_engine.client.explanations import Explanation
    from core_engine.client.filters import FlowRunFilters, LogFilters, TaskRunFilters
    from core_engine.engine.active import ActiveTaskRun
    from core_engine.orchestration.facts import SlotAnswer
    from core_engine.schemas.records import Deployment, Event, FlowRun, TaskRun
    from core_engine.schemas.states import State

T = TypeVar("T")


def get_client() -> EmbeddedClient:
    """Returns a client for the settings in force, to be used as ``async with get_client() as client``.

    Raises:
        StoreError: The home or its database cannot be used; the message says why.
        SettingsError: The setting API_URL names a server, for which this version has no client.
    """
    url = get_current_settings().api_url
    if url is not None:
        raise SettingsError(
            f"The setting API_URL is {url!r}, but this version keeps runs only in its embedded database. "
            "Unset CORE_ENGINE_API_URL."
        )
    return EmbeddedClient(open_backend())


class EmbeddedClient:
    """Reads and writes what is recorded of runs. Reads see everything that this process wrote before them (D4).

    Parameters:
        backend: The store, its journal and this process's lease.

    Attributes:
        runs_hooks: Whether hooks of task runs run where this client is; a worker's leaves them to the flow's process.
    """

    runs_hooks = True

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.store = backend.store
        self.journal = backend.journal
        self.log_sink = backend.journal
        self.owner = backend.lease.name
        self._released = Latch()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    @property
    def grace_seconds(self) -> float:
        """How long an orderly end may take."""
        return get_current_settings().grace_seconds

    @property
    def api_url(self) -> str:
        """Where runs are recorded: the path of the database."""
        return str(self.store.path)

    # Reading ----------------------------------------------------------------------------------------------------------

    async def read_flow_run(self, flow_run_id: UUID | str) -> FlowRun:
        """Returns a flow run.

        Raises:
            ObjectNotFound: There is none of this id.
        """
        id = check_id(flow_run_id, "flow_run_id")
        return _found(await self._read(lambda: self.store.read_flow_run(id)), "flow run", id)

    async def read_flow_runs(
        self, *, since: datetime | None = None, before: datetime | None = None, **filters: Unpack[FlowRunFilters]
    ) -> list[FlowRun]:
        """Returns the flow runs that fit all filters, newest first.

        Parameters:
            since, before: Created in [since, before), aware datetimes; None: no limit.
            filters: name, flow_name, state_types, state_names, tags, parent_task_run_id, order ("asc", "desc"),
                limit, offset.
        """
        first, end = _seconds(since), _seconds(before)
        return await self._read(lambda: self.store.read_flow_runs(since=first, before=end, **filters))

    async def read_task_run(self, task_run_id: UUID | str) -> TaskRun:
        """Returns a task run.

        Raises:
            ObjectNotFound: There is none of this id.
        """
        id = check_id(task_run_id, "task_run_id")
        return _found(await self._read(lambda: self.store.read_task_run(id)), "task run", id)

    async def read_task_runs(self, flow_run_id: UUID | str, **filters: Unpack[TaskRunFilters]) -> list[TaskRun]:
        """Returns the task runs of a flow run, also those that have not started, in the order of their making.

        Parameters:
            flow_run_id: The flow run.
            filters: task_name, state_types, state_names, order, limit, offset.
        """
        id = check_id(flow_run_id, "flow_run_id")
        return await self._read(lambda: self.store.read_task_runs(id, **filters))

    async def read_states(self, run_id: UUID | str) -> list[State]:
        """Returns every state that a flow run or task run has been in, oldest first."""
        id = check_id(run_id, "run_id")
        return await self._read(lambda: self.store.read_states(id))

    async def read_events(
        self, flow_run_id: UUID | str, after: str | None = None, limit: int | None = None
    ) -> list[Event]:
        """Returns the state changes of a flow run and its task runs in order; `after`: an event's cursor, None: all."""
        id = check_id(flow_run_id, "flow_run_id")
        return await self._read(lambda: self.store.read_events(id, after=after, limit=limit))

    async def read_logs(
        self,
        flow_run_id: UUID | str | None = None,
        task_run_id: UUID | str | None = None,
        **filters: Unpack[LogFilters],
    ) -> list[StoredLog]:
        """Returns stored log lines in order; `filters`: min_level, after (a cursor), limit."""
        flow = None if flow_run_id is None else check_id(flow_run_id, "flow_run_id")
        task = None if task_run_id is None else check_id(task_run_id, "task_run_id")
        return await self._read(lambda: self.store.read_logs(flow_run_id=flow, task_run_id=task, **filters))

    async def why(self, run_id: UUID | str) -> Explanation:
        """Says why a flow run or task run is where it is: what it waits for, where its value came from, how it ended.

        What only the process of the flow run knows is asked of that process, which has a second to answer.

        Raises:
            ObjectNotFound: There is no run of this id.
        """
        from core_engine.client.explanations import explain

        return await explain(self, check_id(run_id, "run_id"))

    async def _read(self, function: Callable[[], T]) -> T:
        await self.journal_committed(self.journal.position)
        return await run_blocking(function)

    # Changing ---------------------------------------------------------------------------------------------------------

    async def set_flow_run_state(self, flow_run_id: UUID | str, state: State, force: bool = False) -> State:
        """Proposes a state for a flow run; see ``core_engine.engine.propose_state``."""
        return await self.propose(state, force=force, flow_run_id=check_id(flow_run_id, "flow_run_id"))

    async def set_task_run_state(self, task_run_id: UUID | str, state: State, force: bool = False) -> State:
        """Proposes a state for a task run; see ``core_engine.engine.propose_state``."""
        return await self.propose(state, force=force, task_run_id=check_id(task_run_id, "task_run_id"))

    async def propose(
        self, state: State, force: bool = False, task_run_id: UUID | None = None, flow_run_id: UUID | None = None
    ) -> State:
        """What ``core_engine.engine.propose_state`` does, for exactly one id."""
        from core_engine.engine.outside import propose_for_recorded_run

        return await propose_for_recorded_run(self, state, force, task_run_id, flow_run_id)

    async def cancel_flow_run(self, flow_run_id: UUID | str) -> None:
        """Has a flow run cancelled: its process is asked to; one that no process executes is Cancelled at once.

        One that has ended stays as it is. Hooks of a run that no process executes are not called.

        Raises:
            ObjectNotFound: There is none of this id.
        """
        await run_blocking(self.store.reconcile, clock.now())
        record = await self.read_flow_run(flow_run_id)
        await self._cancel(record.state, record, None)

    async def cancel_task_run(self, task_run_id: UUID | str) -> None:
        """Has a task run cancelled, of whichever process; that of a subflow cancels the subflow.

        One that has ended stays as it is.

        Raises:
            ObjectNotFound: There is none of this id.
        """
        await run_blocking(self.store.reconcile, clock.now())
        record = await self.read_task_run(task_run_id)
        await self._cancel(record.state, await self.read_flow_run(record.flow_run_id), record.id)

    async def _cancel(self, state: State | None, flow_run: FlowRun, task_run_id: UUID | None) -> None:
        from core_engine.client.later import cancel_without_process

        if state is not None and state.is_final():
            return
        if flow_run.owner is None and await cancel_without_process(self, flow_run.id, task_run_id):
            return
        await run_blocking(self.store.write_request, "cancel", task_run_id or flow_run.id, {})

    async def create_deployment(
        self, name: str, flow_name: str, entrypoint: str, parameters: dict[str, Any] | None = None
    ) -> UUID:
        """Keeps a deployment: a flow that any process can load and run. One of the same name is replaced.

        Parameters:
            name: Unique among deployments.
            flow_name: Name of the flow.
            entrypoint: ``path/to/file.py:flow`` (made absolute) or ``package.module:flow``.
            parameters: Of each run that is not given others; None: none.

        Returns:
            The deployment's id.

        Raises:
            TypeError: An argument has a wrong type.
            ValueError: A text is empty, or a parameter is a secret by its name or cannot be stored as JSON.
        """
        from core_engine.client.later import new_deployment

        deployment = new_deployment(name, flow_name, entrypoint, parameters or {})
        return await run_blocking(self.store.write_deployment, deployment)

    async def read_deployment(self, deployment_id: UUID | str) -> Deployment:
        """Returns a deployment.

        Raises:
            ObjectNotFound: There is none of this id.
        """
        id = check_id(deployment_id, "deployment_id")
        return _found(await run_blocking(self.store.read_deployment, id), "deployment", id)

    async def read_deployment_by_name(self, name: str) -> Deployment:
        """Returns the deployment of a name.

        Raises:
            ObjectNotFound: There is none.
        """
        found = await run_blocking(self.store.read_deployments, name)
        if not found:
            raise ObjectNotFound(f"There is no deployment named {name!r}. `core-engine deploy` makes one.")
        return found[0]

    async def read_deployments(self) -> list[Deployment]:
        """Returns all deployments, by name."""
        return await run_blocking(self.store.read_deployments)

    async def create_flow_run_from_deployment(
        self,
        deployment_id: UUID | str,
        *,
        parameters: dict[str, Any] | None = None,
        state: State | None = None,
        name: str | None = None,
        tags: Iterable[str] = (),
    ) -> FlowRun:
        """Creates a flow run for later: another process executes it, by ``python -m core_engine.engine <id>``.

        Parameters:
            deployment_id: Says which flow.
            parameters: Beside, and before, those of the deployment; None: none. They are validated when the run begins.
            state: Its first state; None: Scheduled, due now.
            name: None: two random words.
            tags: Tags of the run and of its task runs.

        Raises:
            ObjectNotFound: There is no such deployment.
            ValueError: A parameter is a secret by its name, or cannot be stored as JSON.
        """
        from core_engine.client.later import new_scheduled_run

        deployment = await self.read_deployment(deployment_id)
        entry = new_scheduled_run(deployment, parameters or {}, state, name, tags)
        await self.journal_committed(self.journal.append(entry))
        return entry.flow_run

    async def create_concurrency_limit(self, tag: str, concurrency_limit: int) -> None:
        """Limits how many task runs with `tag` run at once, over all processes.

        Raises:
            TypeError: The limit is no whole number, or the tag no text.
            ValueError: It is below 0, or the tag empty.
        """
        if not check_text(tag, "tag"):
            raise ValueError("tag must not be empty.")
        check_count(concurrency_limit, "concurrency_limit")
        await run_blocking(self.store.set_concurrency_limit, tag, concurrency_limit)

    async def delete_concurrency_limit_by_tag(self, tag: str) -> None:
        """Takes a limit away."""
        await run_blocking(self.store.delete_concurrency_limit, tag)

    async def read_concurrency_limits(self, tags: Collection[str] | None = None) -> dict[str, int]:
        """Returns limits by tag; None: all."""
        return await run_blocking(self.store.read_concurrency_limits, tags)

    # For the engine ---------------------------------------------------------------------------------------------------

    async def journal_committed(self, position: int) -> None:
        """Waits until everything up to `position` is in the store.

        Raises:
            StoreError: It could not be recorded.
        """
        journal = self.journal
        if journal.committed < position:
            latch = Latch()
            journal.when_committed(position, lambda failure: latch.set())
            await latch
            journal.wait(position)

    def read_cached_state(self, key: str) -> State | None:
        """Returns the newest valid completed state under a cache key: queued ones count (D4). Blocks."""
        now = clock.now()
        queued = self.journal.cached(key)
        if queued is not None and (queued.expires is None or queued.expires > now):
            return queued.state
        return self.store.read_cached_state(key, now)

    async def limited_tags(self, tags: Iterable[str]) -> frozenset[str]:
        """Returns those of `tags` that have a concurrency limit."""
        if not tags:
            return frozenset()
        return frozenset(await run_blocking(self.store.read_concurrency_limits, list(tags)))

    def take_slots(self, task_run_id: UUID, tags: Collection[str]) -> SlotAnswer:
        """Takes a slot of each limited tag for a run, or none. Blocks."""
        return self.store.take_slots(task_run_id, tags, self.owner)

    def release_slots(self, run: ActiveTaskRun) -> None:
        """Gives a run's slots back, and wakes those of this process that wait for one. Blocks."""
        run.holds_slots = False
        self.store.release_slots(run.id)
        released, self._released = self._released, Latch()
        released.set()

    def slots_released(self) -> Latch:
        """Returns a latch that is set when a run of this process gives slots back."""
        return self._released

    def rename_task_run(self, run: ActiveTaskRun) -> None:
        """Records the name that a task run was given."""
        from core_engine.backend.entries import TaskRunUpdated

        self.journal.append(TaskRunUpdated(run.group, run.index, {"name": run.name}))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            from core_engine.vocabulary import absent

            raise absent("core_engine.client.EmbeddedClient", name)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _found(record: T | None, kind: str, id: UUID) -> T:
    if record is None:
        raise ObjectNotFound(f"There is no {kind} with the id {id}.")
    return record


__all__ = ["EmbeddedClient", "get_client"]
