"""``python -m benchmarks.profile``: where the time of a task goes, by thread and by layer.

By thread: the CPU clock of each thread, for each runner. By layer: the flow runs on the sequential runner, in the main
thread, while the store only takes its batches; then the main thread writes these batches. So both halves can be
sampled where samples are true, and none is counted for the other. What garbage collection takes is told from flows
with and without it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import report
from benchmarks.processes import NO_CONSOLE
from benchmarks.sampling import Samples, sampled

CASES_BY_RUNNER = (
    ("sequential", "mapped", "sequential"),
    ("concurrent, threads", "mapped", "concurrent"),
    ("concurrent, async", "mapped_async", "concurrent"),
)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000, help="in a flow")
    parser.add_argument("--flows", type=int, default=5, help="how many flows are sampled")
    parser.add_argument("--case", default="mapped", help="one of the flows in benchmarks/contenders/flows.py")
    parser.add_argument("--lines", type=int, default=15, help="how many functions and lines are listed")
    options = parser.parse_args(arguments)
    report.WORK.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="profile-", dir=report.WORK) as folder:
        # Before the engine is imported: these are read once.
        os.environ.update(NO_CONSOLE, CORE_ENGINE_HOME=folder)
        if options.case == "mapped":
            print(by_thread(options.tasks, options.flows))
        print(by_layer(options.case, options.tasks, options.flows, options.lines))
    return 0


def by_thread(tasks: int, flows: int) -> str:
    """Returns a table of the CPU time of each kind of thread, for a mapped no-op on each runner."""
    lines = [
        f"CPU of a mapped no-op by thread, in microseconds, medians of {flows} flows of {tasks:,}:",
        "",
        "| runner | " + " | ".join(KINDS) + " | in all | without garbage collection |",
        "| --- |" + " ---: |" * (len(KINDS) + 2),
    ]
    for name, case, runner in CASES_BY_RUNNER:
        run_flow(case, runner, 1_000)
        collecting, others = [], []
        for _ in range(flows):
            collecting.append(run_flow(case, runner, tasks))
            others.append(sum(_without_collection(case, runner, tasks).values()))
        cells = [statistics.median(used[kind] for used in collecting) for kind in KINDS]
        cells += [statistics.median(sum(used.values()) for used in collecting), statistics.median(others)]
        lines.append(f"| {name} | " + " | ".join(f"{cell / tasks * 1e6:.1f}" for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _without_collection(case: str, runner: str, tasks: int) -> dict[str, float]:
    gc.collect()
    gc.disable()
    try:
        return run_flow(case, runner, tasks)
    finally:
        gc.enable()


KINDS = ("main", "workers", "journal", "loops")
_KIND_OF_PREFIX = {
    "MainThread": "main",
    "core-engine-worker": "workers",
    "core-engine-idle": "workers",
    "core-engine-service": "workers",
    "core-engine-journal": "journal",
}


def run_flow(case: str, runner: str, size: int) -> dict[str, float]:
    """Runs a flow once, and returns the CPU seconds of each kind of thread meanwhile."""
    from benchmarks.contenders.flows import CASES
    from core_engine.backend import open_backend

    flow = CASES[case].flow.with_options(task_runner=runner)
    before, process_before = thread_clocks(), time.process_time()
    called = flow(size, return_state=True)
    if flow.isasync:
        asyncio.run(called)
    open_backend().journal.flush()
    whole = time.process_time() - process_before
    used = dict.fromkeys(KINDS, 0.0)
    for ident, (kind, seconds) in thread_clocks().items():
        used[kind] += seconds - before.get(ident, (kind, 0.0))[1]
    # What is left was used by a thread that has ended: the loop of async tasks.
    used["loops"] += max(0.0, whole - sum(used.values()))
    return used


def thread_clocks() -> dict[int, tuple[str, float]]:
    """Returns the kind and the CPU seconds of each living thread."""
    clocks = {}
    for thread in threading.enumerate():
        kind = next((kind for prefix, kind in _KIND_OF_PREFIX.items() if thread.name.startswith(prefix)), "loops")
        assert thread.ident is not None
        clocks[thread.ident] = (kind, time.clock_gettime(time.pthread_getcpuclockid(thread.ident)))
    return clocks


def by_layer(case: str, tasks: int, flows: int, lines: int) -> str:
    """Returns tables of where the main thread was while it ran `flows` flows, and while it wrote what they recorded."""
    running, writing = Samples(), Samples()
    for number in range(flows + 1):
        _run_and_write(case, tasks, Samples() if number == 0 else running, Samples() if number == 0 else writing)
    total = tasks * flows
    both = Samples(
        running.layers + writing.layers, running.functions + writing.functions, running.lines + writing.lines
    )
    both.cpu_seconds = running.cpu_seconds + writing.cpu_seconds
    heading = (
        f"CPU of {case!r} by layer, sequential runner, in microseconds per task, garbage collection aside: "
        f"{_per_task(both, total):.1f} in all, {_per_task(writing, total):.1f} of it in the journal's writer "
        f"({both.count} samples)."
    )
    parts = [
        heading,
        _table("layer", both.layers, both, total, len(both.layers)),
        _table("function", both.functions, both, total, lines),
        _table("line", both.lines, both, total, lines),
    ]
    return "\n".join(parts)


def _run_and_write(case: str, tasks: int, running: Samples, writing: Samples) -> None:
    from benchmarks.contenders.flows import CASES, forget
    from core_engine.backend import open_backend

    backend = open_backend()
    flow = CASES[case].flow.with_options(task_runner="sequential")
    batches: list[Sequence[Any]] = []
    apply = backend.store.apply
    forget()
    if CASES[case].prepare is not None:
        CASES[case].prepare(flow, tasks)  # type: ignore[misc]
    backend.journal.flush()
    # Batches are kept here longer than a flow would keep them: collections would take longer, too.
    gc.collect()
    gc.disable()
    backend.store.apply = batches.append  # type: ignore[method-assign, assignment]
    try:
        with sampled(running):
            flow(tasks)
        backend.journal.flush()
    finally:
        del backend.store.apply
        gc.enable()
    with sampled(writing):
        for batch in batches:
            apply(batch)


def _per_task(samples: Samples, tasks: int) -> float:
    return samples.cpu_seconds / tasks * 1e6


def _table(name: str, counts: Any, samples: Samples, tasks: int, most: int) -> str:
    lines = ["", f"| {name} | µs | % |", "| --- | ---: | ---: |"]
    for key, count in counts.most_common(most):
        share = count / max(1, samples.count)
        lines.append(f"| {key} | {share * _per_task(samples, tasks):.2f} | {share * 100:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
