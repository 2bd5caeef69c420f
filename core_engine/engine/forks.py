"""In a process that user code forked off inside a run: the run stays the parent's, a flow called here is a new one.

The rest of a fresh engine comes from where it is kept: each module that holds threads, locks, handlers or connections
forgets them in the child, and a journal of the parent records nothing there (D33).
"""

from __future__ import annotations

import os

from core_engine.context import FlowRunContext, TaskRunContext
from core_engine.engine import active, requests

# The contexts in which this process was forked off; empty in one that was not, or outside of any run.
_inherited: list[object] = []


def is_inherited(context: object) -> bool:
    """Returns whether the run of a context is that of the process from which this one was forked off."""
    return any(context is inherited for inherited in _inherited)


def leave_inherited_runs() -> None:
    """Takes the caller out of the runs that a fork has brought along."""
    for kind in (FlowRunContext, TaskRunContext):
        if is_inherited(kind.get()):
            kind._variable.set(None)


def _begin_anew() -> None:
    _inherited[:] = [context for context in (FlowRunContext.get(), TaskRunContext.get()) if context is not None]
    active.forget_all()
    requests.forget_all()


os.register_at_fork(after_in_child=_begin_anew)
