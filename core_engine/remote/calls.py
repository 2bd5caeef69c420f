"""Single calls of anything on a worker: what a runner's basic members ``submit`` and ``wait`` need."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from core_engine.remote.values import dumps
from core_engine.results.portable import portable_exception

if TYPE_CHECKING:
    from core_engine.schemas.states import State


def pickle_call(call: Callable[[], Awaitable[State]]) -> bytes:
    """Returns a call as it travels.

    Raises:
        SerializationError: It cannot be pickled; the message names the part that cannot.
    """
    from core_engine.remote.shipment import pickled
    from core_engine.remote.values import unpicklable

    try:
        return pickled(call)[0]
    except Exception as error:
        raise unpicklable(call, "call", error) from error


def run_call(content: bytes) -> bytes:
    """Awaits a call, and returns the state that it gave or the exception that it raised, pickled."""
    try:
        call = pickle.loads(content)
        state = asyncio.run(_awaited(call))
        return dumps((state, None), "state")
    except BaseException as error:  # whatever was raised is the call's outcome
        return dumps((None, portable_exception(error)))


async def _awaited(call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()


def outcome_of(content: bytes) -> State:
    """Returns the state that a call gave, a Crashed one if it raised."""
    from core_engine.states import exception_to_crashed_state

    state, error = pickle.loads(content)
    return exception_to_crashed_state(error) if error is not None else state
