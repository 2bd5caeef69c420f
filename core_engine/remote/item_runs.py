"""The items of a block as task runs: each is put up from what travelled, asked about, begun and ended."""

from __future__ import annotations

import pickle
from collections.abc import Coroutine, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from core_engine import clock
from core_engine.engine.active import ActiveTaskRun
from core_engine.engine.crashes import crash_task_run
from core_engine.engine.held_loops import end_holder, lost_with
from core_engine.engine.task_runs import begin_task_run
from core_engine.logging import runs_here
from core_engine.logging.configuration import setup_worker_logging
from core_engine.remote.loading import MOST_KEPT
from core_engine.remote.payloads import Definition, Item, Origin, Payload, Shared
from core_engine.remote.permit import RemoteFlowRun, RemoteGroup, RemoteRunSet, WorkerClient
from core_engine.remote.reports import CALL_ENDED, GIVEN_BACK, LOST, QUESTION
from core_engine.remote.worker_results import WorkerResultFactory
from core_engine.schemas.records import FlowRun
from core_engine.schemas.states import FINAL_TYPES

if TYPE_CHECKING:
    from core_engine.remote.reporting import BlockReport
    from core_engine.remote.roads import WorkerRoad


class ItemRuns:
    """The runs of one block.

    Parameters:
        block: The block.
        report: Takes what happens to them.
        road: The way back.

    Attributes:
        run_set: Stands for their run set.
        active: Runs that have begun and not ended, by position.
    """

    def __init__(self, block: Payload, report: BlockReport, road: WorkerRoad) -> None:
        self._items = block.items
        self._report = report
        self._road = road
        self._client = WorkerClient(report, {})
        flow_run, groups = _origin(block.origin)
        self._flow_run = RemoteFlowRun(flow_run, block.attempt, self._client)
        self._groups = [_group(facts) for facts in groups]
        self.run_set = RemoteRunSet(block.needs_slots)
        self.active: dict[int, ActiveTaskRun] = {}

    def load(self, definition: Definition, shared: Shared, rows: Sequence[Sequence[Any]], carries: bool) -> None:
        """Takes what they are executed with; `carries`: results to persist go back to the flow's process."""
        self._definition = definition
        self._flow_run.facts = definition.flow_run
        self._shared = shared
        self._rows = rows
        self._factory = WorkerResultFactory.of(definition.result_factory, self._road, carries)

    def log_here(self) -> None:
        """From now on lines of this process are those of the block's flow run; ``log_no_more`` must follow."""
        setup_worker_logging()
        runs_here.add_run(self._flow_run.record.id, self._client)

    def log_no_more(self) -> None:
        runs_here.remove_run(self._flow_run.record.id, self._client)

    def begin(self, number: int) -> Coroutine[Any, Any, Any] | None:
        """Returns the coroutine that executes an item; None if it is not to be executed, which has been reported."""
        item = self._items[number]
        if item.position in self.run_set.cancel_requests:
            self._report.add((CALL_ENDED, item.position))
            return None
        run = self._activate(item)
        definition = self._definition
        parameters = self._shared.parameters_of(self._rows[number], definition.task)
        if self._asks(run, item, parameters):
            return None
        return begin_task_run(
            task=definition.task,
            task_run=run,
            parameters=parameters,
            wait_for=None,
            result_factory=self._factory,
            log_prints=definition.log_prints,
            settings=None,
        )

    def crashed(self, number: int, error: BaseException) -> None:
        """Takes what the coroutine of an item raised."""
        run = self.active[self._items[number].position]
        if run.state._type not in FINAL_TYPES:
            crash_task_run(run, error)

    def ended(self, number: int) -> None:
        """Reports that an item's call is over."""
        position = self._items[number].position
        self._report.add((CALL_ENDED, position))
        self.active.pop(position, None)

    def run_of(self, number: int) -> ActiveTaskRun | None:
        """Returns the run of an item; None if it has not begun, or has ended."""
        return self.active.get(self._items[number].position)

    def leave_behind(self, number: int, holder: ActiveTaskRun) -> None:
        """Ends an item on a loop that is given up because of `holder`: what happens to others is decided upstream."""
        run, position = self.run_of(number), self._items[number].position
        if run is None:
            self._report.add((GIVEN_BACK, [position]))
        elif run is holder:
            end_holder(run, self._definition.task, self._factory)
            self.ended(number)
        else:
            self._report.add((LOST, position, lost_with(holder)))

    def expire(self, number: int) -> None:
        """Ends an item that is overdue. It stays among the active ones: its code goes on, and may hold the loop."""
        run = self.run_of(number)
        assert run is not None
        end_holder(run, self._definition.task, self._factory)
        self._report.add((CALL_ENDED, run.position))

    def _activate(self, item: Item) -> ActiveTaskRun:
        group = self._groups[item.group]
        group.positions[item.run_index] = item.position
        flow_run: Any = self._flow_run
        run = ActiveTaskRun(flow_run, group, item.run_index, group.first_state(item.run_index))
        if item.progress is not None:
            item.progress.take_up(run)
        # No state is older than the one before it, of which another clock than this process's may have told.
        run.state._time = min(run.state._time, clock.now())
        run_set: Any = self.run_set
        run.run_set = run_set
        run.position = item.position
        run.worker = self._road.worker
        if item.answer is not None:
            self._client.answers.setdefault(*item.answer)
        self.active[item.position] = run
        return run

    def _asks(self, run: ActiveTaskRun, item: Item, parameters: dict[str, Any]) -> bool:
        """Ends the call with a question if only the flow's process knows whether the run's result is stored (D13)."""
        definition = self._definition
        if definition.task.cache_key_fn is None or item.answer is not None or run.group.policy.refresh_cache:
            return False
        from core_engine.context import TaskRunContext
        from core_engine.engine.caching import cache_key_of

        client: Any = self._client
        try:
            context = TaskRunContext.of(run, definition.task, client, parameters, self._factory, definition.log_prints)
            key = cache_key_of(context, parameters)
        except Exception:  # the run itself meets it again, and records it
            key = None
        if key is None or key in self._client.answers:
            return False
        self._report.add((QUESTION, item.position, key))
        self.active.pop(item.position, None)
        return True


@lru_cache(maxsize=MOST_KEPT)
def _origin(content: bytes) -> tuple[FlowRun, Sequence[Mapping[str, Any]]]:
    """Returns the flow run that a block belongs to, as far as logs need it, and the facts of its run groups."""
    origin = Origin(*pickle.loads(content))
    return FlowRun(id=origin.flow_run_id, name=origin.flow_run_name, flow_name=origin.flow_name), origin.groups


def _group(facts: Mapping[str, Any]) -> RemoteGroup:
    group = RemoteGroup(**facts)
    group.positions = {}
    return group
