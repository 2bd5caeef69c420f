"""Runs of an earlier attempt of a flow run: matched by task key and call index, reused if they completed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from core_engine import ids
from core_engine.engine.active import ActiveFlowRun, ActiveTaskRun
from core_engine.schemas.records import TaskRun, TaskRunGroup
from core_engine.schemas.states import COMPLETED, FINAL_TYPES, PENDING, State

if TYPE_CHECKING:
    from core_engine.backend.store import Store
    from core_engine.engine.run_sets import RunSet


class PreviousRuns:
    """The task runs that a flow run has already, by task key and call index.

    Parameters:
        groups: Their groups, as recorded.
        task_runs: Their records by id.
    """

    def __init__(self, groups: Sequence[TaskRunGroup], task_runs: dict[UUID, TaskRun]) -> None:
        self._task_runs = task_runs
        self._places = {
            (group.task_key, group.first_index + index): (group, index)
            for group in groups
            for index in range(group.count)
        }

    @classmethod
    def read(cls, store: Store, flow_run_id: UUID) -> PreviousRuns:
        """Reads the task runs of a flow run. Blocks."""
        runs = store.read_task_runs(flow_run_id)
        return cls(store.read_task_groups(flow_run_id), {run.id: run for run in runs})

    def origins(self, group: TaskRunGroup) -> tuple[list[tuple[TaskRunGroup, int]] | None, list[TaskRunGroup]]:
        """Finds the runs of a group that have been recorded before: a map may have grown since.

        Returns:
            Where each run is recorded, None when all are new; and the groups by which those that are new are recorded.
        """
        places: list[tuple[TaskRunGroup, int]] = []
        new: list[TaskRunGroup] = []
        for index in range(group.count):
            place = self._places.get((group.task_key, group.first_index + index))
            if place is None:
                if not new or places[-1][0] is not new[-1]:
                    new.append(_rest_of(group, index))
                place = (new[-1], new[-1].count)
                new[-1].count += 1
            places.append(place)
        if len(new) == 1 and new[0].count == group.count:
            return None, [group]
        return places, new

    def find(self, group: TaskRunGroup, index: int) -> TaskRun | None:
        """Returns the record of a run that was made before, None for a new one."""
        return self._task_runs.get(group.run_id(index))

    def activate(self, flow_run: ActiveFlowRun, group: TaskRunGroup, index: int) -> ActiveTaskRun:
        """Makes the record under which a run is executed again, as it stands."""
        record = self.find(group, index)
        if record is None:
            return ActiveTaskRun(flow_run, group, index, group.first_state(index))
        assert record.state is not None
        state = record.state
        state._group = group
        state._index = index
        run = ActiveTaskRun(flow_run, group, index, state)
        run.run_count = record.run_count
        run.flow_run_count = record.flow_run_run_count
        run.start_time = None if record.start_time is None else record.start_time.timestamp()
        run.end_time = None if record.end_time is None else record.end_time.timestamp()
        run.total_run_time = record.total_run_time
        run.execution = record.execution
        run.reopens = state._type in FINAL_TYPES
        run.name = record.name if record.name != group.run_name(index) else None
        return run

    def settle_completed(self, run_set: RunSet) -> None:
        """Gives runs that completed before, and whose value can be had, the state that they have."""
        for index in range(run_set.count):
            group, position = run_set.summary.origin(index)
            record = self.find(group, position)
            if record is None or record.state is None or record.state._type is not COMPLETED:
                continue
            if getattr(type(record.state._data), "stored", False):
                self.settle(run_set, index, record)

    def reopen(self, flow_run: ActiveFlowRun, group: TaskRunGroup, index: int) -> None:
        """Takes a completed run back to Pending, whose stored result does not count any more."""
        from core_engine.engine.proposals import decide_task

        record = self.find(group, index)
        if record is None or record.state is None or record.state._type is not COMPLETED:
            return
        run = self.activate(flow_run, group, index)
        decide_task(run, State(PENDING, message="The task run is executed again."), force=True)
        record.state, record.execution, record.run_count, record.end_time = run.state, run.execution, 0, None

    def settle(self, run_set: RunSet, index: int, record: TaskRun) -> bool:
        """Gives a run the final state that it has had before; returns whether it had none yet in this attempt."""
        assert record.state is not None
        record.state._group, record.state._index = run_set.summary.origin(index)
        return run_set.settle(index, record.state)


def _rest_of(group: TaskRunGroup, first: int) -> TaskRunGroup:
    """Makes a group, yet without runs, for those of a group that begin at `first`."""
    rest = copy.copy(group)
    rest.prefix = ids.new_prefix()
    rest.first_index = group.first_index + first
    rest.count = 0
    return rest
