"""``core-engine runs``: list and delete flow runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core_engine.cli.output import JsonOption, flow_run_json, print_json, print_table, short_id, state_text, took
from core_engine.cli.values import check_state_names, local_time, parse_duration, parse_moment, parse_states
from core_engine.exceptions import CoreEngineError

if TYPE_CHECKING:
    from core_engine.backend.store import DeletionReport, Store
    from core_engine.schemas.records import FlowRun

app = typer.Typer(add_completion=False, rich_markup_mode=None, help="List flow runs, the newest first, or delete them.")

StateOption = Annotated[
    list[str] | None,
    typer.Option("--state", metavar="STATE", help="Only runs in this state, such as failed. May be repeated."),
]
FlowOption = Annotated[str | None, typer.Option("--flow", metavar="NAME", help="Only runs of this flow.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help="Only runs made since then: 2h, 7d, 2026-03-01 or 2026-03-01T12:00."),
]
AllOption = Annotated[bool, typer.Option("--subflows", help="Also runs of subflows.")]


@app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    state: StateOption = None,
    flow: FlowOption = None,
    limit: LimitOption = 20,
    since: SinceOption = None,
    subflows: AllOption = False,
    json: JsonOption = False,
) -> None:
    """List flow runs, the newest first, or delete them."""
    if context.invoked_subcommand is None:
        list_runs(state, flow, limit, since, subflows, json)


@app.command("list")
def list_runs(
    state: StateOption = None,
    flow: FlowOption = None,
    limit: LimitOption = 20,
    since: SinceOption = None,
    subflows: AllOption = False,
    json: JsonOption = False,
) -> None:
    """List flow runs, the newest first."""
    from core_engine.cli.opening import open_store

    store = open_store()
    types, names = parse_states(state or ())
    names = None if names is None else check_state_names(names, _own_names(store, names))
    start = None if since is None else parse_moment(since, "--since", time.time())
    filters = {"flow_name": flow, "state_types": types, "state_names": names, "since": start}
    found = _read(store, limit, subflows, filters)
    if json:
        print_json([flow_run_json(run) for run in found])
    elif found:
        _print_runs(found)
    else:
        typer.echo("There are no such flow runs.", err=True)


def _own_names(store: Store, names: list[str]) -> list[str]:
    """Returns those of some state names that runs have."""
    return [name for name in names if store.read_flow_runs(state_names=[name], limit=1)]


def _read(store: Store, limit: int, subflows: bool, filters: dict[str, Any]) -> list[FlowRun]:
    """Reads in portions: how many runs of subflows lie between those that are wanted is not known beforehand."""
    found: list[FlowRun] = []
    offset = 0
    while len(found) < limit:
        portion = store.read_flow_runs(**filters, limit=limit, offset=offset)
        found += [run for run in portion if subflows or run.parent_task_run_id is None]
        offset += len(portion)
        if len(portion) < limit:
            break
    return found[:limit]


def _print_runs(runs: list[FlowRun]) -> None:

    print_table(
        ["ID", "NAME", "FLOW", "STATE", "STARTED", "TOOK"],
        [
            [
                short_id(run.id),
                run.name,
                run.flow_name,
                state_text(run.state_type, run.state_name),
                local_time(run.start_time or run.created),
                took(run),
            ]
            for run in runs
        ],
        right=["TOOK"],
    )


@app.command("delete")
def delete_runs(
    older_than: Annotated[
        str,
        typer.Option("--older-than", metavar="AGE", help="Delete runs that ended longer ago than this: 12h, 30d, 4w."),
    ],
    state: Annotated[
        list[str] | None, typer.Option("--state", metavar="STATE", help="Only runs that ended in this state type.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Delete finished flow runs with their task runs, logs, cache entries and results."""
    from core_engine.cli.opening import open_store
    from core_engine.results import remove_results

    types, others = parse_states(state or ())
    if others:
        raise typer.BadParameter(
            f"{others[0]!r} is not a type of state: use completed, failed, crashed or cancelled.", param_hint="--state"
        )
    before = time.time() - parse_duration(older_than, "--older-than")
    store = open_store()
    planned = store.delete_flow_runs(before, types, dry_run=True)
    if dry_run or not (planned.flow_runs or planned.results):
        _print_report(planned, json, "would be deleted")
        return
    if not yes and not json:
        typer.confirm(f"Delete {_summary(planned)}?", abort=True, err=True)
    report = store.delete_flow_runs(before, types)
    remove_results(store, report, on_error=_say_that_it_stays)
    _print_report(report, json, "deleted")
    if report.results_later and not json:
        typer.echo(
            f"{report.results_later:,} results were cached, and might be found by a run just now: the next delete, "
            "a minute from now or later, removes them."
        )


def _say_that_it_stays(error: CoreEngineError) -> None:
    typer.echo(f"{error} The next delete tries again.", err=True)


def _summary(report: DeletionReport) -> str:
    parts = [
        (len(report.flow_runs), "flow run", "flow runs"),
        (report.task_runs, "task run", "task runs"),
        (report.log_lines, "log line", "log lines"),
        (report.cache_entries, "cache entry", "cache entries"),
        (len(report.results) + (report.results_later if report.dry_run else 0), "result", "results"),
    ]
    return ", ".join(f"{number:,} {one if number == 1 else many}" for number, one, many in parts if number)


def _print_report(report: DeletionReport, json: bool, what: str) -> None:
    if not json:
        summary = _summary(report)
        typer.echo(f"{summary} {what}" if summary else "There is nothing to delete.")
        return
    print_json(
        {
            "dry_run": report.dry_run,
            "flow_runs": report.flow_runs,
            "task_runs": report.task_runs,
            "log_lines": report.log_lines,
            "cache_entries": report.cache_entries,
            "results": len(report.results),
            "results_later": report.results_later,
            "bytes_freed": report.bytes_freed,
        }
    )
