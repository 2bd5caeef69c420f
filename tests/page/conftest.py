import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core_engine.page.model import Failure, RunFacts, RunPage, TaskSummary, Timeline
from core_engine.page.spans import Span

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# The browser must neither look for updates nor share a profile with another test.
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1600",
    "--virtual-time-budget=2000",
    "--dump-dom",
)


@pytest.fixture
def rendered_dom(tmp_path: Path) -> Callable[[str], str]:
    """Opens a page in a real browser and returns the document after its scripts ran."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        message = f"no browser was found; install chromium (looked for {', '.join(BROWSERS)})"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)

    def render(html: str) -> str:
        page = tmp_path / "page.html"
        page.write_text(html, encoding="utf-8")
        command = [browser, *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=50).stdout

    return render


def make_page(runs: int = 200, lanes: int = 4, failed_call: int | None = 7) -> RunPage:
    """A run of two tasks: `runs` runs, one a millisecond, on `lanes` workers, of which one may have failed."""
    states = [("Completed", "completed"), ("Failed", "failed"), ("Cached", "cached")]
    tasks = [TaskSummary("read"), TaskSummary("sum up")]
    workers: list[tuple[str, list[Span]]] = [(f"worker-{number}", []) for number in range(lanes)]
    for call in range(runs):
        task, state = call % 2, 1 if call == failed_call else 0
        start = 0.001 * (call // lanes)
        workers[call % lanes][1].append(Span(start, start + 0.0005, task, state, call))
        tasks[task].counts[states[state][1]] += 1
        tasks[task].durations.append(0.0005)
    facts = RunFacts(
        flow_name="census",
        run_name="lively-otter",
        run_id="00000000-0000-4000-8000-000000000000",
        state_name="Completed",
        state_kind="completed",
        message="all 200 states are completed",
        started=datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
        seconds=0.001 * (runs // lanes + 1),
        facts=[("parameters", '{"limit": 5}')],
        states=[("Pending", "waiting", 0.0), ("Running", "running", 0.01), ("Completed", "completed", 0.2)],
    )
    failures = [] if failed_call is None else [Failure(f"read-{failed_call}", "Failed", "ValueError: no such number")]
    return RunPage(facts, tasks, Timeline(0.001 * (runs // lanes + 1), ["read", "sum up"], states, workers), failures)
