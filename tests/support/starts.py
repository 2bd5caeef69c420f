"""Starts of task runs, as the runs themselves tell of them: in a file, whatever becomes of them, and in a log line."""

from collections import Counter
from pathlib import Path

from core_engine import get_client, get_run_logger
from core_engine.concurrency.waiting import step


def note(path: Path, what: object) -> None:
    """Note a start in a file, and log it."""
    with path.open("a") as notes:
        notes.write(f"{what}\n")
    get_run_logger().info("started %s", what)


def starts(path: Path) -> Counter[str]:
    """Return how often each start was noted."""
    return Counter(path.read_text().split()) if path.exists() else Counter()


def lines() -> Counter[str]:
    """Return which starts the stored lines of this test's flow run tell of, and how often."""
    (run,) = [run for run in step(get_client().read_flow_runs()) if run.parent_task_run_id is None]
    said = [stored.entry.message for stored in step(get_client().read_logs(run.id))]
    return Counter(line.removeprefix("started ") for line in said if line.startswith("started "))
