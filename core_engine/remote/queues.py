"""What waits to go to workers: one queue for each run set, the deepest first."""

from __future__ import annotations

import heapq
import itertools
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from core_engine.engine.calls import CallBlock, TaskCall
from core_engine.engine.inputs import handles_in
from core_engine.futures import TaskFuture
from core_engine.remote.blocks import BlockSizer

if TYPE_CHECKING:
    from core_engine.engine.run_sets import RunSet
    from core_engine.remote.sharing import Common


class RunSetQueue:
    """The runs of one run set that wait to be sent, and what is known of them, for as long as the run set lives.

    Attributes:
        depth: How many run sets lie before it.
        sizer: Sizes its blocks.
        annotations: What the runner noted where the runs were submitted.
        kind: A text, the same for queues whose runs want the same of a worker: others are not to wait behind them.
        is_annotated: Whether it was asked.
        answers: What is stored under the cache keys of runs that asked, by position.
        losses: How often a run was lost with its worker while it ran, by position.
        returns: How often a run came back that had not started, by position.
        context: In which its reports are handled.
        common: Definition and shared parameters, once they have been made.
        origin: What the runs of the last block belong to: the ids of its groups, and the pickled ``Origin``.
        reads_stored: Whether stored values are read in the flow's process, since a worker does not see them.
    """

    def __init__(self, run_set: RunSet, depth: int) -> None:
        options = run_set.task.map_options
        # Whoever has a call of the run set holds it; a queue that did would keep both, and all values, to the end.
        self._run_set = weakref.ref(run_set)
        self.depth = depth
        self.sizer = BlockSizer(None if options is None else options.batch_size)
        self.annotations: Any = None
        self.kind = ""
        self.is_annotated = False
        self.answers: dict[int, tuple[str, Any]] = {}
        self.losses: dict[int, int] = {}
        self.returns: dict[int, int] = {}
        self.context = run_set.context.copy()
        self.common: Common | None = None
        self.origin: tuple[list[int], bytes] = ([], b"")
        self.reads_stored = False
        self._blocks: deque[CallBlock] = deque()
        self._waiting = 0
        self._unsent = len(run_set.states)

    @property
    def run_set(self) -> RunSet:
        run_set = self._run_set()
        assert run_set is not None
        return run_set

    def add(self, block: CallBlock) -> None:
        block.line_up(self._blocks)
        self._waiting += block.size
        if block.goes_first:  # it was sent before
            self._unsent += block.size

    def add_again(self, positions: list[int]) -> None:
        """Takes runs back; they go before the others."""
        if positions:
            self.add(CallBlock(self.run_set, positions, len(positions), goes_first=True))

    def take(self, slots: int) -> list[TaskCall]:
        """Returns the calls of the next block; none when nothing waits."""
        size = self.sizer.next_size(max(1, self._waiting), slots, self._unsent)
        calls: list[TaskCall] = []
        while self._blocks and len(calls) < size:
            call = self._blocks[0].take()
            if call is None:
                self._blocks.popleft()
            else:
                calls.append(call)
        self._waiting = max(0, self._waiting - len(calls)) if self._blocks else 0
        self._unsent -= len(calls)
        return calls


class Queues:
    """All queues of a session, used by its thread alone."""

    def __init__(self) -> None:
        self._queues: WeakKeyDictionary[RunSet, RunSetQueue] = WeakKeyDictionary()
        self._depths: WeakKeyDictionary[RunSet, int] = WeakKeyDictionary()
        self._ready: dict[str, list[tuple[int, int, RunSetQueue]]] = {}
        self._in_ready: set[int] = set()
        self._numbers = itertools.count()

    def wake(self, queue: RunSetQueue) -> None:
        """Something waits in a queue again."""
        if id(queue) not in self._in_ready:
            self._in_ready.add(id(queue))
            heap = self._ready.setdefault(queue.kind, [])
            heapq.heappush(heap, (-queue.depth, next(self._numbers), queue))

    def kinds(self) -> list[str]:
        """Returns the kinds of queues in which something may wait."""
        return list(self._ready)

    def next_calls(self, kind: str, slots: int) -> tuple[RunSetQueue, list[TaskCall]] | None:
        """Returns the calls of the next block of a kind and their queue; None when nothing waits."""
        heap = self._ready.get(kind)
        while heap:
            queue = heap[0][2]
            calls = queue.take(slots)
            if calls:
                return queue, calls
            heapq.heappop(heap)
            self._in_ready.discard(id(queue))
        self._ready.pop(kind, None)
        return None

    def queue_of(self, run_set: RunSet) -> RunSetQueue:
        queue = self._queues.get(run_set)
        if queue is None:
            depth = self._depths[run_set] = self._depth_of(run_set)
            queue = self._queues[run_set] = RunSetQueue(run_set, depth)
        return queue

    def _depth_of(self, run_set: RunSet) -> int:
        """One more than the depth of the upstreams: of all runs in shared parameters, of the first in others."""
        if not run_set.has_handles:
            return 0
        values = [*run_set.shared.values(), *(run_set.wait_for or ()), *(column[0] for _, column in run_set.columns)]
        upstream = [handle._run_set for handle in handles_in(values) if isinstance(handle, TaskFuture)]
        return 1 + max((self._depths.get(one, 0) for one in upstream), default=0)
