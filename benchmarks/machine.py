"""What the figures were measured on, and with which settings."""

from __future__ import annotations

import inspect
import os
import platform
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT
from core_engine import __version__
from core_engine.backend.journal import Journal


def describe(work: Path) -> dict[str, Any]:
    """Returns facts about the machine, the engine and its settings, ready for JSON.

    Parameters:
        work: The folder in which everything is recorded.
    """
    journal = inspect.signature(Journal).parameters
    return {
        "machine": {
            "system": f"{platform.system()} {platform.release()}",
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "sqlite": sqlite3.sqlite_version,
            "file_system": _file_system(work),
            "load_at_start": round(os.getloadavg()[0], 2),
        },
        "engine": {
            "version": __version__,
            "commit": _commit(),
            "synchronous": os.environ.get("CORE_ENGINE_DATABASE_SYNCHRONOUS", "normal"),
            "flush_window_ms": journal["linger_seconds"].default * 1e3,
            "largest_batch": journal["max_batch"].default,
        },
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _file_system(folder: Path) -> str:
    """Returns the type of the file system that holds `folder`."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    holding = [(point, kind) for point, kind in mounts if folder.absolute().is_relative_to(point)]
    return max(holding, key=lambda mount: len(mount[0]))[1] if holding else "unknown"


def _commit() -> str | None:
    """Returns the commit that is checked out, with a + when there are changes on top; None outside of git."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        changed = _git("diff", "--quiet", "HEAD", "--", "core_engine", "runners", "benchmarks/*.py")
    except OSError:
        return None
    return commit.stdout.strip() + ("+" if changed.returncode else "") if commit.returncode == 0 else None


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], check=False, cwd=ROOT, capture_output=True, text=True)
