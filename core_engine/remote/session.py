"""The flow's end of remote execution: sends blocks, takes reports, and owns what becomes of each run.

One thread does all of it. Others only put work into its inbox: the engine that dispatches, the road that brings
messages, whoever cancels. So nothing here needs a lock, and no loop is ever blocked by pickling.
"""

from __future__ import annotations

import itertools
import logging
import pickle
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.threads import service_threads
from core_engine.concurrency.waiting import step
from core_engine.engine.caching import with_cache_key
from core_engine.engine.crashes import crash_task_run
from core_engine.engine.hooks import run_task_hooks, task_hooks
from core_engine.engine.inputs import resolve_inputs
from core_engine.engine.proposals import decide_task
from core_engine.engine.task_runs import not_ready
from core_engine.exceptions import CoreEngineError, UpstreamTaskError
from core_engine.remote import reports
from core_engine.remote.permit import ItemProgress
from core_engine.remote.queues import Queues, RunSetQueue
from core_engine.remote.receiving import take_cache, take_log, take_name, take_transition
from core_engine.remote.reports import Message, MessageOrder, Record, Transition
from core_engine.remote.roads import Block, Road, WorkerLost
from core_engine.remote.shipment import blame_row, definition_of, row_of, rows_pickled, shared_of
from core_engine.remote.values import ClusterResult
from core_engine.remote.worker import Item, Payload, this_process
from core_engine.schemas.states import FINAL_TYPES, RUNNING, State, make_state

if TYPE_CHECKING:
    from core_engine.concurrency.interrupts import Interrupt
    from core_engine.engine.active import ActiveTaskRun
    from core_engine.engine.calls import CallBlock, TaskCall
    from core_engine.engine.run_sets import RunSet

BLOCKS_PER_SLOT = 2
# Blocks that are over sooner than this need more of themselves on the way, to keep workers busy.
SHORT_BLOCK_SECONDS = 0.02
SHORT_BLOCKS_PER_SLOT = 16
# How often a run may come back unstarted, because workers died, before it is taken for the reason.
MOST_RETURNS = 3
# How long the end of a session waits for calls that are being interrupted, and how often it asks again.
LEAVE_SECONDS = 2.0
INTERRUPT_AGAIN_SECONDS = 0.1
# What is put into a block itself rather than shared.
SMALL = 16 * 1024

_logger = logging.getLogger("core_engine.remote")


class Shipment:
    """A block on its way.

    Attributes:
        number: The block's number in the session.
        queue: Where its runs came from.
        calls: Its runs without a reported end, by position, in order.
        order: Puts its messages in order.
        attempt: The call of the block that counts; None while none has reported.
        worker: Who executes it, "" before that is known.
    """

    __slots__ = ("attempt", "calls", "name", "number", "order", "queue", "worker")

    def __init__(self, number: int, name: str, queue: RunSetQueue, calls: list[TaskCall]) -> None:
        self.number = number
        self.name = name
        self.queue = queue
        self.calls = {call.index: call for call in calls}
        self.order = MessageOrder()
        self.attempt: str | None = None
        self.worker = ""


class _RemoteExecution:
    """Where a run executes on a worker, for whoever wants to interrupt it."""

    __slots__ = ("_position", "_session", "_shipment")

    # No thread of this process runs it.
    ident: int | None = None

    def __init__(self, session: RemoteSession, shipment: Shipment, position: int) -> None:
        self._session = session
        self._shipment = shipment
        self._position = position

    def interrupt(self, call: Any, exception: type[Interrupt]) -> bool:
        """Has the run interrupted on its worker; returns whether it has not ended, as far as is known here."""
        self._session.command(self._shipment, self._position, exception.__name__)
        return self._position in self._shipment.calls


