"""``core-engine show``: one flow run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from core_engine.cli.output import (
    JsonOption,
    RunArgument,
    console,
    flow_run_json,
    print_json,
    print_table,
    short_id,
    state_json,
    state_text,
    took,
)
from core_engine.cli.values import local_time

if TYPE_CHECKING:
    from core_engine.cli.output import Rows
    from core_engine.page.model import TaskSummary
    from core_engine.schemas.records import FlowRun, TaskRun
    from core_engine.schemas.states import State

app = typer.Typer(add_completion=False, rich_markup_mode=None)

MAX_FAILURES = 10


@app.command()
def show(run: RunArgument, json: JsonOption = False) -> None:
    """Show a flow run: its states with their times, its task runs by task and state, what failed."""
    from core_engine.cli.opening import open_store, read_run
    from core_engine.page.reading import read_task_summaries, subflow_runs
    from core_engine.schemas.states import CRASHED, FAILED

    store = open_store()
    flow_run = read_run(store, run)
    states = store.read_states(flow_run.id)
    tasks = read_task_summaries(store, flow_run.id)
    failed = store.read_task_runs(flow_run.id, state_types=[FAILED, CRASHED], limit=MAX_FAILURES)
    children = [child for child, _ in subflow_runs(store, flow_run.id)]
    counts = store.count_task_runs(flow_run.id)
    if json:
        shown = flow_run_json(flow_run)
        shown["states"] = [state_json(state) for state in states]
        shown["task_runs"] = [
            {
                "task": count.task_name,
                "state_type": count.state_type.value,
                "state": count.state_name,
                "count": count.count,
            }
            for count in counts
        ]
        shown["subflow_runs"] = [
            {"id": child.id, "flow_name": child.flow_name, "name": child.name} for child in children
        ]
        print_json(shown)
        return
    _print_head(flow_run)
    _print_states(states)
    if tasks:
        _print_tasks(tasks)
    if failed:
        _print_failures(failed, sum(task.counts["failed"] for task in tasks))
    if children:
        _print_children(children)


def _print_head(run: FlowRun) -> None:
    from rich.text import Text

    out = console()
    out.print(Text.assemble((run.flow_name, "bold"), " ", run.name, "  ", state_text(run.state_type, run.state_name)))
    facts: list[tuple[str, Any]] = [
        ("id", run.id),
        ("message", run.state.message if run.state else None),
        ("started", local_time(run.start_time) if run.start_time else None),
        ("took", took(run) if run.start_time else None),
        ("attempts", run.run_count if run.run_count > 1 else None),
        ("runner", run.task_runner),
        ("version", run.flow_version),
        ("tags", ", ".join(sorted(run.tags))),
        ("parameters", ", ".join(f"{name}={value!r}" for name, value in run.parameters.items())),
    ]
    for name, value in facts:
        if value:
            out.print(Text.assemble((f"{name:<11}", "dim"), str(value)), soft_wrap=True)


def _print_states(states: list[State]) -> None:
    from core_engine.page.format import duration

    rows: Rows = []
    for number, state in enumerate(states):
        since = "" if number == 0 else "+" + duration((state.timestamp - states[0].timestamp).total_seconds())
        when = state.timestamp.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        rows.append([state_text(state.type, state.name), when, since, state.message or ""])
    console().print()
    print_table(["STATE", "SINCE", "", "MESSAGE"], rows)


def _print_tasks(tasks: list[TaskSummary]) -> None:
    from rich.text import Text

    from core_engine.page.format import duration
    from core_engine.page.model import KINDS

    kinds = [kind for kind in KINDS if any(task.counts[kind] for task in tasks)]
    heads = [kind.upper() for kind in kinds]
    rows: Rows = [
        [
            task.name,
            f"{task.total:,}",
            *(
                Text(f"{task.counts[kind]:,}", style="bold red" if kind == "failed" and task.counts[kind] else "")
                for kind in kinds
            ),
            duration(task.quantile(0.5)),
            duration(task.quantile(0.95)),
            duration(task.durations[-1] if task.durations else None),
        ]
        for task in tasks
    ]
    console().print()
    numbers = ["RUNS", *heads, "MEDIAN", "95%", "LONGEST"]
    print_table(["TASK", *numbers], rows, right=numbers)


def _print_failures(failed: list[TaskRun], total: int) -> None:
    rows: Rows = [
        [run.name, state_text(run.state_type, run.state_name), (run.state.message or "") if run.state else ""]
        for run in failed
    ]
    console().print()
    print_table(["FAILED", "STATE", "MESSAGE"], rows)
    if total > len(failed):
        typer.echo(f"and {total - len(failed):,} more")


def _print_children(children: list[FlowRun]) -> None:

    rows: Rows = [
        [
            short_id(run.id),
            run.flow_name,
            run.name,
            state_text(run.state_type, run.state_name),
            took(run),
        ]
        for run in children
    ]
    console().print()
    print_table(["SUBFLOW RUN", "FLOW", "NAME", "STATE", "TOOK"], rows, right=["TOOK"])
