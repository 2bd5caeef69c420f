"""A block while it is executed: its items in order, or side by side; the rest given back behind a slow one (D15)."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.waiting import step
from core_engine.engine.cancellation import TaskRunCancelled, TaskRunStopped
from core_engine.exceptions import CoreEngineError
from core_engine.remote.asking import Question
from core_engine.remote.async_items import run_side_by_side
from core_engine.remote.commands import GRANTED, INTERRUPTIONS, REFUSED, Command
from core_engine.remote.item_runs import ItemRuns
from core_engine.remote.loading import load, load_common
from core_engine.remote.payloads import Definition, Payload, Shared, this_process
from core_engine.remote.reporting import Beating, BlockReport
from core_engine.remote.reports import CLAIM, GIVEN_BACK, STORAGE, TIMES, UNANSWERED, UNREADABLE, Record
from core_engine.remote.shipment import UnseenValue
from core_engine.remote.storage_sight import sees_storage
from core_engine.remote.values import dumps
from core_engine.results.portable import portable_exception
from core_engine.settings import get_current_settings

if TYPE_CHECKING:
    from core_engine.concurrency.interrupts import Interrupt
    from core_engine.remote.roads import WorkerRoad

# An item that has run as long as this keeps the rest of its block waiting no longer (D15).
LONG_SECONDS = 0.2


class BlockExecution(Beating):
    """A block that is being executed: by the call's thread; the pulse and commands look in from theirs.

    ``_lock`` guards ``_next`` and ``_end``: the pulse gives the rest of the block back while the call takes from it.

    Parameters:
        block: The block.
        report: Takes what happens.
        road: The way back.
    """

    def __init__(self, block: Payload, report: BlockReport, road: WorkerRoad) -> None:
        self._block = block
        self._report = report
        self._worker = road.worker
        self._road = road
        self._call = road.this_call()
        self._runs = ItemRuns(block, report, road)
        self._lock = threading.Lock()
        self._next = 0
        self._end = len(block.items)
        self._item_started: float | None = None
        # What the flow's process was asked, by the kind of question; written by the call's thread.
        self._questions: dict[str, Question] = {}

    # The call's thread ------------------------------------------------------------------------------------------------

    def turns(self, common: Sequence[bytes], values: Sequence[Any]) -> Iterator[None]:
        """Executes the block; parameters and turns as ``execute_in_turns``."""
        block = self._block
        claim = self._ask((CLAIM,)) if block.must_claim else None
        try:
            by_key = dict(zip(block.value_keys, values, strict=True))
            definition_key, shared_key = block.common_keys
            definition: Definition = load_common(common[0], Definition, definition_key, {})
            shared: Shared = load_common(common[1], Shared, shared_key, by_key)
            rows = load(block.rows, by_key)
        except BaseException as error:  # user code runs while it is unpickled, and may raise anything
            self._unreadable(error)
            return
        # What was unpickled meanwhile ran no task's code.
        if claim is not None and not self._is_granted(claim):
            return
        entered: Any = nullcontext()
        if definition.settings.settings != get_current_settings():
            entered = definition.settings.copy()
        is_elsewhere = block.process != this_process()
        with entered:
            if is_elsewhere:
                self._runs.log_here()
            try:
                self._runs.load(definition, shared, rows, self._carries(definition))
                if definition.task.isasync:
                    yield from run_side_by_side(self._runs, self.take, self._report)
                else:
                    yield from self._run_in_order()
            finally:
                if is_elsewhere:
                    self._runs.log_no_more()

    def _ask(self, record: Record) -> Question:
        question = self._questions[record[0]] = Question(self._report, record)
        question.ask()
        return question

    def _is_granted(self, claim: Question) -> bool:
        answer = claim.wait()
        if answer is None:
            self._report.add((UNANSWERED, claim.give_up_seconds))
        return answer == GRANTED

    def _carries(self, definition: Definition) -> bool:
        """Returns whether results to persist go back to the flow's process, since the storage here is another one."""
        token = definition.storage_token
        if token is None or self._block.process == this_process():
            return False
        return not sees_storage(definition.result_factory.storage, token, lambda record: self._ask(record).wait())

    def take(self) -> int | None:
        """Returns the number of the next item; None when none is left here."""
        with self._lock:
            number = self._next
            if number >= self._end:
                return None
            self._next = number + 1
            return number

    def _run_in_order(self) -> Iterator[None]:
        started = time.monotonic()
        count, longest = 0, 0.0
        while (number := self.take()) is not None:
            before = self._item_started = time.monotonic()
            if self._run_item(number):
                count += 1
                longest = max(longest, time.monotonic() - before)
            self._item_started = None
            yield
        self._report.add((TIMES, count, time.monotonic() - started, longest))

    def _run_item(self, number: int) -> bool:
        """Executes one sync item; returns whether it ran."""
        coroutine = self._runs.begin(number)
        if coroutine is None:
            return False
        try:
            contextvars.copy_context().run(step, coroutine)
        except BaseException as error:
            self._runs.crashed(number, error)
        self._runs.ended(number)
        return True

    def _unreadable(self, error: BaseException) -> None:
        reason = f"{type(error).__name__}: {error}"
        wrapped = CoreEngineError(
            f"The call could not be unpickled on worker {self._worker}: {reason}. "
            "The worker needs the same modules, in the same versions, as the flow's process."
        )
        content = dumps(portable_exception(wrapped))
        for item in self._block.items:
            self._report.add((UNREADABLE, item.position, content, isinstance(error, UnseenValue)))

    # The pulse's thread -----------------------------------------------------------------------------------------------

    def beat(self, now: float) -> None:
        started = self._item_started
        if started is not None and now - started > LONG_SECONDS:
            self._give_back()
        if not self._road.is_wanted(self._call):
            self._abandon()
        self._road.send_again()
        self._report.flush()

    def _abandon(self) -> None:
        """Nobody waits for the block any more: what runs is ended, and what it comes to is no run's state."""
        self._runs.run_set.cancel_requests.update(item.position for item in self._block.items)
        self._report.fall_silent()
        self._interrupt(None, TaskRunStopped)

    def _give_back(self) -> None:
        with self._lock:
            rest = self._block.items[self._next : self._end]
            self._end = self._next
        if rest:
            self._report.add((GIVEN_BACK, [item.position for item in rest]))

    # The thread that brings commands ----------------------------------------------------------------------------------

    def receive(self, command: Command) -> None:
        """Does what a command says."""
        interruption = INTERRUPTIONS.get(command.what)
        if interruption is not None:
            self._interrupt(command.position, interruption)
            return
        question = self._questions.get(CLAIM if command.what in (GRANTED, REFUSED) else STORAGE)
        if question is not None:
            question.answer(command.what)

    def _interrupt(self, position: int | None, interruption: type[Interrupt]) -> None:
        """Interrupts one item, or all of the block and what has not started of it (None)."""
        run_set = self._runs.run_set
        positions = [position] if position is not None else [item.position for item in self._block.items]
        for one in positions:
            if interruption is TaskRunCancelled or position is None:
                run_set.cancel_requests.add(one)
            executing = run_set.executing.get(one)
            if executing is not None:
                executing.interrupt(self._runs.active.get(one), interruption)