class RemoteSession:
    """Executes calls of run sets on a cluster, from the start of a runner to its end.

    Parameters:
        road: The way to the cluster.
        lost_retries: How often a run is executed again that was lost with its worker.
        annotations: Called once for each run set, in the context of its submission; its value goes with its blocks.
    """

    def __init__(self, road: Road, lost_retries: int = 0, annotations: Callable[[], Any] = lambda: None) -> None:
        self.id = uuid.uuid4().hex
        self._road = road
        self._lost_retries = lost_retries
        self._annotations = annotations
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._numbers = itertools.count()
        self._queues = Queues()
        self._on_the_way: dict[int, Shipment] = {}
        self._definitions: dict[tuple[int, int], list[tuple[Any, Any]]] = {}
        self._kept: weakref.WeakSet[ClusterResult[Any]] = weakref.WeakSet()
        self._process = this_process()
        self._offsets: dict[str, float] = {}
        self._local_workers: set[str] = set()
        self._low_water = 0
        self._thread = threading.Thread(target=self._work, name="core-engine-cluster", daemon=True)
        self._thread.start()

    # Any thread -------------------------------------------------------------------------------------------------------

    def add(self, block: CallBlock) -> None:
        """Takes calls to execute."""
        self._inbox.put(lambda: self._add(block))

    def receive(self, content: bytes) -> None:
        """Takes a message of a worker."""
        self._inbox.put(lambda: self._receive(Message.decode(content)))

    def wake(self) -> None:
        """The cluster has other slots than before."""
        self._inbox.put(lambda: None)

    def know_worker(self, worker: str, clock_offset: float, is_this_process: bool) -> None:
        """Takes in what was learnt of a worker: by how many seconds its clock is ahead, and whether it lives here."""
        self._offsets[worker] = clock_offset
        if is_this_process:
            self._local_workers.add(worker)

    def command(self, shipment: Shipment, position: int | None, interruption: str) -> None:
        """Has a run interrupted, or a whole block (None)."""
        self._inbox.put(lambda: self._command(shipment, position, interruption))

    def stop(self, fetch_limit_bytes: int) -> None:
        """Ends the session: values that somebody still holds are fetched, up to a limit (D26). Blocks."""
        self._inbox.put(None)
        self._thread.join()
        self._fetch_kept(fetch_limit_bytes)

    # The session's thread ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            work = self._inbox.get()
            while work is not None:
                try:
                    work()
                except Exception:
                    _logger.exception("Reports of a worker could not be handled; the session goes on.")
                try:
                    work = self._inbox.get_nowait()
                except Empty:
                    break
            if work is None:
                break
            self._send_what_fits()
        self._end_rest()

    def _end_rest(self) -> None:
        """Ends what is still on the way when nobody waits for it any more: runs that were cancelled, or left behind."""
        started = time.monotonic()
        due = started
        while self._on_the_way and (now := time.monotonic()) < started + LEAVE_SECONDS:
            if now >= due:
                due = now + INTERRUPT_AGAIN_SECONDS
                for shipment in list(self._on_the_way.values()):
                    self._command(shipment, None, "TaskRunStopped")
                    # What runs is interrupted, not revoked: a cluster forgets a revoked call, which then goes on.
                    if shipment.attempt is None and now > started + INTERRUPT_AGAIN_SECONDS:
                        self._road.revoke(shipment.name)
            try:
                work = self._inbox.get(timeout=INTERRUPT_AGAIN_SECONDS)
            except Empty:
                continue
            if work is not None:
                work()
        if self._on_the_way:
            _logger.warning(
                "%d calls could not be interrupted on their workers and are left behind.", len(self._on_the_way)
            )

    def _add(self, block: CallBlock) -> None:
        queue = self._queues.add(block)
        if not queue.is_annotated:
            queue.annotations = queue.context.run(self._annotations)
            queue.is_annotated = True

    # Sending

    def _send_what_fits(self) -> None:
        slots = max(1, self._road.slots)
        if len(self._on_the_way) > max(self._low_water, slots * BLOCKS_PER_SLOT - 1):
            return
        while True:
            found = self._queues.next_calls(slots) if len(self._on_the_way) < slots * SHORT_BLOCKS_PER_SLOT else None
            if found is None:
                return
            queue, calls = found
            try:
                queue.context.run(self._send, queue, calls)
            except Exception as error:
                _logger.exception("A block could not be sent.")
                self._crash_all(queue, calls, error)
            most = slots * self._blocks_per_slot(queue)
            if len(self._on_the_way) >= most:
                # Many short blocks go out together, which costs a cluster less than one by one.
                self._low_water = most // 2
                return

    def _blocks_per_slot(self, queue: RunSetQueue) -> int:
        seconds = queue.sizer.seconds_each
        if seconds is None or seconds * queue.sizer.next_size(1_000_000, 1) > SHORT_BLOCK_SECONDS:
            return BLOCKS_PER_SLOT
        return SHORT_BLOCKS_PER_SLOT

    def _send(self, queue: RunSetQueue, calls: list[TaskCall]) -> None:
        run_set = queue.run_set
        calls = [call for call in calls if self._may_start(run_set, call)]
        rows, calls = self._rows(queue, calls)
        if not calls:
            return
        try:
            common = self._common(queue)
        except UpstreamTaskError as error:
            for call in calls:
                self._not_ready(run_set, call, error)
            return
        except Exception as error:
            self._crash_all(queue, calls, error)
            return
        try:
            content, values = rows_pickled(rows)
        except Exception as error:
            self._send_singly(queue, calls, rows, error)
            return
        self._send_block(queue, calls, content, common, values)

    def _may_start(self, run_set: RunSet, call: TaskCall) -> bool:
        """Asks the rules where the flow run is not RUNNING: they refuse the start, and say what the run is in then."""
        state = run_set.flow_run.progress.state
        if state is None or state._type is RUNNING:
            return True
        run = run_set.activate(call.index)
        decide_task(run, make_state(RUNNING, 0.0, None, 0, 0))
        call.run_record = run
        call.report(run.state)
        return False

    def _rows(self, queue: RunSetQueue, calls: list[TaskCall]) -> tuple[list[list[Any]], list[TaskCall]]:
        """Returns the parameters of each call that has all it needs, and these calls; others are ended here."""
        run_set = queue.run_set
        rows, ready = [], []
        for call in calls:
            try:
                if run_set.wait_for:
                    step(resolve_inputs({"wait_for": run_set.wait_for}, return_data=False))
                rows.append(row_of(run_set, call.index))
                ready.append(call)
            except UpstreamTaskError as error:
                self._not_ready(run_set, call, error)
            except Exception as error:
                self._crash(run_set, call, error)
        return rows, ready

    def _send_singly(self, queue: RunSetQueue, calls: list[TaskCall], rows: list[list[Any]], error: Exception) -> None:
        """Sends each call alone, since one of them cannot be pickled; that one ends here."""
        for call, row in zip(calls, rows, strict=True):
            try:
                content, values = rows_pickled([row])
            except Exception as reason:
                self._crash(queue.run_set, call, blame_row(queue.run_set, row, reason))
                continue
            self._send_block(queue, [call], content, self._common(queue), values)

    def _common(self, queue: RunSetQueue) -> list[Any]:
        if queue.common is None:
            run_set = queue.run_set
            shared, values = shared_of(run_set)
            inline = len(shared) <= SMALL or run_set.count == 1
            reference = shared if inline else self._road.share(f"{run_set.task.name}-parameters", shared)
            queue.values = values
            queue.common = [self._definition(run_set), reference]
        return queue.common

    def _definition(self, run_set: RunSet) -> Any:
        """Returns the reference to a run set's definition, pickled and sent once for all run sets like it (I5)."""
        known = self._definitions.setdefault((id(run_set.task), id(run_set.settings)), [])
        policy = (run_set.task, run_set.settings, run_set.result_factory, run_set.log_prints)
        for other, reference in known:
            if other[2:] == policy[2:]:
                return reference
        reference = self._road.share(f"{run_set.task.name}-definition", definition_of(run_set))
        known.append((policy, reference))
        return reference

    def _send_block(
        self,
        queue: RunSetQueue,
        calls: list[TaskCall],
        rows: bytes,
        common: list[Any],
        values: list[ClusterResult[Any]],
    ) -> None:
        run_set = queue.run_set
        number = next(self._numbers)
        groups, items = _items(queue, calls)
        record = run_set.flow_run.record
        payload = Payload(
            self.id,
            number,
            self._process,
            (record.id, record.name, record.flow_name),
            run_set.flow_run.attempt,
            run_set.gate is not None,
            groups,
            items,
            rows,
        )
        name = f"{run_set.task.name}-{uuid.uuid4().hex}"
        shipment = self._on_the_way[number] = Shipment(number, name, queue, calls)
        references = [self._road.reference(value.key) for value in (*queue.values, *values)]
        block = Block(
            name, pickle.dumps(tuple(payload), protocol=5), common, references, queue.depth, queue.annotations
        )
        inbox = self._inbox

        def done(content: bytes | None, error: BaseException | None) -> None:
            inbox.put(lambda: self._done(shipment, content, error))

        try:
            self._road.send(block, done)
        except Exception as error:
            self._done(shipment, None, error)

    # Receiving

    def _receive(self, message: Message) -> None:
        shipment = self._on_the_way.get(message.block)
        if shipment is None:
            return
        if shipment.attempt is None:
            shipment.attempt = message.attempt
            shipment.worker = message.worker
        if shipment.attempt != message.attempt:
            self._refuse(shipment, message)
            return
        for one in shipment.order.accept(message):
            shipment.queue.context.run(self._take_records, shipment, one.records)
        if shipment.order.is_complete:
            self._end(shipment)

    def _refuse(self, shipment: Shipment, message: Message) -> None:
        """A cluster called a block again by itself, so the first worker is lost; starts are counted here (D22)."""
        worker, shipment.worker = shipment.worker, message.worker
        self._command(shipment, None, "TaskRunStopped")
        shipment.worker = worker
        self._lost(shipment, WorkerLost(worker, "The worker is gone, and the cluster started its calls elsewhere."))
        self._road.revoke(shipment.name)

    def _take_records(self, shipment: Shipment, records: Any) -> None:
        run_set = shipment.queue.run_set
        worker = shipment.worker
        offset = self._offsets.get(worker, 0.0)
        for record in records:
            kind = record[0]
            if kind == reports.STATE:
                self._take_state(shipment, Transition(*record), worker, offset)
            elif kind == reports.CALL_ENDED:
                self._call_ended(shipment, record[1])
            elif kind == reports.LOG:
                take_log(run_set, record, worker, offset, worker not in self._local_workers)
            elif kind == reports.TIMES:
                shipment.queue.sizer.measured(*record[1:])
            elif kind == reports.CACHE:
                take_cache(run_set, *record[1:])
            elif kind == reports.NAME:
                take_name(run_set, *record[1:])
            elif kind == reports.GIVEN_BACK:
                self._take_back(shipment, record[1])
            elif kind == reports.QUESTION:
                self._answer(shipment, record[1], record[2])
            elif kind == reports.UNREADABLE:
                self._unreadable(shipment, record)

    def _take_state(self, shipment: Shipment, change: Transition, worker: str, offset: float) -> None:
        run_set = shipment.queue.run_set
        run = take_transition(run_set, change, worker, offset, self._keep)
        if run is None:
            if change.type == RUNNING.value:
                self._command(shipment, change.position, "TaskRunCancelled")
            return
        if run.state._type is RUNNING:
            run_set.executing[change.position] = _RemoteExecution(self, shipment, change.position)
        else:
            run_set.executing.pop(change.position, None)

    def _call_ended(self, shipment: Shipment, position: int) -> None:
        call = shipment.calls.pop(position, None)
        run_set = shipment.queue.run_set
        run = run_set.active.get(position)
        if call is None or run is None or run_set.states[position] is not None:
            return
        call.run_record = run
        state = run.state
        if state._type is RUNNING:
            self._crash(run_set, call, CoreEngineError("The reports of the run's end were lost on their way."))
        elif state._type in FINAL_TYPES and task_hooks(run, run_set.task, state):
            self._run_hooks(run_set, run, call, state)
        else:
            call.report(state)

    def _run_hooks(self, run_set: RunSet, run: ActiveTaskRun, call: TaskCall, state: State) -> None:
        context = run_set.context.copy()

        def run_them() -> None:
            try:
                context.run(step, run_task_hooks(run, run_set.task, state))
            except Exception:
                _logger.exception("The hooks of %s could not be run.", run.run_name)
            call.report(state)

        service_threads.run(run_them)

    def _take_back(self, shipment: Shipment, positions: list[int]) -> None:
        shipment.queue.add_again([position for position in positions if shipment.calls.pop(position, None)])
        self._queues.wake(shipment.queue)

    def _answer(self, shipment: Shipment, position: int, key: str) -> None:
        """Looks up a cache key for a run that asked: settled here if there is a state, else sent again."""
        call = shipment.calls.pop(position, None)
        run_set = shipment.queue.run_set
        if call is None or run_set.states[position] is not None:
            return
        cached = run_set.flow_run.client.read_cached_state(key)
        if cached is None:
            shipment.queue.answers[position] = (key, None)
            shipment.queue.add_again([position])
            self._queues.wake(shipment.queue)
            return
        run = call.run_record = run_set.activate(position)
        run.cache_key = key
        proposed = with_cache_key(make_state(RUNNING, 0.0, None, 0, 0), key, run.group.policy.refresh_cache)
        decide_task(run, proposed, cached=cached)
        if run.state._type is RUNNING:  # it expired a moment ago
            shipment.queue.add_again([position])
            self._queues.wake(shipment.queue)
        else:
            call.report(run.state)

    def _unreadable(self, shipment: Shipment, record: Record) -> None:
        """A call could not be unpickled: one of several is found by sending them singly."""
        from core_engine.remote.blocks import BlockSizer

        position = record[1]
        call = shipment.calls.pop(position, None)
        queue = shipment.queue
        if call is None or queue.run_set.states[position] is not None:
            return
        if queue.returns.get(position):
            self._crash(queue.run_set, call, pickle.loads(record[2]))
            return
        queue.returns[position] = 1
        queue.sizer = BlockSizer(1)
        queue.add_again([position])
        self._queues.wake(queue)

    # The end of a block

    def _done(self, shipment: Shipment, content: bytes | None, error: BaseException | None) -> None:
        if content:
            self._receive(Message.decode(content))
        if shipment.number not in self._on_the_way:
            return
        for message in shipment.order.skip_gaps():
            shipment.queue.context.run(self._take_records, shipment, message.records)
        if error is None:
            error = CoreEngineError("Reports of the worker were lost on their way.")
        shipment.queue.context.run(self._lost, shipment, error)

    def _end(self, shipment: Shipment) -> None:
        self._on_the_way.pop(shipment.number, None)
        queue = shipment.queue
        for call in list(shipment.calls.values()):
            if queue.run_set.states[call.index] is None:
                error = CoreEngineError("The worker ended its block without a report of this run.")
                queue.context.run(self._crash, queue.run_set, call, error)
        shipment.calls.clear()

    def _lost(self, shipment: Shipment, error: BaseException) -> None:
        """Decides on the runs of a block that did not come back."""
        self._on_the_way.pop(shipment.number, None)
        queue = shipment.queue
        run_set = queue.run_set
        calls = [call for call in shipment.calls.values() if run_set.states[call.index] is None]
        shipment.calls.clear()
        if not isinstance(error, WorkerLost):
            for call in calls:
                self._crash(run_set, call, error)
            return
        # What was shared may be gone with the worker.
        queue.common = None
        self._definitions.clear()
        started = {call.index for call in calls if call.index in run_set.executing}
        if shipment.attempt is not None and not started and calls and not run_set.task.isasync:
            started = {calls[0].index}
        worker = shipment.worker or error.worker or "unknown"
        again = []
        for call in calls:
            run_set.executing.pop(call.index, None)
            counts, most = (
                (queue.losses, self._lost_retries) if call.index in started else (queue.returns, MOST_RETURNS)
            )
            counts[call.index] = count = counts.get(call.index, 0) + 1
            if count <= most:
                again.append(call.index)
            else:
                self._crash(run_set, call, CoreEngineError(f"Worker {worker} was lost. {error}"))
        queue.add_again(again)
        self._queues.wake(queue)

    def _not_ready(self, run_set: RunSet, call: TaskCall, error: UpstreamTaskError) -> None:
        run = call.run_record = run_set.activate(call.index)
        call.report(step(not_ready(run, error)))

    def _crash(self, run_set: RunSet, call: TaskCall, error: BaseException) -> None:
        run = call.run_record = run_set.activate(call.index)
        run_set.executing.pop(call.index, None)
        call.report(crash_task_run(run, error))

    def _crash_all(self, queue: RunSetQueue, calls: list[TaskCall], error: BaseException) -> None:
        for call in calls:
            if queue.run_set.states[call.index] is None:
                self._crash(queue.run_set, call, error)

    def _command(self, shipment: Shipment, position: int | None, interruption: str) -> None:
        if shipment.worker:
            self._road.command(
                shipment.worker, pickle.dumps((self.id, shipment.number, position, interruption), protocol=5)
            )

    # Values on the cluster

    def _keep(self, key: str, size: int, value_type: str) -> ClusterResult[Any]:
        self._road.reference(key)
        result: ClusterResult[Any] = ClusterResult(key, size, value_type, self._road.fetch)
        self._kept.add(result)
        weakref.finalize(result, self._road.release, key).atexit = False
        return result

    def _fetch_kept(self, limit_bytes: int) -> None:
        """Fetches what somebody may still ask for; what is too much is missing from now on, with one warning."""
        left, missing = limit_bytes, 0
        for result in list(self._kept):
            if result.has_cached_object():
                continue
            if result.size <= left:
                try:
                    result.read()
                    left -= result.size
                    continue
                except CoreEngineError as error:
                    _logger.debug("A result was lost with the cluster: %s", error)
            else:
                missing += 1
            result.leave()
        if missing:
            _logger.warning(
                "%d large results stayed on the cluster and are missing from now on: together they exceed the setting "
                "results_fetch_limit_bytes (%s). Use persist_result=True to keep such results.",
                missing,
                f"{limit_bytes:,}",
            )


def _items(queue: RunSetQueue, calls: list[TaskCall]) -> tuple[list[dict[str, Any]], list[Item]]:
    """Returns the facts of the groups that the runs are recorded under, and the runs."""
    run_set = queue.run_set
    groups: dict[int, int] = {}
    facts: list[dict[str, Any]] = []
    items: list[Item] = []
    for call in calls:
        position = call.index
        group, index = run_set.summary.origin(position)
        number = groups.get(id(group))
        if number is None:
            number = groups[id(group)] = len(facts)
            facts.append(_group_facts(group))
        active = run_set.active.get(position)
        if active is None and run_set.summary.origins is not None:
            active = run_set.activate(position)
        progress = None if active is None or active.state._ordinal == 1 else ItemProgress.of(active)
        items.append(Item(position, number, index, progress, queue.answers.pop(position, None)))
    return facts, items


GROUP_FACTS = (
    *("prefix", "flow_run_id", "task_key", "task_name", "created", "first_index", "count", "is_map"),
    *("task_version", "tags", "policy", "task_inputs"),
)


def _group_facts(group: Any) -> dict[str, Any]:
    return {name: getattr(group, name) for name in GROUP_FACTS}


__all__ = ["RemoteSession"]
