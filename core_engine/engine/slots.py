"""Concurrency limits by tag: slots are taken before a run goes to its runner, and given back when it leaves Running."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core_engine.concurrency.loops import engine_loop
from core_engine.concurrency.waiting import run_blocking
from core_engine.orchestration.facts import SlotAnswer, SlotOutcome

if TYPE_CHECKING:
    from core_engine.engine.run_sets import RunSet

LOOK_AGAIN_SECONDS = 0.25


class SlotGate:
    """Lets runs of one run set through as slots become free, in order.

    ``_lock`` guards ``_waiting``: any thread may submit, and the engine loop looks again.

    Parameters:
        run_set: The runs.
        tags: Those of their tags that have a limit.
    """

    def __init__(self, run_set: RunSet, tags: frozenset[str]) -> None:
        self._run_set = run_set
        self._tags = tags
        self._waiting: deque[int] = deque()
        self._lock = threading.Lock()
        self._looking = False

    @property
    def tags(self) -> frozenset[str]:
        """The tags that have a limit."""
        return self._tags

    def waiting(self) -> frozenset[int]:
        """Returns which runs wait here for slots. Any thread."""
        with self._lock:
            return frozenset(self._waiting)

    def ahead_of(self, index: int) -> int | None:
        """Returns how many runs wait before one for slots, None if it does not wait here. Any thread."""
        with self._lock:
            for place, waiting in enumerate(self._waiting):
                if waiting == index:
                    return place
        return None

    async def submit(self, indices: Sequence[int]) -> None:
        """Takes runs; each goes to the runner when it holds its slots. Waits for that if the runner is sequential."""
        if self._run_set.waits_in_place:
            with self._lock:
                self._waiting.extend(indices)
            for index in indices:
                await self._submit_in_place(index)
            return
        with self._lock:
            if len(indices) == 1 and self._run_set.has_begun(indices[0]):
                self._waiting.insert(1, indices[0])  # the first one is being tried just now
            else:
                self._waiting.extend(indices)
            start, self._looking = not self._looking, True
        if start:
            engine_loop().submit(self._let_through)

    async def _submit_in_place(self, index: int) -> None:
        try:
            while not await self._try(index):
                await self._run_set.flow_run.client.slots_released().arrive(LOOK_AGAIN_SECONDS)
        finally:
            with self._lock:
                self._waiting.remove(index)

    async def _let_through(self) -> None:
        """Tries the waiting runs in turn until none waits. On the engine loop."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._looking = False
                    return
                index = self._waiting[0]
            if await self._is_dealt_with(index):
                with self._lock:
                    self._waiting.popleft()
            else:
                await self._run_set.flow_run.client.slots_released().arrive(LOOK_AGAIN_SECONDS)

    async def _is_dealt_with(self, index: int) -> bool:
        """``_try`` where nobody could be told of an error: the run crashes, and those behind it have their turn."""
        from core_engine.engine.crashes import crashed_task_state

        try:
            return await self._try(index)
        except Exception as error:
            run_set = self._run_set
            run_set.settle(index, crashed_task_state(run_set, index, None, error))
            return True

    async def _try(self, index: int) -> bool:
        """Takes the slots of one run and submits it; returns whether the run is dealt with."""
        from core_engine.engine.dispatch import submit_granted

        run_set = self._run_set
        if run_set.states[index] is not None or run_set.ends_instead(index):
            return True
        client = run_set.flow_run.client
        group, position = run_set.summary.origin(index)
        answer: SlotAnswer = await run_blocking(client.take_slots, group.run_id(position), self._tags)
        if answer.outcome is SlotOutcome.FULL:
            return False
        if answer.outcome is SlotOutcome.ZERO:
            self._refuse(index, answer)
            return True
        run = run_set.activate(index)
        run.holds_slots = True
        if run_set.states[index] is not None:
            # It was ended while its slots were taken; one that is ended from here on gives them back then.
            client.release_slots(run)
            return True
        await submit_granted(run_set, (index,), 1)
        return True

    def _refuse(self, index: int, answer: SlotAnswer) -> None:
        """A limit of 0 aborts the run: it stays Pending, and says why."""
        from core_engine.engine.run_logs import logger_of_task_run
        from core_engine.schemas.states import PENDING, State

        message = f"The concurrency limit of tag {answer.tag!r} is 0: the run cannot start."
        logger_of_task_run(self._run_set.activate(index)).warning(message)
        self._run_set.end(index, State(PENDING, name="NotReady", message=message))
