"""Questions of workers whose answer only the flow's process knows: whether a cache key has a stored state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_engine.engine.caching import with_cache_key
from core_engine.engine.proposals import decide_task
from core_engine.schemas.states import RUNNING, make_state

if TYPE_CHECKING:
    from core_engine.engine.calls import TaskCall
    from core_engine.remote.queues import RunSetQueue


def answer(queue: RunSetQueue, call: TaskCall, key: str) -> bool:
    """Looks up a cache key for a run that asked, and ends the run with what is stored there.

    Returns:
        Whether nothing is, so that the run is to be executed; its next block says so.
    """
    run_set = queue.run_set
    position = call.index
    cached = run_set.flow_run.client.read_cached_state(key)
    if cached is None:
        return _is_executed(queue, position, key)
    run = call.run_record = run_set.activate(position)
    run.cache_key = key
    proposed = with_cache_key(make_state(RUNNING, 0.0, None, 0, 0), key, run.group.policy.refresh_cache)
    decide_task(run, proposed, cached=cached)
    if run.state._type is RUNNING:  # it expired a moment ago
        return _is_executed(queue, position, key)
    call.report(run.state)
    return False


def _is_executed(queue: RunSetQueue, position: int, key: str) -> bool:
    queue.answers[position] = (key, None)
    return True
