"""Scripts without a main guard, whose flow calls run again in every child process that imports them (D33)."""

from __future__ import annotations

import sys


def is_reimported_by_child() -> bool:
    """Returns whether this process is a child of multiprocessing that is just importing its parent's main script.

    multiprocessing marks a spawned process so while it prepares it, to refuse that it starts children of its own.
    """
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is None:
        return False
    return bool(getattr(multiprocessing.current_process(), "_inheriting", False))
