"""Pauses as the process that runs the flow sees them: it stays and holds what would start, or it leaves.

A *hold* is a pause in which the process stays. Task runs that have started go on; what would start waits, without a
worker, until the hold is released. A pause without a hold is one in which the process leaves: what would start is
refused, and the flow run ends here as Paused, to go on in another process.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from core_engine import clock
from core_engine.concurrency.waiting import Latch
from core_engine.exceptions import FlowPauseTimeout, PausedRun
from core_engine.orchestration.decisions import ACCEPT, Decision
from core_engine.schemas.states import PAUSED, RUNNING, State, StateDetails

if TYPE_CHECKING:
    from core_engine.engine.active import ActiveFlowRun

# By so much a deadline must be over before the rules see it so: details keep times to the microsecond.
PAST_SECONDS = 0.001
_LAST_MOMENT = datetime(9999, 12, 31, tzinfo=UTC)


class Hold:
    """A pause in which the flow run's process stays.

    Attributes:
        deadline: When the flow run fails if nobody has resumed it, in seconds since the epoch; None: never.
        released: Set when the pause is over, or the flow run is being ended.
    """

    __slots__ = ("deadline", "released")

    def __init__(self, deadline: float | None) -> None:
        self.deadline = deadline
        self.released = Latch()

    def is_over(self, now: float) -> bool:
        """Returns whether the deadline has passed."""
        return self.deadline is not None and now > self.deadline

    def when_released(self, callback: Callable[[], Any]) -> None:
        """Calls `callback` when the hold is released, at once if it is."""
        self.released.add_callback(callback)


def paused_state(timeout_seconds: float | None, reschedule: bool, key: str | None) -> State:
    """Makes the state of a pause that begins now; its limit counts by the clock by which runs are orchestrated."""
    limit = None
    if timeout_seconds is not None:
        limit = datetime.fromtimestamp(min(clock.now() + timeout_seconds, _LAST_MOMENT.timestamp()), UTC)
    return State(PAUSED, state_details=StateDetails(pause_timeout=limit, pause_reschedule=reschedule, pause_key=key))


def pause(run: ActiveFlowRun, state: State, *, stays: bool) -> Decision:
    """Proposes that a flow run of this process be paused; if `stays`, it is held from then on. Any thread."""
    from core_engine.engine.proposals import decide_flow

    limit = state.state_details.pause_timeout
    with run.decisions:
        decision = decide_flow(run, state)
        if decision.answer is ACCEPT:
            run.refused_start = False
            run.hold = Hold(None if limit is None else limit.timestamp()) if stays else None
    return decision


def pause_below(run: ActiveFlowRun, hold: Hold) -> None:
    """Pauses the subflows of a held flow run that run already, until the hold is released. Any thread."""
    for child in list(run.children):
        pause_with_parent(child, hold)


def pause_with_parent(child: ActiveFlowRun, hold: Hold) -> None:
    """Pauses a running subflow, and those below it, until its parent's hold is released. Any thread."""
    decision = pause(child, paused_state(None, False, None), stays=True)
    own = child.hold
    if decision.answer is not ACCEPT or own is None:
        return  # it has ended, or is paused by itself

    def go_on() -> None:
        if child.hold is own and child.stopping is None:
            resume(child)

    hold.when_released(go_on)
    pause_below(child, own)


def resume(run: ActiveFlowRun) -> Decision | None:
    """Proposes that a paused flow run of this process go on here.

    Returns:
        The decision; None where the run cannot go on here: it is on its way out, and has refused to start a task run.
    """
    from core_engine.engine.proposals import decide_flow

    with run.decisions:
        if run.hold is None and run.refused_start:
            return None
        return decide_flow(run, State(RUNNING))


def expire(run: ActiveFlowRun, hold: Hold) -> None:
    """The deadline of a hold has passed: the flow run fails, and nothing that it held back starts. Any thread."""
    from core_engine.engine.proposals import decide_flow

    with run.decisions:
        if run.hold is not hold or not hold.is_over(clock.now()):
            return
        state = run.progress.state
        assert state is not None
        run.stop(never_resumed(state))
        decide_flow(run, State(RUNNING))


def may_try_again(run: ActiveFlowRun) -> bool:
    """Returns whether a run that was refused to start may try again, now or when the hold is released; it may not when
    its flow run's process leaves, or the flow run has ended."""
    with run.decisions:
        state = run.progress.state
        return run.hold is not None or (state is not None and state._type is RUNNING)


def never_resumed(state: State) -> FlowPauseTimeout:
    """Makes the error of a pause whose deadline has passed."""
    limit = state.state_details.pause_timeout
    when = "" if limit is None else f" before the deadline, {limit.isoformat()}"
    return FlowPauseTimeout(f"The flow run was paused and never resumed{when}.")


async def until_it_is_not_held(run: ActiveFlowRun) -> None:
    """Waits while a flow run is held: suspends on a loop, blocks in a stepped thread."""
    while (hold := run.hold) is not None and run.stopping is None:
        await hold.released


async def until_due(run: ActiveFlowRun, due: float) -> None:
    """Waits until a task run is due (seconds since the epoch) and its flow run is not held, or that is being ended."""
    await until_it_is_not_held(run)
    await clock.current.wait_until(due, run.woken)


async def until_it_may_start(run: ActiveFlowRun) -> None:
    """Waits until a subflow of a flow run may start.

    Raises:
        PausedRun: The flow run is paused, and its process leaves.
    """
    await until_it_is_not_held(run)
    state = run.progress.state
    if state is not None and state._type is PAUSED and run.stopping is None:
        run.refused_start = True
        raise PausedRun("The flow run is paused, so nothing new starts in it.", state=state)
