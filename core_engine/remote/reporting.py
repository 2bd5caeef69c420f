"""The worker's side of reports: records are gathered by block and sent a few times a second.

One thread per worker process, the pulse, sends what lies ready and watches how long items run; it ends when no block is
left.
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Sequence

from core_engine.remote.reports import BLOCK_STARTED, LINES, LOG, PIECE, Message, Record
from core_engine.remote.roads import WorkerRoad

# A block that is done sooner sends one message only.
FIRST_MESSAGE_SECONDS = 0.01
PULSE_SECONDS = 0.1
# The thread ends when no block has come for so long.
IDLE_SECONDS = 1.0
# What a message takes beside its records.
ENVELOPE_BYTES = 1_000

_logger = logging.getLogger("core_engine.remote")


class BlockReport:
    """What one call reports.

    ``_lock`` guards the buffer and the numbers of messages: the call's threads add to it, and the pulse sends.

    Parameters:
        block: The block's number in its session.
        attempt: A text of this call alone.
        road: The way to the flow's process.
        worker: The worker's name, sent along.
    """

    def __init__(self, block: int, attempt: str, road: WorkerRoad, worker: str) -> None:
        self._block = block
        self._attempt = attempt
        self._road = road
        self._worker = worker
        self._lock = threading.Lock()
        self._records: list[Record] = [(BLOCK_STARTED, time.time())]
        self._number = 0
        self._lines = 0
        self._is_closed = False
        self._is_silent = False

    def add(self, record: Record) -> None:
        """Takes a record. Any thread; also after the end, when a thread that the user left behind still logs."""
        with self._lock:
            if self._is_silent:
                return
            self._records.append(record)
            self._lines += record[0] == LOG
            late = self._is_closed
        if late:
            self.flush()

    def flush(self) -> None:
        """Sends what lies ready. Any thread."""
        with self._lock:
            self._send_what_is_ready()

    def fall_silent(self) -> None:
        """Sends what lies ready, and nothing more: the flow's process counts the call as lost. Any thread."""
        with self._lock:
            self._send_what_is_ready()
            self._is_silent = True

    def _send_what_is_ready(self) -> None:
        if not self._records:
            return
        records, self._records = self._records, []
        if self._is_closed:
            self._road.send(Message(self._block, self._attempt, -1, False, self._worker, records).encode())
            return
        for part in self._parts(records):
            message = self._message(part, is_last=False)
            if len(message) > self._road.largest_message:
                self._number -= 1
                self._send_in_pieces(part)
            else:
                self._road.send(message)

    def _send_in_pieces(self, records: list[Record]) -> None:
        """Sends what is too large for a message of the road, so that nothing behind it has to wait for the call."""
        content = pickle.dumps(records, protocol=5)
        size = self._road.largest_message - ENVELOPE_BYTES
        count = -(-len(content) // size)
        for number in range(count):
            piece = content[number * size : (number + 1) * size]
            self._road.send(self._message([(PIECE, number, count, piece)], is_last=False))

    def close(self) -> bytes:
        """Reports the end of the call; returns what is to go back with it, empty if all has been sent."""
        with self._lock:
            records, self._records = self._records, []
            self._is_closed = True
            if self._is_silent:
                return b""
            if self._lines:
                records.append((LINES, self._lines))
            message = self._message(records, is_last=True)
            if self._road.returns_last or len(message) > self._road.largest_message:
                return message
            self._road.send(message)
            return b""

    def _message(self, records: Sequence[Record], is_last: bool) -> bytes:
        number, self._number = self._number, self._number + 1
        return Message(self._block, self._attempt, number, is_last, self._worker, records).encode()

    def _parts(self, records: list[Record]) -> list[list[Record]]:
        """Cuts records into messages of the size that the road takes."""
        if len(records) == 1 or self._size(records) <= self._road.largest_message:
            return [records]
        middle = len(records) // 2
        return self._parts(records[:middle]) + self._parts(records[middle:])

    def _size(self, records: list[Record]) -> int:
        return len(Message(self._block, self._attempt, 0, False, self._worker, records).encode())


class Beating:
    """What the pulse calls while it is there: ``beat(now)``, with the monotonic time in seconds."""

    def beat(self, now: float) -> None:
        raise NotImplementedError


class Pulse:
    """The thread that calls the blocks of this process at intervals.

    While blocks come and go it looks by itself: to be woken by each would cost a short one a good part of its time.

    ``_condition`` guards the sets of blocks and whether the thread sleeps; it is notified when one comes while it does.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._blocks: set[Beating] = set()
        # Whether any came since the thread looked; and those of them that are still there.
        self._has_come = False
        self._young: set[Beating] = set()
        self._is_asleep = False
        self._thread: threading.Thread | None = None

    def add(self, block: Beating) -> None:
        with self._condition:
            self._blocks.add(block)
            self._young.add(block)
            self._has_come = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="core-engine-idle-pulse", daemon=True)
                self._thread.start()
            elif self._is_asleep:
                self._is_asleep = False
                self._condition.notify()

    def remove(self, block: Beating) -> None:
        with self._condition:
            self._blocks.discard(block)
            self._young.discard(block)

    def _run(self) -> None:
        due = 0.0
        fresh: set[Beating] = set()
        had_come = False
        while fresh or had_come or self._await_blocks(due):
            if fresh or had_come or self._has_come:
                time.sleep(FIRST_MESSAGE_SECONDS)
            now = time.monotonic()
            with self._condition:
                # A block that has just come is about to end more often than not, and then needs no message.
                beaten = self._blocks - self._young if now >= due else fresh & self._blocks
                fresh, self._young = self._young, set()
                had_come, self._has_come = self._has_come, False
            if now >= due:
                due = now + PULSE_SECONDS
            for block in beaten:
                try:
                    block.beat(now)
                except Exception:  # one block's trouble is not to stop the reports of the others
                    _logger.exception("Reports could not be sent; what is lost will be told of.")

    def _await_blocks(self, due: float) -> bool:
        """Sleeps until a block comes, or those that are there are due; False when none is there for a while."""
        with self._condition:
            if self._has_come:
                return True
            self._is_asleep = True
            timeout = max(0.0, due - time.monotonic()) if self._blocks else IDLE_SECONDS
            self._condition.wait_for(lambda: self._has_come, timeout)
            self._is_asleep = False
            if not self._blocks and not self._has_come:
                self._thread = None
                return False
            return True


pulse = Pulse()
