"""How far the flow runs of this process are, for a display."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from core_engine.engine.active import ActiveFlowRun, active_flow_runs
from core_engine.engine.run_sets import RunSetSummary
from core_engine.schemas.states import CANCELLED, CRASHED, FAILED


@dataclass(slots=True, frozen=True)
class TaskProgress:
    """Counts of the runs of one task in one flow run. ``started`` is when the first was made (epoch seconds)."""

    flow_run_id: UUID
    flow_run_name: str
    task_name: str
    total: int
    running: int
    completed: int
    failed: int
    cached: int
    cancelled: int
    started: float | None


def snapshot() -> list[TaskProgress]:
    """Returns the counts by flow run and task, in the order in which the tasks were first called."""
    return [progress for run in active_flow_runs() for progress in _progress_of(run)]


def _progress_of(run: ActiveFlowRun) -> list[TaskProgress]:
    by_task: dict[str, list[RunSetSummary]] = {}
    for summary in list(run.summaries):
        by_task.setdefault(summary.group.task_name, []).append(summary)
    return [_task_progress(run, name, summaries) for name, summaries in by_task.items()]


def _task_progress(run: ActiveFlowRun, name: str, summaries: list[RunSetSummary]) -> TaskProgress:
    types = [state._type for summary in summaries for state in list(summary.not_completed.values())]
    failed = sum(type is FAILED or type is CRASHED for type in types)
    cached = sum(summary.cached for summary in summaries)
    return TaskProgress(
        flow_run_id=run.id,
        flow_run_name=run.record.name,
        task_name=name,
        total=sum(summary.count for summary in summaries),
        running=sum(len(summary.executing) for summary in summaries),
        completed=sum(summary.done for summary in summaries) - len(types),
        failed=failed,
        cached=cached,
        cancelled=types.count(CANCELLED),
        started=summaries[0].group.created,
    )
