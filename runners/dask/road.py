"""The road over Dask's own connections (D23).

Up: structured events on a topic that the client listens to. Down: ``client.run`` on one worker. Large values are data
of the worker that made them, under keys of their own; the client holds them, and other calls name them as inputs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core_engine.remote import Block, WorkerLost, run_call, unpacked
from runners.dask.link import Link
from runners.dask.worker_road import execute, receive_commands
from runners.dask.workers import Workers

if TYPE_CHECKING:
    from core_engine.remote import RemoteSession
    from core_engine.task_runners import LoopThread

LOOK_SECONDS = 0.5
SPREAD_SECONDS = 3.0
# For so long Dask tries to reach a worker that has died, and puts nothing on every worker meanwhile.
UNREACHABLE_SECONDS = 30.0
MOST_URGENT = 1_000
# Annotations that Dask's client takes as arguments. The priority of deeper maps is higher, so that what upstreams made
# is used up and let go.
NAMED = ("priority", "resources", "workers", "allow_other_workers")

Done = Callable[[bytes | None, BaseException | None], None]


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
        self._link = Link(client, logger)
        self._workers = Workers(client, logger)
        self._slots = 1
        # Appended to by the session's thread, emptied on the loop.
        self._waiting: deque[tuple[Block, Done]] = deque()
        self._futures: dict[str, Any] = {}
        self._blocks: dict[str, Block] = {}
        self._kept: dict[str, Any] = {}
        # By worker, what waits until the last commands have arrived there: each once.
        self._commands: dict[str, dict[bytes, None]] = {}
        # What blocks that are still to be sent will need: futures, held by the session.
        self._shared: weakref.WeakSet[Any] = weakref.WeakSet()
        self._spreads_from = 0.0
        self._session: RemoteSession | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def slots(self) -> int:
        return max(self._slots, self._most_slots)

    @property
    def may_start_again(self) -> bool:
        return self._link.may_start_again

    # Any thread -------------------------------------------------------------------------------------------------------

    def listen(self, receive: Callable[[bytes], None]) -> None:
        self._post(lambda: self._link.listen(receive))

    def on_workers(self, session: RemoteSession) -> None:
        """Has a session learn of workers, those that join later too."""
        self._session = session
        self._post(self._watch)

    def share(self, name: str, content: bytes) -> Any:
        # Dask's annotations are part of the context: those of one call are not to be those of what many share.
        return contextvars.Context().run(self._loop.submit, self._share, name, content).wait_result()

    def send(self, block: Block, done: Done) -> None:
        self._waiting.append((block, done))
        self._post(self._submit_waiting)

    def call(self, name: str, content: bytes, done: Done) -> None:
        self._post(lambda: self._call(name, content, done))

    def revoke(self, name: str) -> None:
        self._loop.submit(self._revoke, name)

    def kill(self, name: str) -> None:
        """A worker process may execute other calls, and is left as it is."""

    def command(self, worker: str, command: bytes) -> None:
        self._post(lambda: self._command(worker, command))

    def reference(self, key: str) -> Any:
        return key

    def fetch(self, key: str, timeout_seconds: float | None) -> Any:
        return unpacked(self._loop.submit(self._fetch, key, timeout_seconds).wait_result())

    def collect(self) -> None:
        """Messages come by themselves."""

    def release(self, key: str) -> None:
        try:
            self._post(lambda: self._let_go(key))
        except RuntimeError:
            self._kept.pop(key, None)  # the loop is closed, and the client with it

    def _post(self, call: Callable[[], Any]) -> None:
        self._loop.loop.call_soon_threadsafe(call, context=contextvars.Context())

    # On the loop ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Meets scheduler and workers, and has each call start once.

        Raises:
            RuntimeError: core_engine is missing on one of them.
        """
        await self._workers.meet_scheduler()
        await self._look()
        await self._workers.meet_all()
        await self._link.open()

    async def leave(self) -> None:
        """Stops learning of workers, and lets everything go that is held there."""
        if self._watching is not None:
            self._watching.cancel()
        self._link.leave()
        self._futures.clear()
        self._kept.clear()

    def _watch(self) -> None:
        assert self._session is not None
        self._workers.tell(self._session)
        self._watching = asyncio.ensure_future(self._keep_looking())

    async def _keep_looking(self) -> None:
        while not self._link.is_over:
            try:
                if await self._link.come_back():
                    self._submit_waiting()
                await self._look()
                new = await self._workers.meet_new()
                if new and self._shared:
                    await asyncio.wait_for(self.client.replicate(list(self._shared), workers=new), SPREAD_SECONDS)
                await self._workers.say_what_is_wanting(
                    [(block.name.rpartition("-")[0], block.annotations) for block in self._blocks.values()]
                )
            except (TimeoutError, OSError) as error:
                self._logger.debug("The Dask scheduler does not answer just now: %s", error)
            except Exception:
                self._logger.exception("The look at the Dask cluster failed; the next one follows.")
            await asyncio.sleep(LOOK_SECONDS)
        await self.client.close()  # what nobody will end any more ends now, as lost
        self._submit_waiting()

    async def _look(self) -> None:
        if await self._workers.look():
            self._slots = sum(self._workers.threads.values())
            if self._session is not None:
                self._session.wake()

    async def _share(self, name: str, content: bytes) -> Any:
        await self._link.settle()
        if self._link.is_over:
            raise self._link.lost()
        if self._workers.threads and time.monotonic() >= self._spreads_from:
            shared = await self._spread(f"{name}-{uuid.uuid4().hex}", content)
            if shared is not None:
                self._shared.add(shared)
                return shared
        key = f"{name}-{uuid.uuid4().hex}"
        return self.client.submit(bytes, content, key=key, pure=False, priority=MOST_URGENT)

    async def _spread(self, key: str, content: bytes) -> Any:
        """Puts bytes on every worker: Dask starts calls where their inputs are, and moves them elsewhere only later.

        Returns:
            The future; None if it cannot be done, because a worker has just died: Dask would try for ever.
        """
        import distributed

        make_future: Any = distributed.Future
        try:
            spread = await asyncio.wait_for(self.client.scatter({key: content}, broadcast=True), SPREAD_SECONDS)
        except Exception as error:  # Dask has many ways to say that a worker has just died
            self._logger.debug("%s is not put on every worker, but made where it is needed: %s", key, error)
            make_future(key, self.client).release()  # which ends the attempt
            self._spreads_from = time.monotonic() + UNREACHABLE_SECONDS
            return None
        return spread[key]

    def _submit_waiting(self) -> None:
        """Sends all blocks that wait, those with the same place and priority in one message.

        While the connection is lost they wait for it; when it is over none is sent any more.
        """
        if not self._link.is_up and not self._link.is_over:
            return
        groups: dict[str, list[tuple[Block, Done]]] = {}
        while self._waiting:
            block, done = self._waiting.popleft()
            groups.setdefault(repr((block.depth, block.annotations)), []).append((block, done))
        for group in groups.values():
            try:
                if self._link.is_over:
                    raise self._link.lost()
                self._submit(group)
            except Exception as error:
                for _, done in group:
                    done(None, error)

    def _submit(self, group: list[tuple[Block, Done]]) -> None:
        from dask.base import annotate

        first = group[0][0]
        options = {"priority": first.depth, **(first.annotations or {})}
        options.pop("retries", None)  # a call that failed has said so, and starts are counted by us (D22)
        named = {name: options.pop(name) for name in NAMED if name in options}
        with annotate(**options):
            futures = self.client.map(
                execute,
                [block.payload for block, _ in group],
                [list(block.common) for block, _ in group],
                [[self._held(key) for key in block.values] for block, _ in group],
                [self.client.id] * len(group),
                key=[block.name for block, _ in group],
                pure=False,
                **named,
            )
        for (block, done), future in zip(group, futures, strict=True):
            self._blocks[block.name] = block
            self._start(block.name, done, future)

    def _call(self, name: str, content: bytes, done: Done) -> None:
        try:
            future = self.client.submit(run_call, content, key=name, pure=False)
        except Exception as error:
            done(None, error)
        else:
            self._start(name, done, future)

    def _held(self, key: str) -> Any:
        """Returns the future of a value that a worker keeps; while it is held the cluster does not let it go."""
        future = self._kept.get(key)
        if future is None:
            from distributed import Future

            future = self._kept[key] = Future(key, self.client)
            # The worker told the scheduler before it told us: what `scatter` does at its end.
            self.client.futures[key].finish()
        return future

    def _let_go(self, key: str) -> None:
        """The cluster keeps a value for this client until a future of it goes, also one that nobody asked for."""
        if not self._link.is_over:
            self._held(key)
        self._kept.pop(key, None)

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
            done(None, await self._lost(name, error))
        except BaseException as error:
            done(None, error)
        else:
            done(content, None)
        finally:
            self._futures.pop(name, None)
            self._blocks.pop(name, None)

    async def _lost(self, name: str, error: BaseException) -> WorkerLost:
        """Returns what became of a call that was cancelled, which Dask does for several reasons."""
        if not self._link.is_up:
            await self._link.settle()
            return WorkerLost("", str(self._link.lost()))
        block = self._blocks.get(name)
        lost: list[str] = []
        if block is not None and block.values:
            try:
                holders: dict[str, Any] = await self.client.scheduler.who_has(keys=list(block.values))
            except Exception as cut_off:  # as soon as it is lost, the connection has many ways to say so
                return WorkerLost("", f"{self._link.lost()} {cut_off}")
            lost = [key for key in block.values if not holders.get(key)]
        return WorkerLost("", f"The cluster cancelled the call, or lost what it needs. {error}".strip(), lost)

    async def _revoke(self, name: str) -> None:
        future = self._futures.get(name)
        if future is not None:
            await self.client.cancel([future])

    def _command(self, worker: str, command: bytes) -> None:
        if worker in self._commands:
            self._commands[worker][command] = None
        else:
            self._commands[worker] = {command: None}
            self._loop.keep(asyncio.ensure_future(self._send_commands(worker)))

    async def _send_commands(self, worker: str) -> None:
        """Sends a worker its commands, those together that come while others are on their way."""
        try:
            while (commands := self._commands[worker]) and not self._link.is_over:
                self._commands[worker] = {}
                await self.client.run(receive_commands, list(commands), workers=[worker], on_error="ignore")
        except OSError as error:  # what it is to say is in vain, as is what it said
            self._logger.debug("Worker %s could not be reached: %s", worker, error)
        finally:
            del self._commands[worker]

    async def _fetch(self, key: str, timeout_seconds: float | None) -> Any:
        if self._link.is_over:
            raise self._link.lost()
        async with asyncio.timeout(timeout_seconds):
            return await self._held(key)
