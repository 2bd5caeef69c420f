"""Sending: which calls go next, what travels with them, and what becomes of those that cannot be sent."""

from __future__ import annotations

import itertools
import logging
import pickle
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.waiting import step
from core_engine.engine.inputs import resolve_inputs
from core_engine.engine.proposals import decide_task
from core_engine.exceptions import UpstreamTaskError
from core_engine.remote.endings import crash, crash_all, end_not_ready
from core_engine.remote.payloads import Item, Origin, Payload, this_process
from core_engine.remote.permit import ItemProgress
from core_engine.remote.roads import Block, Road
from core_engine.remote.shipment import blame_row, row_of, rows_pickled
from core_engine.remote.shipments import Shipment
from core_engine.schemas.states import RUNNING, make_state

if TYPE_CHECKING:
    from core_engine.engine.calls import TaskCall
    from core_engine.engine.run_sets import RunSet
    from core_engine.remote.queues import Queues, RunSetQueue
    from core_engine.remote.sharing import Common, SharedContent
    from core_engine.remote.values import ClusterResult
    from core_engine.schemas.records import TaskRunGroup

BLOCKS_PER_SLOT = 2
# Blocks that are over sooner than this need more of themselves on the way, to keep workers busy.
SHORT_BLOCK_SECONDS = 0.02
SHORT_BLOCKS_PER_SLOT = 16
# On few slots as many go out together as cost the flow's process least. Not while blocks are still to grow: then some
# hundred small ones would go out in place of a few large ones.
LEAST_SHORT_BLOCKS = 256

GROUP_FACTS = (
    *("prefix", "flow_run_id", "task_key", "task_name", "created", "first_index", "count", "is_map"),
    *("task_version", "tags", "policy", "task_inputs"),
)

Rows = list[list[Any]]
BlockDone = Callable[[Shipment, bytes | None, BaseException | None], None]

_logger = logging.getLogger("core_engine.remote")


class Sender:
    """Sends the blocks of one session, in its thread.

    Parameters:
        session: The session's id.
        road: The way to the cluster.
        queues: What waits.
        on_the_way: Blocks that were sent, by number; new ones are added here.
        shared: What goes with many blocks.
        done: Called, in any thread, when the cluster is done with a block.
    """

    def __init__(
        self,
        session: str,
        road: Road,
        queues: Queues,
        on_the_way: dict[int, Shipment],
        shared: SharedContent,
        done: BlockDone,
    ) -> None:
        self._session = session
        self._road = road
        self._queues = queues
        self._on_the_way = on_the_way
        self._shared = shared
        self._done = done
        self._numbers = itertools.count()
        self._process = this_process()
        # By the kind of queue. That there are several is remembered, for then blocks have to be counted.
        self._low_water = {"": 0}

    def send_what_fits(self) -> None:
        """Sends blocks until the cluster has as many as keep it busy, or nothing waits.

        That is so for each kind of queue: runs that wait for a worker with a resource keep no others waiting.
        """
        for kind in self._queues.kinds():
            self._send_kind(kind, max(1, self._road.slots))

    def _sent(self, kind: str) -> int:
        """Returns how many blocks of a kind are on the way."""
        if len(self._low_water) == 1:
            return len(self._on_the_way)
        return sum(shipment.queue.kind == kind for shipment in self._on_the_way.values())

    def _send_kind(self, kind: str, slots: int) -> None:
        low_water = self._low_water.setdefault(kind, 0)
        if self._sent(kind) > max(low_water, slots * BLOCKS_PER_SLOT - 1):
            return
        while True:
            found = self._queues.next_calls(kind, slots) if self._sent(kind) < _most_short(slots) else None
            if found is None:
                return
            queue, calls = found
            try:
                queue.context.run(self._send, queue, calls)
            except Exception as error:
                _logger.exception("A block could not be sent.")
                crash_all(queue.run_set, calls, error)
            most = _most_blocks(queue, slots)
            if self._sent(kind) >= most:
                # Many short blocks go out together, which costs a cluster less than one by one.
                self._low_water[kind] = most // 2
                return

    def _send(self, queue: RunSetQueue, calls: list[TaskCall]) -> None:
        run_set = queue.run_set
        rows, calls = _rows(queue, [call for call in calls if _may_start(run_set, call)], self._road)
        if not calls:
            return
        try:
            common = self._shared.of(queue)
        except UpstreamTaskError as error:
            for call in calls:
                end_not_ready(run_set, call, error)
            return
        except Exception as error:
            crash_all(run_set, calls, error)
            return
        try:
            content, values = rows_pickled(rows)
        except Exception:
            self._send_singly(queue, calls, rows)
            return
        self._send_block(queue, calls, content, common, values)

    def _send_singly(self, queue: RunSetQueue, calls: list[TaskCall], rows: Rows) -> None:
        """Sends each call alone, since one of them cannot be pickled; that one ends here."""
        for call, row in zip(calls, rows, strict=True):
            try:
                content, values = rows_pickled([row])
            except Exception as reason:
                crash(queue.run_set, call, blame_row(queue.run_set, row, reason))
                continue
            self._send_block(queue, [call], content, self._shared.of(queue), values)

    def _send_block(
        self,
        queue: RunSetQueue,
        calls: list[TaskCall],
        rows: bytes,
        common: Common,
        values: list[ClusterResult[Any]],
    ) -> None:
        number = next(self._numbers)
        keys = list(dict.fromkeys(value.key for value in (*common.values, *values)))
        payload = self._payload(queue, calls, number, rows, keys, common.keys).encode()
        name = f"{queue.run_set.task.name}-{self._session}{number:x}"
        shipment = self._on_the_way[number] = Shipment(number, name, queue, calls)
        references = [self._road.reference(key) for key in keys]
        block = Block(name, payload, common.references, references, len(calls), queue.depth, queue.annotations)
        try:
            self._road.send(block, lambda content, error: self._done(shipment, content, error))
        except Exception as error:
            self._done(shipment, None, error)

    def _payload(
        self,
        queue: RunSetQueue,
        calls: list[TaskCall],
        number: int,
        rows: bytes,
        value_keys: Sequence[str],
        common_keys: Sequence[str | None],
    ) -> Payload:
        run_set = queue.run_set
        groups, items = _items(queue, calls)
        return Payload(
            self._session,
            number,
            self._process,
            run_set.flow_run.attempt,
            run_set.gate is not None,
            self._must_claim(queue, calls),
            _origin(queue, groups),
            rows,
            value_keys,
            common_keys,
            items,
        )

    def _must_claim(self, queue: RunSetQueue, calls: list[TaskCall]) -> bool:
        """A run that was lost with a worker may have begun, which its worker did not live to tell: once is enough."""
        if self._road.may_start_again:
            return True
        return bool(queue.returns) and any(call.index in queue.returns for call in calls)


