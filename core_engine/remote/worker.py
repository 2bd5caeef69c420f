"""What runs on a worker: one importable, sync function that takes bytes, and the commands that reach it (D21).

Everything of the user's is unpickled inside our own ``try``, so that a module that is missing here becomes the outcome
of the runs that need it, and not of the cluster's own machinery.
"""

from __future__ import annotations

import asyncio
import contextvars
import io
import os
import pickle
import socket
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from core_engine.concurrency.loops import LoopThread
from core_engine.concurrency.waiting import step
from core_engine.engine.active import ActiveTaskRun
from core_engine.engine.cancellation import TaskRunCancelled, TaskRunStopped
from core_engine.exceptions import CoreEngineError
from core_engine.remote.permit import ItemProgress, RemoteFlowRun, RemoteGroup, RemoteRunSet, WorkerClient
from core_engine.remote.reporting import Beating, BlockReport, pulse
from core_engine.remote.reports import CALL_ENDED, GIVEN_BACK, QUESTION, TIMES, UNREADABLE
from core_engine.remote.values import WorkerResultFactory, dumps
from core_engine.results.portable import portable_exception
from core_engine.schemas.records import FlowRun
from core_engine.schemas.states import FINAL_TYPES, State
from core_engine.settings import SettingsContext, get_current_settings

if TYPE_CHECKING:
    from core_engine.remote.roads import WorkerRoad
    from core_engine.tasks import Task

# An item that has run as long as this keeps the rest of its block waiting no longer (D15).
LONG_SECONDS = 0.2
MOST_DEFINITIONS = 128

INTERRUPTIONS = {kind.__name__: kind for kind in (TaskRunCancelled, TaskRunStopped)}


class Definition(NamedTuple):
    """What all items of a run set have in common, as it travels."""

    task: Task[..., Any]
    profile: Any
    settings: Any
    result_factory: Any
    log_prints: bool


class Shared(NamedTuple):
    """The parameters that all items of a run set have in common, and how the others are called."""

    parameters: dict[str, Any]
    names: Sequence[str]
    collapses: bool


class Item(NamedTuple):
    """One run: its position in the run set, under which group and index it is recorded, and where it stands.

    ``answer`` is what is stored under its cache key: (key, state or None), None when nobody has been asked.
    """

    position: int
    group: int
    run_index: int
    progress: ItemProgress | None
    answer: tuple[str, State | None] | None


class Payload(NamedTuple):
    """What a block is: plain values, and ``rows`` with the items' own parameters, pickled.

    ``flow_run`` is the id and name of the flow run, and the name of its flow; ``attempt`` is the flow run's.
    """

    session: str
    block: int
    process: str
    flow_run: tuple[UUID, str, str]
    attempt: int
    needs_slots: bool
    groups: Sequence[dict[str, Any]]
    items: Sequence[Item]
    rows: bytes


def this_process() -> str:
    """Returns a text that no other process has at the same time."""
    return f"{socket.gethostname()}:{os.getpid()}"


def execute_block(payload: bytes, common: Sequence[bytes], values: Sequence[Any], road: WorkerRoad) -> bytes | None:
    """Executes the runs of a block, one after another, async ones side by side.

    Parameters:
        payload: A pickled ``Payload``.
        common: The pickled ``Definition`` and ``Shared``.
        values: The large values that the payload refers to.
        road: The way back.

    Returns:
        The last message if it is too large for the road, else None.
    """
    block = Payload(*pickle.loads(payload))
    report = BlockReport(block.block, uuid.uuid4().hex, road, road.worker)
    execution = _Execution(block, report, road)
    _executions[block.session, block.block] = execution
    pulse.add(execution)
    token = _road.set(road)
    try:
        execution.run(common, values)
    finally:
        _road.reset(token)
        pulse.remove(execution)
        _executions.pop((block.session, block.block), None)
    return report.close() or None


def receive_command(command: bytes) -> None:
    """Does what the flow's process asks: to interrupt an item, or to stop a block. Returns at once."""
    session, block, position, interruption = pickle.loads(command)
    execution = _executions.get((session, block))
    if execution is not None:
        execution.interrupt(position, INTERRUPTIONS[interruption])


def current_road() -> WorkerRoad | None:
    """Returns the road of the block that this code is part of, also in helper threads; None outside of any."""
    return _road.get()


_road: contextvars.ContextVar[WorkerRoad | None] = contextvars.ContextVar("core_engine_road", default=None)
# Written by the threads of calls, each its own entry; read by the thread that brings commands.
_executions: dict[tuple[str, int], _Execution] = {}
_definitions: OrderedDict[bytes, Any] = OrderedDict()
_definitions_lock = threading.Lock()


