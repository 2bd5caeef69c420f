"""The road over Dask's own connections (D23).

Up: structured events on a topic that the client listens to. Down: ``client.run`` on one worker. Large values are data
of the worker that made them, under keys of their own; the client holds them, and other calls name them as inputs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core_engine.remote import (
    Block,
    WorkerLost,
    clock_offset_between,
    execute_block,
    receive_command,
    run_call,
    this_process,
)

if TYPE_CHECKING:
    from core_engine.remote import RemoteSession
    from core_engine.task_runners import LoopThread

# The scheduler keeps the last thousand messages of a topic: they must be small (D23).
LARGEST_MESSAGE = 16 * 1024
LOOK_SECONDS = 0.5
MOST_URGENT = 1_000
# Annotations of Dask that say where a call may run.
PLACES = ("resources", "workers", "allow_other_workers")

Done = Callable[[bytes | None, BaseException | None], None]


class DaskWorkerRoad:
    """The worker's end.

    Parameters:
        topic: The topic of the client, which is its id: the scheduler forgets its messages with the client.
    """

    largest_message = LARGEST_MESSAGE
    returns_last = False

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._worker: Any = None

    @property
    def _here(self) -> Any:
        if self._worker is None:
            from distributed import get_worker

            self._worker = get_worker()
        return self._worker

    @property
    def worker(self) -> str:
        address: str = self._here.address
        return address

    @property
    def dask_worker(self) -> Any:
        """Dask's worker that this is called in, also from helper threads."""
        return self._here

    def send(self, message: bytes) -> None:
        self._here.log_event(self.topic, message)

    def keep(self, value: Any, content: bytes) -> str:
        from distributed.utils import sync

        worker = self._here
        key = f"core-engine-value-{uuid.uuid4().hex}"
        sync(worker.loop, _keep, worker, key, value, self.topic)
        return key

    def __reduce__(self) -> tuple[Any, ...]:
        return DaskWorkerRoad, (self.topic,)


async def _keep(worker: Any, key: str, value: Any, client: str) -> None:
    """Makes a value data of this worker that a client wants: what the client's own ``scatter`` does from inside."""
    from dask.sizeof import sizeof

    worker.update_data(data={key: value})
    await worker.scheduler.update_data(who_has={key: [worker.address]}, nbytes={key: sizeof(value)}, client=client)