def _most_blocks(queue: RunSetQueue, slots: int) -> int:
    """Returns how many blocks may be on the way at once, those of a queue among them."""
    sizer = queue.sizer
    seconds = sizer.seconds_each
    if seconds is None or seconds * sizer.next_size(1_000_000, 1) > SHORT_BLOCK_SECONDS:
        return slots * BLOCKS_PER_SLOT
    return _most_short(slots) if sizer.is_fixed else slots * SHORT_BLOCKS_PER_SLOT


def _most_short(slots: int) -> int:
    return max(slots * SHORT_BLOCKS_PER_SLOT, LEAST_SHORT_BLOCKS)


def _may_start(run_set: RunSet, call: TaskCall) -> bool:
    """Asks the rules where the flow run is not RUNNING: they refuse the start, and say what the run is in then."""
    state = run_set.flow_run.progress.state
    if state is None or state._type is RUNNING:
        return True
    run = run_set.activate(call.index)
    decide_task(run, make_state(RUNNING, 0.0, None, 0, 0))
    call.run_record = run
    call.report(run.state)
    return False


def _rows(queue: RunSetQueue, calls: list[TaskCall], road: Road) -> tuple[Rows, list[TaskCall]]:
    """Returns the parameters of each call that has all it needs, and these calls; others are ended here."""
    run_set = queue.run_set
    rows, ready = [], []
    for call in calls:
        try:
            if run_set.wait_for:
                step(resolve_inputs({"wait_for": run_set.wait_for}, return_data=False))
            row = row_of(run_set, call.index, road, queue.reads_stored)
            # Looked at afterwards: the end of a run takes the handles away.
            if run_set.states[call.index] is None:
                rows.append(row)
                ready.append(call)
        except UpstreamTaskError as error:
            end_not_ready(run_set, call, error)
        except Exception as error:
            crash(run_set, call, error)
    return rows, ready


def _items(queue: RunSetQueue, calls: list[TaskCall]) -> tuple[list[TaskRunGroup], list[Item]]:
    """Returns the groups that the runs are recorded under, and the runs."""
    run_set = queue.run_set
    numbers: dict[int, int] = {}
    groups: list[TaskRunGroup] = []
    items: list[Item] = []
    for call in calls:
        position = call.index
        group, index = run_set.summary.origin(position)
        number = numbers.setdefault(id(group), len(groups))
        if number == len(groups):
            groups.append(group)
        active = run_set.active.get(position)
        if active is None and run_set.summary.origins is not None:
            active = run_set.activate(position)
        progress = None if active is None or active.state._ordinal == 1 else ItemProgress.of(active)
        items.append(Item(position, number, index, progress, queue.answers.pop(position, None)))
    return groups, items


def _origin(queue: RunSetQueue, groups: list[TaskRunGroup]) -> bytes:
    """Returns what runs of these groups belong to, pickled; once for the blocks of a map, which have the same group."""
    ids = [id(group) for group in groups]
    known, content = queue.origin
    if known != ids:
        record = queue.run_set.flow_run.record
        facts = [{name: getattr(group, name) for name in GROUP_FACTS} for group in groups]
        content = pickle.dumps(tuple(Origin(record.id, record.name, record.flow_name, facts)), protocol=5)
        queue.origin = ids, content
    return content
