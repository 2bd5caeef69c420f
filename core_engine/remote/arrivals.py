"""What becomes of the messages of workers: each block's are put in order, and each record goes to what handles it."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from core_engine.engine.run_logs import logger_of_flow_run
from core_engine.exceptions import CoreEngineError
from core_engine.remote import reports
from core_engine.remote.blocks import BlockSizer
from core_engine.remote.commands import GRANTED, REFUSED, RemoteExecution
from core_engine.remote.endings import crash, crash_all, end_reported
from core_engine.remote.questions import answer
from core_engine.remote.receiving import take_cache, take_log, take_name, take_transition
from core_engine.remote.reports import Message, Record, Transition
from core_engine.remote.roads import Road, WorkerLost
from core_engine.schemas.states import CRASHED, PENDING, RUNNING

if TYPE_CHECKING:
    from core_engine.engine.run_sets import RunSet
    from core_engine.remote.commands import Commands
    from core_engine.remote.kept_values import KeptValues
    from core_engine.remote.losses import Losses
    from core_engine.remote.queues import Queues
    from core_engine.remote.shared_storages import SharedStorages
    from core_engine.remote.shipments import Shipment

_logger = logging.getLogger("core_engine.remote")


class KnownWorkers:
    """What has been learnt of workers. Written by whoever learns it, read by the session's thread.

    Attributes:
        offsets: Seconds by which the clock of each is ahead of ours.
        local: Those that live in this process.
    """

    def __init__(self) -> None:
        self.offsets: dict[str, float] = {}
        self.local: set[str] = set()


class Arrivals:
    """Handles the messages of one session, in its thread.

    Parameters:
        on_the_way: Blocks that were sent, by number; ended ones are taken out.
        queues: Where runs go that are to be sent again.
        workers, values, storages, commands, losses, road: The session's.
    """

    def __init__(
        self,
        on_the_way: dict[int, Shipment],
        queues: Queues,
        workers: KnownWorkers,
        values: KeptValues,
        storages: SharedStorages,
        commands: Commands,
        losses: Losses,
        road: Road,
    ) -> None:
        self._on_the_way = on_the_way
        self._queues = queues
        self._workers = workers
        self._values = values
        self._storages = storages
        self._commands = commands
        self._losses = losses
        self._road = road
        # The run sets of blocks that have ended, for as long as somebody holds them.
        self._ended: WeakValueDictionary[int, RunSet] = WeakValueDictionary()
        self._handlers: dict[str, Callable[[Shipment, Record], None]] = {
            reports.STATE: self._state,
            reports.CALL_ENDED: self._call_ended,
            reports.LOG: self._log,
            reports.TIMES: lambda shipment, record: shipment.queue.sizer.measured(*record[1:]),
            reports.CACHE: self._cache,
            reports.NAME: lambda shipment, record: take_name(shipment.run_set, *record[1:]),
            reports.LINES: self._lines,
            reports.GIVEN_BACK: self._given_back,
            reports.QUESTION: self._question,
            reports.UNREADABLE: self._unreadable,
            reports.LOST: lambda shipment, record: self._losses.lose_run(shipment, *record[1:]),
            reports.UNANSWERED: self._unanswered,
            reports.STORAGE: self._storages.answer,
            reports.PIECE: self._piece,
            reports.LEFT_BEHIND: lambda shipment, record: self._road.kill(shipment.name),
            reports.BLOCK_STARTED: lambda shipment, record: None,
            reports.CLAIM: lambda shipment, record: None,
        }

    def receive(self, message: Message) -> None:
        """Takes a message of a worker, in whatever order they come."""
        shipment = self._on_the_way.get(message.block)
        claims = any(record[0] == reports.CLAIM for record in message.records)
        if shipment is None:
            self._refuse_unwanted(message, claims)
            return
        if shipment.attempt is None:
            shipment.attempt = message.attempt
            shipment.worker = message.worker
        if shipment.attempt != message.attempt:
            self._refuse(shipment, message, claims)
            return
        if claims:
            self._commands.answer_claim(message, GRANTED)
        for one in shipment.order.accept(message):
            shipment.queue.context.run(self._take_records, shipment, one.records)
        if shipment.order.is_complete:
            self._end(shipment)

    def done(self, shipment: Shipment, content: bytes | None, error: BaseException | None) -> None:
        """Takes what the cluster says became of the call of a block: its last message, if that came by this way."""
        if content:
            self.receive(Message.decode(content))
        if shipment.number not in self._on_the_way:
            return
        missing = shipment.order.missing()
        if missing:
            _tell_gap(shipment, f"{len(missing)} messages, with states and log lines of task runs,")
        for message in shipment.order.skip_gaps():
            shipment.queue.context.run(self._take_records, shipment, message.records)
        if error is None:
            error = CoreEngineError("Reports of the worker were lost on their way.")
        shipment.queue.context.run(self._losses.lose, shipment, error)

    def _take_late(self, message: Message) -> None:
        """Takes lines of threads that go on after the end of their block; nothing else changes any more."""
        run_set = self._ended.get(message.block)
        if run_set is None:
            _logger.debug("Dropped what a worker sent about runs that nobody holds any more: %r", message.records)
            return
        offset = self._workers.offsets.get(message.worker, 0.0)
        for record in message.records:
            if record[0] == reports.LOG:
                take_log(run_set, record, message.worker, offset, message.worker not in self._workers.local)

    def _refuse_unwanted(self, message: Message, claims: bool) -> None:
        """A call goes on whose runs have all ended here: it was revoked, or counted as lost, and its worker lives."""
        if claims:
            self._commands.answer_claim(message, REFUSED)
        elif message.number < 0:
            self._take_late(message)
        elif not message.is_last:
            self._commands.stop_call(message)

    def _refuse(self, shipment: Shipment, message: Message, claims: bool) -> None:
        """A cluster called a block again by itself, so the first worker is lost; starts are counted here (D22)."""
        if claims:
            self._commands.answer_claim(message, REFUSED)
        else:
            self._commands.stop_call(message)
        reason = "The worker is gone, and the cluster started its calls elsewhere."
        self._losses.lose(shipment, WorkerLost(shipment.worker, reason))
        self._road.revoke(shipment.name)

    def _end(self, shipment: Shipment) -> None:
        self._on_the_way.pop(shipment.number, None)
        self._ended[shipment.number] = shipment.run_set
        error = CoreEngineError("The worker ended its block without a report of this run.")
        shipment.queue.context.run(crash_all, shipment.run_set, list(shipment.calls.values()), error)
        shipment.calls.clear()

    def _take_records(self, shipment: Shipment, records: Sequence[Record]) -> None:
        for record in records:
            self._handlers[record[0]](shipment, record)

    # One for each kind of record --------------------------------------------------------------------------------------

    def _state(self, shipment: Shipment, record: Record) -> None:
        run_set = shipment.run_set
        change = Transition(*record)
        position = change.position
        offset = self._offset(shipment)
        if change.data is not None and change.data[0] == "carried":
            change = self._storages.store(run_set, change)
        run = take_transition(run_set, change, shipment.worker, offset, self._values.keep)
        if run is None:
            if change.data is not None and change.data[0] == "kept":
                self._values.keep(*change.data[1:])  # nobody holds it, so that the cluster lets it go
            if change.type == RUNNING.value:
                self._end_unwanted(shipment, position)
        elif run.state._type is RUNNING:
            run_set.executing[position] = RemoteExecution(self._commands, shipment, position)
        else:
            run_set.executing.pop(position, None)
            if run.state._type is CRASHED and run_set.flow_run.stopping is not None:
                run_set.flow_run.count_interrupted()

    def _end_unwanted(self, shipment: Shipment, position: int) -> None:
        """Code began of a run that has an outcome: it ends, and with it its block if nothing of that is wanted."""
        run_set = shipment.run_set
        if shipment.is_unwanted:
            return
        if any(run_set.states[other] is None for other in shipment.calls):
            self._commands.end_unwanted(shipment, position)
        else:
            shipment.is_unwanted = True
            self._commands.end_unwanted(shipment, None)
            self._revoke_ended(run_set)

    def _revoke_ended(self, run_set: RunSet) -> None:
        """Takes blocks back that have not started, and whose runs have all ended meanwhile: they were cancelled."""
        for shipment in list(self._on_the_way.values()):
            has_not_started = shipment.run_set is run_set and shipment.attempt is None
            if has_not_started and all(run_set.states[position] is not None for position in shipment.calls):
                self._road.revoke(shipment.name)

    def _call_ended(self, shipment: Shipment, record: Record) -> None:
        position = record[1]
        call = shipment.calls.pop(position, None)
        run_set = shipment.run_set
        run = run_set.active.get(position)
        if call is None or run is None or run_set.states[position] is not None:
            return
        call.run_record = run
        state = run.state
        if state._type is RUNNING or state._type is PENDING:
            crash(run_set, call, CoreEngineError("The reports of the run's end were lost on their way."))
        else:
            end_reported(run_set, call, run)

    def _cache(self, shipment: Shipment, record: Record) -> None:
        _, position, key, expires = record
        take_cache(shipment.run_set, position, key, expires, self._offset(shipment))

    def _offset(self, shipment: Shipment) -> float:
        return self._workers.offsets.get(shipment.worker, 0.0)

    def _log(self, shipment: Shipment, record: Record) -> None:
        worker = shipment.worker
        take_log(shipment.run_set, record, worker, self._offset(shipment), worker not in self._workers.local)
        shipment.lines += 1

    def _lines(self, shipment: Shipment, record: Record) -> None:
        missing = record[1] - shipment.lines
        if missing > 0:
            _tell_gap(shipment, f"{missing} of {record[1]} log lines")

    def _given_back(self, shipment: Shipment, record: Record) -> None:
        self._send_again(shipment, [position for position in record[1] if shipment.calls.pop(position, None)])

    def _question(self, shipment: Shipment, record: Record) -> None:
        _, position, key = record
        call = shipment.calls.pop(position, None)
        if call is None or shipment.run_set.states[position] is not None:
            return
        if answer(shipment.queue, call, key):
            self._send_again(shipment, [position])

    def _unreadable(self, shipment: Shipment, record: Record) -> None:
        """A call could not be unpickled: one of several is found by sending them singly.

        If it is because of a stored value that its worker does not see, values are read here from now on.
        """
        _, position, content, is_unseen_value = record
        call = shipment.calls.pop(position, None)
        queue = shipment.queue
        if call is None or queue.run_set.states[position] is not None:
            return
        if is_unseen_value and not shipment.reads_stored:
            if not queue.reads_stored:
                queue.reads_stored, queue.common = True, None
            self._send_again(shipment, [position])
            return
        if shipment.is_single:
            crash(queue.run_set, call, pickle.loads(content))
            return
        queue.sizer = BlockSizer(1)
        self._send_again(shipment, [position])

    def _piece(self, shipment: Shipment, record: Record) -> None:
        """Puts records together that came in pieces; without one of them, whose loss is told of, all are lost."""
        _, number, count, content = record
        pieces = shipment.pieces
        if number == 0:
            pieces.clear()
        if number == len(pieces):
            pieces.append(content)
        if number == count - 1 == len(pieces) - 1:
            self._take_records(shipment, pickle.loads(b"".join(pieces)))
            pieces.clear()

    def _unanswered(self, shipment: Shipment, record: Record) -> None:
        """A worker heard nothing from here, and executed nothing: an answer that was lost on its way."""
        self._losses.lose(
            shipment,
            CoreEngineError(
                f"Worker {shipment.worker} asked the flow's process whether it may start the run, and got no answer "
                f"within {record[1]:.0f} seconds. Nothing was executed. Is the way from here to the worker open?"
            ),
        )

    def _send_again(self, shipment: Shipment, positions: list[int]) -> None:
        shipment.queue.add_again(positions)
        self._queues.wake(shipment.queue)


def _tell_gap(shipment: Shipment, what: str) -> None:
    logger_of_flow_run(shipment.run_set.flow_run).warning(
        "%s of worker %s about task '%s' were lost on their way here.",
        what,
        shipment.worker,
        shipment.run_set.task.name,
    )
