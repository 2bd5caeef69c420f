"""Requests from other processes (D2): the owner of a flow run looks for them four times a second."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any

from core_engine.concurrency.loops import engine_loop
from core_engine.concurrency.threads import service_threads
from core_engine.engine.store_care import StoreCare

if TYPE_CHECKING:
    from core_engine.backend.store import Request
    from core_engine.client.embedded import EmbeddedClient
    from core_engine.engine.active import ActiveFlowRun

LOOK_SECONDS = 0.25

_logger = logging.getLogger("core_engine.engine")


class _Watch:
    """Looks for requests to the flow runs of one store while there are any. ``_lock`` guards ``_runs``."""

    def __init__(self, client: EmbeddedClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._runs: dict[Any, ActiveFlowRun] = {}
        self._looking = False
        self._care = StoreCare(client)
        self._version = 0
        self._looked_for: set[Any] = set()

    def add(self, run: ActiveFlowRun) -> None:
        with self._lock:
            self._runs[run.id] = run
            start, self._looking = not self._looking, True
        if start:
            engine_loop().submit(self._look)

    def remove(self, run: ActiveFlowRun) -> None:
        with self._lock:
            self._runs.pop(run.id, None)

    async def _look(self) -> None:
        while True:
            await self._safely(self._care.look())
            await asyncio.sleep(LOOK_SECONDS)
            with self._lock:
                runs = dict(self._runs)
                if not runs:
                    self._looking = False
                    return
            await self._safely(service_threads.submit(self._answer, runs).arrive_result())

    async def _safely(self, look: Awaitable[None]) -> None:
        try:
            await look
        except Exception:
            _logger.warning("A look at the store beside the flow runs failed; the next one follows.", exc_info=True)

    def _answer(self, runs: dict[Any, ActiveFlowRun]) -> None:
        store = self._client.store
        version = store.data_version()
        if version == self._version and self._looked_for.issuperset(runs):
            return
        # A run may have been asked to cancel before it was added here.
        self._version, self._looked_for = version, set(runs)
        for request in store.read_requests(list(runs)):
            try:
                if request.kind == "why":
                    # Whoever asked takes it out of the inbox, with its answer.
                    _answer_why(request, runs.get(request.flow_run_id))
                    continue
                _fulfil(request, runs)
            except Exception:
                store.finish_request(request.id)
                raise
            store.finish_request(request.id)


def _fulfil(request: Request, runs: dict[Any, ActiveFlowRun]) -> None:
    """Does what a request asks of a run, as far as it can be done; one of an unknown kind is passed over."""
    run = runs.get(request.run_id)
    if run is None:
        flow_run = runs.get(request.flow_run_id)
        if flow_run is not None and request.kind == "cancel":
            from core_engine.engine.cancellation import cancel_task_run_of

            cancel_task_run_of(flow_run, request.run_id)
    elif request.kind == "cancel":
        from core_engine.engine.cancellation import cancel_flow_run

        cancel_flow_run(run)
    elif request.kind == "pause":
        from core_engine.engine.pauses import pause_on_request

        pause_on_request(run, request.payload)
    elif request.kind == "resume":
        from core_engine.engine.pauses import resume_on_request

        resume_on_request(run)


def _answer_why(request: Request, run: ActiveFlowRun | None) -> None:
    from core_engine.engine.waits import why_it_waits

    if run is not None:
        run.client.store.answer_request(request.id, why_it_waits(run, request.run_id))


_watches: dict[str, _Watch] = {}
_watches_lock = threading.Lock()


@contextlib.contextmanager
def watch_requests(run: ActiveFlowRun) -> Generator[None]:
    """Answers requests to a flow run while the block lasts."""
    with _watches_lock:
        watch = _watches.get(run.client.api_url)
        if watch is None or watch._client.store is not run.client.store:
            watch = _watches[run.client.api_url] = _Watch(run.client)
    watch.add(run)
    try:
        yield
    finally:
        watch.remove(run)


def forget_all() -> None:
    """In a forked child: nobody looks there any more, and who held the lock is not here."""
    global _watches_lock
    _watches_lock = threading.Lock()
    _watches.clear()