def _load_common(content: bytes, kind: type[Any], values: Sequence[Any]) -> Any:
    """Unpickles what many blocks have in common, once for each worker."""
    import hashlib

    key = hashlib.sha256(content).digest()
    with _definitions_lock:
        known = _definitions.get(key)
        if known is not None:
            _definitions.move_to_end(key)
            return known
    loaded = kind(*_loads(content, values))
    with _definitions_lock:
        _definitions[key] = loaded
        while len(_definitions) > MOST_DEFINITIONS:
            _definitions.popitem(last=False)
    return loaded


class _Unpickler(pickle.Unpickler):
    """Puts large values, which come as arguments of the call, where the pickle refers to them."""

    def __init__(self, content: bytes, values: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(content))
        self._values = values

    def persistent_load(self, number: Any) -> Any:
        return self._values[number]


def _loads(content: bytes, values: Sequence[Any]) -> Any:
    return _Unpickler(content, values).load() if values else pickle.loads(content)


class _Execution(Beating):
    """A block that is being executed: by the call's thread; the pulse and commands look in from theirs.

    ``_lock`` guards ``_next``: the pulse gives the rest of the block back while the call takes from it.
    """

    def __init__(self, block: Payload, report: BlockReport, road: WorkerRoad) -> None:
        self._block = block
        self._report = report
        self._road = road
        self._client = WorkerClient(report, {})
        id, name, flow_name = block.flow_run
        record = FlowRun(id=id, name=name, flow_name=flow_name)
        self._flow_run = RemoteFlowRun(record, block.attempt, self._client)
        self._run_set = RemoteRunSet(block.needs_slots)
        self._groups = [_group(facts) for facts in block.groups]
        self._lock = threading.Lock()
        self._next = 0
        self._end = len(block.items)
        self._item_started: float | None = None
        self._runs: dict[int, ActiveTaskRun] = {}

    # The call's thread -----------------------------------------------------------------------------------------------

    def run(self, common: Sequence[bytes], values: Sequence[Any]) -> None:
        block = self._block
        try:
            definition = _load_common(common[0], Definition, ())
            shared = _load_common(common[1], Shared, values)
            rows = _loads(block.rows, values)
        except BaseException as error:  # user code runs while it is unpickled, and may raise anything
            self._unreadable(error)
            return
        settings = SettingsContext(definition.profile, definition.settings)
        if definition.settings == get_current_settings():
            entered: Any = nullcontext()
        else:
            entered = settings
        with entered:
            if block.process != this_process():
                from core_engine.logging.configuration import setup_worker_logging

                setup_worker_logging()
            self._run_items(definition, shared, rows)

    def _unreadable(self, error: BaseException) -> None:
        reason = f"{type(error).__name__}: {error}"
        wrapped = CoreEngineError(
            f"The call could not be unpickled on worker {self._road.worker}: {reason}. "
            "The worker needs the same modules, in the same versions, as the flow's process."
        )
        content = dumps(portable_exception(wrapped))
        for item in self._block.items:
            self._report.add((UNREADABLE, item.position, content))

    def _run_items(self, definition: Definition, shared: Shared, rows: Sequence[Sequence[Any]]) -> None:
        factory = WorkerResultFactory.of(definition.result_factory, self._road)
        if definition.task.isasync:
            self._run_async(definition, shared, rows, factory)
            return
        started = time.monotonic()
        count, longest = 0, 0.0
        while (number := self._take()) is not None:
            before = self._item_started = time.monotonic()
            item = self._block.items[number]
            if self._begin(item, definition, shared, rows[number], factory):
                count += 1
                longest = max(longest, time.monotonic() - before)
            self._item_started = None
        self._report.add((TIMES, count, time.monotonic() - started, longest))

    def _take(self) -> int | None:
        with self._lock:
            number = self._next
            if number >= self._end:
                return None
            self._next = number + 1
            return number

    def _begin(self, item: Item, definition: Definition, shared: Shared, row: Sequence[Any], factory: Any) -> bool:
        """Executes one sync item; returns whether it ran."""
        if item.position in self._run_set.cancel_requests:
            self._report.add((CALL_ENDED, item.position))
            return False
        run = self._activate(item)
        parameters = _parameters(shared, row, definition.task)
        if self._asks(run, item, definition, parameters, factory):
            return False
        context = contextvars.copy_context()
        try:
            context.run(step, self._begin_task_run(run, definition, parameters, factory))
        except BaseException as error:
            self._crashed(run, error)
        self._ended(item.position)
        return True

    def _ended(self, position: int) -> None:
        self._report.add((CALL_ENDED, position))
        self._runs.pop(position, None)

    def _begin_task_run(
        self, run: ActiveTaskRun, definition: Definition, parameters: dict[str, Any], factory: Any
    ) -> Any:
        from core_engine.engine.task_runs import begin_task_run

        return begin_task_run(
            task=definition.task,
            task_run=run,
            parameters=parameters,
            wait_for=None,
            result_factory=factory,
            log_prints=definition.log_prints,
            settings=None,
        )

    def _crashed(self, run: ActiveTaskRun, error: BaseException) -> None:
        from core_engine.engine.crashes import crash_task_run

        if run.state._type not in FINAL_TYPES:
            crash_task_run(run, error)

    def _activate(self, item: Item) -> ActiveTaskRun:
        group = self._groups[item.group]
        group.positions[item.run_index] = item.position
        flow_run: Any = self._flow_run
        run = ActiveTaskRun(flow_run, group, item.run_index, group.first_state(item.run_index))
        if item.progress is not None:
            item.progress.take_up(run)
        run_set: Any = self._run_set
        run.run_set = run_set
        run.position = item.position
        run.worker = self._road.worker
        if item.answer is not None:
            self._client.answers.setdefault(*item.answer)
        self._runs[item.position] = run
        return run

    def _asks(self, run: ActiveTaskRun, item: Item, definition: Definition, parameters: Any, factory: Any) -> bool:
        """Ends the call with a question if only the flow's process knows whether the run's result is stored (D13)."""
        task = definition.task
        if task.cache_key_fn is None or item.answer is not None or run.group.policy.refresh_cache:
            return False
        from core_engine.context import TaskRunContext
        from core_engine.engine.caching import cache_key_of

        client: Any = self._client
        try:
            context = TaskRunContext.of(run, task, client, parameters, factory, definition.log_prints)
            key = cache_key_of(context, parameters)
        except Exception:  # the run itself meets it again, and records it
            key = None
        if key is None or key in self._client.answers:
            return False
        self._report.add((QUESTION, item.position, key))
        return True

    # Async items, on the process's loop for them ---------------------------------------------------------------------

    def _run_async(self, definition: Definition, shared: Shared, rows: Sequence[Sequence[Any]], factory: Any) -> None:
        with _task_loop as loop:
            loop.submit(self._run_all, definition, shared, rows, factory).wait_result()

    async def _run_all(self, definition: Definition, shared: Shared, rows: Any, factory: Any) -> None:
        started = time.monotonic()
        tasks = []
        while (number := self._take()) is not None:
            item = self._block.items[number]
            tasks.append(asyncio.ensure_future(self._arun(item, definition, shared, rows[number], factory)))
        longest = max([0.0, *await asyncio.gather(*tasks)])
        seconds = time.monotonic() - started
        self._report.add((TIMES, len(tasks), max(seconds, longest * len(tasks) * 0.5), longest))

    async def _arun(self, item: Item, definition: Definition, shared: Shared, row: Any, factory: Any) -> float:
        if item.position in self._run_set.cancel_requests:
            self._report.add((CALL_ENDED, item.position))
            return 0.0
        started = time.monotonic()
        run = self._activate(item)
        parameters = _parameters(shared, row, definition.task)
        if self._asks(run, item, definition, parameters, factory):
            return 0.0
        try:
            await self._begin_task_run(run, definition, parameters, factory)
        except BaseException as error:
            self._crashed(run, error)
        self._ended(item.position)
        return time.monotonic() - started

    # The pulse's thread ----------------------------------------------------------------------------------------------

    def beat(self, now: float) -> None:
        started = self._item_started
        if started is not None and now - started > LONG_SECONDS:
            self._give_back()
        self._report.flush()

    def _give_back(self) -> None:
        with self._lock:
            rest = self._block.items[self._next : self._end]
            self._end = self._next
        if rest:
            self._report.add((GIVEN_BACK, [item.position for item in rest]))

    # The thread that brings commands ---------------------------------------------------------------------------------

    def interrupt(self, position: int | None, interruption: Any) -> None:
        """Interrupts one item, or all of the block and what has not started of it (None)."""
        positions = [position] if position is not None else [item.position for item in self._block.items]
        for one in positions:
            if interruption is TaskRunCancelled or position is None:
                self._run_set.cancel_requests.add(one)
            executing = self._run_set.executing.get(one)
            if executing is not None:
                executing.interrupt(self._runs.get(one), interruption)


def _group(facts: dict[str, Any]) -> RemoteGroup:
    group = RemoteGroup(**facts)
    group.positions = {}
    return group


def _parameters(shared: Shared, row: Sequence[Any], task: Task[..., Any]) -> dict[str, Any]:
    parameters = shared.parameters.copy()
    parameters.update(zip(shared.names, row, strict=True))
    return task.signature.collapse(parameters) if shared.collapses else parameters


class _TaskLoop:
    """The loop of this process for async tasks, there while a block needs it. ``_lock`` guards the count of blocks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._thread: LoopThread | None = None

    def __enter__(self) -> LoopThread:
        with self._lock:
            self._users += 1
            if self._thread is None:
                self._thread = LoopThread("core-engine-tasks")
            return self._thread

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._users -= 1
            thread = self._thread if self._users == 0 else None
            if thread is not None:
                self._thread = None
        if thread is not None:
            thread.stop()


_task_loop = _TaskLoop()


__all__ = ["execute_block", "receive_command"]