class DaskRoad:
    """The flow's end; methods named with an underscore run on the connection's loop.

    Parameters:
        client: An asynchronous client on `loop`.
        loop: The loop.
        logger: The runner's.
        most_slots: As how many slots the cluster may be scaled to; work for so many is sent at once.
    """

    def __init__(self, client: Any, loop: LoopThread, logger: logging.Logger, most_slots: int) -> None:
        self.client = client
        self._loop = loop
        self._logger = logger
        self._most_slots = most_slots
        self._slots = 1
        self._may_start_again = True
        # Appended to by the session's thread, emptied on the loop.
        self._waiting: deque[tuple[Block, Done]] = deque()
        self._futures: dict[str, Any] = {}
        self._kept: dict[str, Any] = {}
        # What blocks that are still to be sent will need: futures, held by the session.
        self._shared: weakref.WeakSet[Any] = weakref.WeakSet()
        self._session: RemoteSession | None = None
        self._known: set[str] = set()
        self._road = DaskWorkerRoad(client.id)
        self._watching: asyncio.Task[None] | None = None

    @property
    def slots(self) -> int:
        return max(self._slots, self._most_slots)

    @property
    def may_start_again(self) -> bool:
        return self._may_start_again

    # Any thread -------------------------------------------------------------------------------------------------------

    def listen(self, receive: Callable[[bytes], None]) -> None:
        def handle(event: tuple[float, Any]) -> None:
            # The scheduler itself says under this topic when the client came.
            if isinstance(event[1], bytes):
                receive(event[1])

        self._post(lambda: self.client.subscribe_topic(self.client.id, handle))

    def on_workers(self, session: RemoteSession) -> None:
        """Has a session learn of workers, those that join later too."""
        self._session = session
        self._post(self._watch)

    def share(self, name: str, content: bytes) -> Any:
        return self._loop.submit(self._share, name, content).wait_result()

    def send(self, block: Block, done: Done) -> None:
        self._waiting.append((block, done))
        self._post(self._submit_waiting)

    def call(self, name: str, content: bytes, done: Done) -> None:
        self._post(lambda: self._start(name, done, self.client.submit(run_call, content, key=name, pure=False)))

    def revoke(self, name: str) -> None:
        self._loop.submit(self._revoke, name)

    def command(self, worker: str, command: bytes) -> None:
        self._loop.submit(self._command, worker, command)

    def reference(self, key: str) -> Any:
        return key

    def fetch(self, key: str) -> Any:
        return self._loop.submit(self._fetch, key).wait_result()

    def release(self, key: str) -> None:
        try:
            self._post(lambda: self._kept.pop(key, None))
        except RuntimeError:
            self._kept.pop(key, None)  # the loop is closed, and the client with it

    def _post(self, call: Callable[[], Any]) -> None:
        self._loop.loop.call_soon_threadsafe(call)

    # On the loop ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Learns how many calls the cluster runs at once, and has each start once."""
        await self._look()
        self._may_start_again = not await self._starts_once()

    async def _starts_once(self) -> bool:
        from runners.dask.single_starts import SingleStarts

        try:
            await self.client.register_plugin(SingleStarts(self.client.id))
        except Exception as error:  # a scheduler may refuse code of others, in several ways
            self._logger.debug("The Dask scheduler takes no plugin, so that each start is asked for: %s", error)
            return False
        return True

    async def leave(self) -> None:
        """Stops learning of workers, and lets everything go that is held there."""
        if self._watching is not None:
            self._watching.cancel()
        if self.client.id in self.client._event_handlers:
            self.client.unsubscribe_topic(self.client.id)
        self._futures.clear()
        self._kept.clear()

    def _watch(self) -> None:
        self._watching = asyncio.ensure_future(self._keep_looking())

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self._look()
                await self._meet_new_workers()
            except (TimeoutError, OSError) as error:
                self._logger.debug("The Dask scheduler does not answer just now: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        threads = await self.client.scheduler.ncores()
        slots = sum(threads.values())
        if slots != self._slots:
            self._slots = slots
            if self._session is not None:
                self._session.wake()

    async def _meet_new_workers(self) -> None:
        new = [worker for worker in await self.client.scheduler.ncores() if worker not in self._known]
        for worker in new:
            before = time.time()
            answers = await self.client.run(_who_and_when, workers=[worker], on_error="ignore")
            after = time.time()
            if worker in answers and self._session is not None:
                process, theirs = answers[worker]
                offset = clock_offset_between(before, theirs, after)
                self._session.know_worker(worker, offset, process == this_process())
                self._known.add(worker)
        if new and self._shared:
            await self.client.replicate(list(self._shared), workers=new)

    async def _share(self, name: str, content: bytes) -> Any:
        key = f"{name}-{uuid.uuid4().hex}"
        if not self._slots:  # nobody to give it to yet: the first worker makes it
            return self.client.submit(bytes, content, key=key, pure=False, priority=MOST_URGENT)
        # To every worker: Dask starts calls where their inputs are, and moves them elsewhere only later.
        shared = (await self.client.scatter({key: content}, broadcast=True))[key]
        self._shared.add(shared)
        return shared

    def _submit_waiting(self) -> None:
        """Sends all blocks that wait, those with the same place and priority in one message."""
        groups: dict[str, list[tuple[Block, Done]]] = {}
        while self._waiting:
            block, done = self._waiting.popleft()
            groups.setdefault(repr((block.depth, block.annotations)), []).append((block, done))
        for group in groups.values():
            self._submit(group)

    def _submit(self, group: list[tuple[Block, Done]]) -> None:
        first = group[0][0]
        annotations = dict(first.annotations or {})
        futures = self.client.map(
            execute_block,
            [block.payload for block, _ in group],
            [list(block.common) for block, _ in group],
            [[self._held(key) for key in block.values] for block, _ in group],
            [self._road] * len(group),
            key=[block.name for block, _ in group],
            pure=False,
            # Deeper maps first, so that what upstreams made is used up and let go.
            priority=annotations.get("priority", first.depth),
            **{name: annotations[name] for name in PLACES if name in annotations},
        )
        for (block, done), future in zip(group, futures, strict=True):
            self._start(block.name, done, future)

    def _held(self, key: str) -> Any:
        """Returns the future of a value that a worker keeps; while it is held the cluster does not let it go."""
        future = self._kept.get(key)
        if future is None:
            from distributed import Future

            future = self._kept[key] = Future(key, self.client)
            # The worker told the scheduler before it told us: what `scatter` does at its end.
            self.client.futures[key].finish()
        return future

    def _start(self, name: str, done: Done, future: Any) -> None:
        self._futures[name] = future
        self._loop.keep(asyncio.ensure_future(self._finish(name, future, done)))

    async def _finish(self, name: str, future: Any, done: Done) -> None:
        """Owns what becomes of a call: its return value, a lost worker, an error (a call that never ends is none)."""
        import distributed

        wait: Any = distributed.wait
        try:
            with self.client.as_current():
                ended = wait([future])
            await ended
            # Reports have come as events, before this: a return value that says nothing is not fetched.
            is_empty = future.status == "finished" and future.type is type(None)
            content = None if is_empty else await future
        except distributed.KilledWorker as error:
            done(None, WorkerLost(error.last_worker.address, "It died while it ran the call."))
        except (asyncio.CancelledError, concurrent.futures.CancelledError) as error:
            reason = f"The cluster cancelled the call, or lost what it needs. {error}".strip()
            done(None, WorkerLost("", reason))
        except BaseException as error:
            done(None, error)
        else:
            done(content, None)
        finally:
            self._futures.pop(name, None)

    async def _revoke(self, name: str) -> None:
        future = self._futures.get(name)
        if future is not None:
            await self.client.cancel([future])

    async def _command(self, worker: str, command: bytes) -> None:
        await self.client.run(receive_command, command, workers=[worker], on_error="ignore")

    async def _fetch(self, key: str) -> Any:
        return await self._held(key)


def _who_and_when() -> tuple[str, float]:
    return this_process(), time.time()
