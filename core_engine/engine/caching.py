"""Caching: the key of a run, and the state that is stored under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core_engine.concurrency.waiting import run_blocking
from core_engine.schemas.states import State, StateDetails

if TYPE_CHECKING:
    from core_engine.context import TaskRunContext
    from core_engine.engine.active import ActiveTaskRun


def cache_key_of(context: TaskRunContext, parameters: dict[str, Any]) -> str | None:
    """Returns the key that the task's function gives for these parameters; None means: do not cache."""
    key_function = context.task.cache_key_fn
    return None if key_function is None else key_function(context, parameters)


def with_cache_key(state: State, key: str, refresh: bool) -> State:
    """Puts the key into the details of a proposed state."""
    state._details = StateDetails(cache_key=key, refresh_cache=refresh)
    return state


async def find_cached(run: ActiveTaskRun, key: str) -> State | None:
    """Returns the newest valid state that is stored under `key`, None if there is none."""
    return await run_blocking(run.flow_run.client.read_cached_state, key)
