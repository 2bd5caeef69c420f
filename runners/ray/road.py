"""The road over Ray (D23).

Down: blocks are calls of remote functions, commands go by the mail. Up: what a call has not reported by the mail when
it ends goes back with it; a short block sends nothing else. Large values belong to this process from the moment that a
call hands them over, and other calls are given references to them (D12).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ray
from ray import exceptions

from core_engine.exceptions import CoreEngineError
from core_engine.remote import Block, Pickled, WorkerLost, unpacked
from runners.ray.calls import BlockAtOnce, BlockByAndBy, Call, Calls, Done, ReportedBlock, forget_frames
from runners.ray.functions import functions, remote_call, task_name_of
from runners.ray.habits import Habits
from runners.ray.mail import Mail
from runners.ray.pace import QUICK_SECONDS, Pace
from runners.ray.waiting import Waiter
from runners.ray.watch import Watch
from runners.ray.worker import Order, execute, execute_at_once, execute_by_and_by

if TYPE_CHECKING:
    from core_engine.remote import RemoteSession
    from runners.ray.nodes import Nodes

LEAVE_SECONDS = 10.0
LARGEST_INLINE = 8 * 1024

# What Ray raises for a call whose worker, node or input is gone.
LOST = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.OutOfMemoryError,
    exceptions.TaskCancelledError,
    exceptions.ObjectLostError,
)


class RayRoad:
    """The flow's end.

    Two threads bring what happens: one takes messages (``Mail``), the other ended calls (``Waiter``).

    Parameters:
        nodes: The nodes of the Ray that this process is connected to.
        logger: The runner's.
        address: "host:port" of what answers as long as Ray is there.
        has_streams: Whether calls can return something while they run, as Ray Client's cannot: there large values of
            blocks of several runs come back with the reports.
    """

    may_start_again = False

    def __init__(self, nodes: Nodes, logger: logging.Logger, address: str, has_streams: bool) -> None:
        self._nodes = nodes
        self._has_streams = has_streams
        self._logger = logger
        self._calls = Calls()
        self._habits = Habits()
        self._pace = Pace()
        self._waiter = Waiter(logger, self._take, waits_together=has_streams, slots=lambda: nodes.slots)
        self._receive: Callable[[bytes], None] = lambda message: None
        self._session: RemoteSession | None = None
        self._workers: set[str] = set()
        self._gone: CoreEngineError | None = None
        self._mail = Mail(logger, self._calls, self._take_message)
        self._watch = Watch(nodes, logger, address, self._slots_changed, self._ray_is_gone)

    # Any thread -------------------------------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        return self._nodes.slots

    def on_workers(self, session: RemoteSession) -> None:
        """Has a session learn of workers and slots."""
        self._session = session

    def listen(self, receive: Callable[[bytes], None]) -> None:
        self._receive = receive
        self._waiter.start()
        self._mail.start()
        self._watch.start()

    def share(self, name: str, content: bytes) -> Any:
        # A few kilobytes in each call cost less than a reference that each call looks up.
        # Larger ones lie in shared memory, where each call finds them without a copy.
        return content if len(content) <= LARGEST_INLINE else ray.put(Pickled(content))

    def send(self, block: Block, done: Done) -> None:
        self._check_there()
        task_name = task_name_of(block.name)
        execute_it, most_values, kind = self._way_of(task_name, block.size)
        function = functions.of(block, execute_it)
        if block.annotations:
            self._nodes.say_if_none_suits(task_name, block.annotations)
        shared = [one if isinstance(one, bytes) else None for one in block.common]
        lying = [one for one in block.common if not isinstance(one, bytes)]
        order = Order(self._mail.address, block.name, block.payload, shared, most_values)
        self._start(kind(block.name, done, function.remote(order.encode(), *lying, *block.values)))
        self._mail.expect()

    def _way_of(self, task_name: str, size: int) -> tuple[Callable[..., Any], int | None, type[Call]]:
        """Returns the function that executes a block, how many values that can leave, and what stands for the call."""
        if size > 1 and self._has_streams:
            return execute_by_and_by, None, BlockByAndBy
        if size > 1 or not self._habits.leaves_values(task_name):
            return execute, 0, ReportedBlock
        return execute_at_once, 1, BlockAtOnce

    def call(self, name: str, content: bytes, done: Done) -> None:
        self._check_there()
        self._start(Call(name, done, remote_call().remote(content)))

    def revoke(self, name: str) -> None:
        call = self._calls.get(name)
        # A quick one may end at this very moment, and is over soon in any case.
        if call is not None and self._gone is None and not self._pace.is_quick(self.slots):
            ray.cancel(call.ending)

    def kill(self, name: str) -> None:
        call = self._calls.get(name)
        if call is not None and self._gone is None:
            self._logger.info("A worker process is replaced: code of a task run that has ended goes on in it.")
            try:
                ray.cancel(call.ending, force=True)
            except Exception as error:
                self._logger.warning("The worker process could not be ended: %s", error)

    def command(self, worker: str, command: bytes) -> None:
        self._mail.command(worker, command)

    def reference(self, key: str) -> Any:
        return self._calls.reference(key)

    def fetch(self, key: str, timeout_seconds: float | None) -> Any:
        self._check_there()
        try:
            value = ray.get(self._calls.reference(key), timeout=timeout_seconds)
        except exceptions.RayError as error:
            forget_frames(error)
            raise
        return unpacked(value)

    def release(self, key: str) -> None:
        # Called by the garbage collector too, in whatever thread and holding whatever lock.
        self._waiter.do(lambda: self._calls.release(key))

    def collect(self) -> None:
        if self._gone is None:
            self._mail.take_left()

    def leave(self) -> None:
        """Ends the calls that are left, and everything else of ours on the cluster. Blocks."""
        self._watch.stop()
        # Where Ray is gone, a question to it may have no end.
        patience = LEAVE_SECONDS if self._gone is None else 0.5
        if self._gone is None:
            self._let_quick_calls_end(time.monotonic() + patience)
            for call in self._calls.outstanding():
                # Its worker's process goes with it: it could not be interrupted (D20).
                ray.cancel(call.ending, force=True)
            self._mail.stop(patience)
        self._waiter.stop(patience)
        self._calls.clear()

    def _let_quick_calls_end(self, latest: float) -> None:
        while self._calls.outstanding() and self._pace.is_quick(self.slots) and time.monotonic() < latest:
            time.sleep(QUICK_SECONDS / 10)

    # Calls ------------------------------------------------------------------------------------------------------------

    def _start(self, call: Call) -> None:
        self._calls.add(call)
        self._waiter.wait_for(call)
        if self._gone is not None:  # it went meanwhile
            self._end(call.name, self._gone)

    def _take(self, call: Call, fetch: Callable[[], Any]) -> None:
        name = call.name
        self._pace.ended()
        if self._calls.get(name) is None:
            return
        try:
            report = call.outcome(fetch)
        except Exception as error:
            forget_frames(error)
            call.look_at_errors()
            # What the worker sent before comes first.
            meaning = self._meaning(error)
            self._mail.call_behind(name, lambda: self._end(name, meaning))
            return
        if report.worker:
            self._meet(report.worker, report.node)
        self._habits.take(task_name_of(name), report.values + report.refused)
        self._calls.end(name, report.values)
        for message in report.messages[:-1]:
            self._receive(message)
        call.done(report.messages[-1] if report.messages else None, None)

    def _end(self, name: str, error: BaseException) -> None:
        call = self._calls.end(name)
        if call is not None:
            call.done(None, error)

    # Workers ----------------------------------------------------------------------------------------------------------

    def _take_message(self, worker: str, node: str, content: bytes) -> None:
        self._meet(worker, node)
        self._receive(content)

    def _meet(self, worker: str, node: str) -> None:
        if worker not in self._workers and self._session is not None:
            self._workers.add(worker)
            self._session.know_worker(worker, self._nodes.clock_offset(node), False)

    # What becomes of Ray ----------------------------------------------------------------------------------------------

    def _slots_changed(self) -> None:
        if self._session is not None:
            self._session.wake()

    def _ray_is_gone(self, reason: str) -> None:
        self._gone = CoreEngineError(f"Ray is gone: {reason}")
        self._mail.end()
        self._logger.error("Ray is gone: %s Task runs that it had are Crashed.", reason)
        for call in self._calls.outstanding():
            self._end(call.name, self._gone)

    def _check_there(self) -> None:
        if self._gone is not None:
            raise self._gone

    def _meaning(self, error: Exception) -> Exception:
        """Returns what an exception of Ray's says about a call."""
        if not isinstance(error, LOST):
            return error
        lost = self._calls.key_of(getattr(error, "object_ref_hex", ""))
        return WorkerLost("", " ".join(str(error).split()), [] if lost is None else [lost])
