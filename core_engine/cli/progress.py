"""Live progress on a terminal: polls what the engine is doing, ten times a second, from a thread of its own."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self
from uuid import UUID

from core_engine.cli.bars import Bar, Meter, render_bars
from core_engine.cli.terminal import Footer, can_show_footer

if TYPE_CHECKING:
    from core_engine.backend.store import Store
    from core_engine.engine.progress import TaskProgress

REFRESH_SECONDS = 0.1
# Marks the tasks of subflows.
BELOW = "  "


def bars_of(progress: list[TaskProgress], root: UUID | None) -> list[Bar]:
    """Returns a bar for each task of the flow run `root`, and one for each task name of its subflows together."""
    bars: dict[str, Bar] = {}
    for task in progress:
        label = task.task_name if task.flow_run_id == root else BELOW + task.task_name
        bar = Bar(
            label,
            total=task.total,
            running=task.running,
            completed=task.completed - task.cached,  # the engine counts a cached run as completed too
            failed=task.failed,
            cached=task.cached,
            cancelled=task.cancelled,
            started=task.started,
        )
        bars.setdefault(label, Bar(label)).add(bar)
    return list(bars.values())


def recorded_bars(store: Store, root: UUID) -> list[Bar]:
    """Returns the same bars, as the store has recorded them."""
    from core_engine.page.model import kind_of
    from core_engine.page.reading import subflow_runs

    runs = [(root, "")] + [(child.id, BELOW) for child, _ in subflow_runs(store, root)]
    bars: dict[str, Bar] = {}
    for run, below in runs:
        for counted in store.count_task_runs(run):
            label = below + counted.task_name
            bar = bars.setdefault(label, Bar(label))
            bar.total += counted.count
            kind = kind_of(counted.state_type, counted.state_name)
            if kind != "waiting":
                setattr(bar, kind, getattr(bar, kind) + counted.count)
    return list(bars.values())


class LiveProgress:
    """Shows a bar for each task while its block runs, if stderr is a terminal, and nothing else.

    What is printed or logged meanwhile appears above the bars. The engine is polled by a thread of its own; the other
    methods are for the thread that entered the block, and touch the bars only when that thread has ended.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._seen: dict[tuple[UUID, str], TaskProgress] = {}
        self._meters: dict[str, Meter] = {}
        self._bars: list[Bar] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._footer = Footer(sys.stderr) if can_show_footer(sys.stderr) else None
        self._snapshot: Callable[[], list[TaskProgress]] = list
        self.root: UUID | None = None

    def __enter__(self) -> Self:
        if self._footer is not None:
            self._footer.start()
            self._draw()
            self._thread = threading.Thread(target=self._poll, name="core-engine-progress", daemon=True)
            self._thread.start()
        return self

    def watch(self) -> None:
        """Begins to ask the engine. Before, the main thread may still be importing it."""
        if self._footer is not None:
            from core_engine.engine.progress import snapshot

            self._snapshot = snapshot

    def finish(self, store: Store, flow_run_id: UUID) -> list[Bar]:
        """Shows and returns the final numbers, which are the store's: those of the last poll may be older."""
        self._end_polling()
        starts = {bar.label: bar.started for bar in self._bars}
        order = {label: number for number, label in enumerate(starts)}
        self._bars = sorted(recorded_bars(store, flow_run_id), key=lambda bar: order.get(bar.label, len(order)))
        for bar in self._bars:
            bar.started = starts.get(bar.label)
        self._draw()
        return self._bars

    def __exit__(self, *error: object) -> None:
        self._end_polling()
        if self._footer is not None:
            if not self._bars:
                self._footer.show([])
            self._footer.stop()

    def _end_polling(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _poll(self) -> None:
        while not self._stop.wait(REFRESH_SECONDS):
            self._take(self._snapshot())
            self._draw()

    def _take(self, snapshot: list[TaskProgress]) -> None:
        """Keeps what the engine says; it no longer tells of flow runs that have ended, so their last numbers stay."""
        for task in snapshot:
            if self.root is None:
                self.root = task.flow_run_id
            self._seen[task.flow_run_id, task.task_name] = task
        self._bars = bars_of(list(self._seen.values()), self.root)

    def _draw(self) -> None:
        if self._footer is None:
            return
        now = time.time()
        width, height = self._footer.size
        rates = [self._meters.setdefault(bar.label, Meter()).rate(bar, now) for bar in self._bars]
        if self._bars:
            lines = render_bars(self._bars, rates, width, max(1, height - 3), self._footer.ascii_only)
        else:
            lines = [[(self._title[:width], "dim")]]
        self._footer.show(lines)
