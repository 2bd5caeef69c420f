"""What a cluster calls on a worker: one importable, sync function that takes bytes, and one for commands (D21).

Everything of the user's is unpickled inside our own ``try``, so that a module that is missing here becomes the outcome
of the runs that need it, and not of the cluster's own machinery.
"""

from __future__ import annotations

import contextvars
import itertools
from collections import deque
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from core_engine.engine.cancellation import TaskRunStopped
from core_engine.engine.timeouts import is_code_left_behind
from core_engine.remote.async_items import is_loop_held
from core_engine.remote.commands import SESSION_OVER, Command
from core_engine.remote.execution import BlockExecution
from core_engine.remote.payloads import Payload, this_process
from core_engine.remote.reporting import BlockReport, pulse
from core_engine.remote.reports import LEFT_BEHIND

if TYPE_CHECKING:
    from core_engine.remote.roads import WorkerRoad

_road: contextvars.ContextVar[WorkerRoad | None] = contextvars.ContextVar("core_engine_road", default=None)
# Written by the threads of calls, each its own entry; read by the thread that brings commands.
_executions: dict[tuple[str, int, str], BlockExecution] = {}
_attempts = itertools.count()
# Sessions of which the cluster may still start a call that nobody wants.
_ended_sessions: deque[str] = deque(maxlen=256)


def execute_block(payload: bytes, common: Sequence[bytes], values: Sequence[Any], road: WorkerRoad) -> bytes | None:
    """Executes the runs of a block, one after another, async ones side by side.

    Parameters and return value as ``execute_in_turns``.
    """
    turns = execute_in_turns(payload, common, values, road)
    while True:
        try:
            next(turns)
        except StopIteration as end:
            content: bytes | None = end.value
            return content


def execute_in_turns(
    payload: bytes, common: Sequence[bytes], values: Sequence[Any], road: WorkerRoad
) -> Generator[None, None, bytes | None]:
    """``execute_block``, giving the caller a turn after each run, and now and then while async ones run.

    Parameters:
        payload: A pickled ``Payload``.
        common: The pickled ``Definition`` and ``Shared``.
        values: The large values that the payload refers to.
        road: The way back.

    Returns:
        The last message if it is too large for the road, or the road wants it so; else None.
    """
    block = Payload.decode(payload)
    if block.session in _ended_sessions:
        return None
    attempt = f"{this_process()}:{next(_attempts)}"
    report = BlockReport(block.block, attempt, road, road.worker)
    execution = BlockExecution(block, report, road)
    _executions[block.session, block.block, attempt] = execution
    pulse.add(execution)
    token = _road.set(road)
    try:
        yield from execution.turns(common, values)
    finally:
        _road.reset(token)
        pulse.remove(execution)
        _executions.pop((block.session, block.block, attempt), None)
    if is_stuck():
        report.add((LEFT_BEHIND,))
    return report.close() or None


def is_stuck() -> bool:
    """Returns whether code of a run that has ended goes on in this process, since it cannot be interrupted."""
    return is_code_left_behind() or is_loop_held()


def receive_command(content: bytes) -> None:
    """Does what the flow's process says, which is about a block that is being executed here. Returns at once."""
    command = Command.decode(content)
    if command.what == SESSION_OVER:
        _end_session(command.session)
        return
    execution = _executions.get((command.session, command.block, command.attempt))
    if execution is not None:
        execution.receive(command)


def _end_session(session: str) -> None:
    _ended_sessions.append(session)
    for (other, block, attempt), execution in list(_executions.items()):
        if other == session:
            execution.receive(Command(session, block, attempt, TaskRunStopped.__name__))


def current_road() -> WorkerRoad | None:
    """Returns the road of the block that this code is part of, also in helper threads; None outside of any."""
    return _road.get()


__all__ = ["current_road", "execute_block", "execute_in_turns", "is_stuck", "receive_command"]
