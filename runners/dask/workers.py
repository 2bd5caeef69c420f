"""What is known of the cluster's workers: how many threads they have, what each said when it was met, what is wanting.

Workers come and go; the first words with each are the handshake (D21), also with one that joins later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from core_engine.remote import by_value, check_worker, clock_offset_between, this_process, versions

if TYPE_CHECKING:
    from core_engine.remote import RemoteSession

MEET_SECONDS = 10.0
# How long calls may wait for a worker that suits them before that is said.
WANTING_SECONDS = 3.0

A_WORKER = "a worker"

_versions_there = by_value(versions)

Annotations = Mapping[str, Any]
# A worker as the scheduler describes it, and whether it has what a call wants.
WorkerFacts = Mapping[str, Any]
Suits = Callable[[WorkerFacts], bool]


class Workers:
    """The workers of one cluster, as far as they are known. All on the client's loop.

    Parameters:
        client: An asynchronous client that has started.
        logger: The runner's.

    Attributes:
        threads: The threads of each worker.
    """

    def __init__(self, client: Any, logger: logging.Logger) -> None:
        self._client = client
        self._logger = logger
        self._ours = versions("distributed")
        self._session: RemoteSession | None = None
        self._clocks: dict[str, tuple[float, bool]] = {}
        self._not_answering: set[str] = set()
        # Since when calls wait for what no worker has; None once that has been said.
        self._wanting: dict[str, float | None] = {}
        self.threads: dict[str, int] = {}

    async def look(self) -> bool:
        """Learns which workers there are; returns whether that has changed."""
        threads: dict[str, int] = await self._client.scheduler.ncores()
        changed = threads != self.threads
        self.threads = threads
        for gone in self._clocks.keys() - threads.keys():
            del self._clocks[gone]
        return changed

    def tell(self, session: RemoteSession) -> None:
        """Has a session told of each worker that has been or will be met."""
        self._session = session
        for worker, clock in self._clocks.items():
            session.know_worker(worker, *clock)

    # The handshake ----------------------------------------------------------------------------------------------------

    async def meet_scheduler(self) -> None:
        """Compares versions with the scheduler, which unpickles our function's name.

        Raises:
            RuntimeError: core_engine is missing there.
        """
        try:
            theirs = await self._client.run_on_scheduler(by_value(_introduce), _versions_there)
        except Exception as error:  # a scheduler may refuse code of others, in several ways
            self._logger.debug("The Dask scheduler does not say its versions: %s", error)
            return
        missing = self._compare("Dask scheduler", theirs)
        if missing is not None:
            raise missing

    async def meet_all(self) -> None:
        """Meets all workers that are there.

        Raises:
            RuntimeError: core_engine is missing on one.
        """
        for missing in await self._meet(self.threads):
            raise missing

    async def meet_new(self) -> list[str]:
        """Meets those workers that have joined since, and returns them; what is wrong with one is logged."""
        new = [worker for worker in self.threads if worker not in self._clocks]
        for missing in await self._meet(new):
            self._logger.error("%s Its calls will crash.", missing)
        return [worker for worker in new if worker in self._clocks]

    async def _meet(self, workers: Iterable[str]) -> list[RuntimeError]:
        found = await asyncio.gather(*[self._meet_one(worker) for worker in workers])
        return [missing for missing in found if missing is not None]

    async def _meet_one(self, worker: str) -> RuntimeError | None:
        before = time.time()
        asking = self._client.run(by_value(_introduce), _versions_there, workers=[worker], on_error="ignore")
        try:
            answers = await asyncio.wait_for(asking, MEET_SECONDS)
        except TimeoutError:
            answers = {}
        after = time.time()
        if worker not in answers:
            if worker not in self._not_answering:
                self._not_answering.add(worker)
                self._logger.warning("The Dask worker %s does not answer; it is asked again.", worker)
            return None
        theirs = answers[worker]
        self._not_answering.discard(worker)
        offset = clock_offset_between(before, theirs.pop("time"), after)
        self._clocks[worker] = offset, theirs["process"] == this_process()
        if self._session is not None:
            self._session.know_worker(worker, *self._clocks[worker])
        return self._compare(f"Dask worker {worker}", theirs)

    def _compare(self, who: str, theirs: dict[str, Any]) -> RuntimeError | None:
        """Names what differs; returns the error that says that core_engine is missing, None if it is not."""
        try:
            warnings = check_worker(who, self._ours, theirs["versions"])
        except RuntimeError as missing:
            return missing
        for warning in warnings:
            self._logger.warning(warning)
        return None

    # What is wanting --------------------------------------------------------------------------------------------------

    async def say_what_is_wanting(self, waiting: Iterable[tuple[str, Annotations | None]]) -> None:
        """Warns when calls wait for something that no worker has, once for each such thing.

        Parameters:
            waiting: The task's name and the annotations of each call on the way.
        """
        wants: dict[str, tuple[str, Suits]] = {}
        for name, annotated in waiting:
            for what, suits in _wants(annotated or {}):
                wants.setdefault(what, (name, suits))
        if self.threads:
            wants.pop(A_WORKER, None)
        workers = await self._known_to_scheduler() if wants and self.threads else {}
        now = time.monotonic()
        lacking = {what: name for what, (name, suits) in wants.items() if not any(map(suits, workers.values()))}
        self._wanting = {what: self._wanting.get(what, now) for what in lacking}
        for what, since in self._wanting.items():
            if since is not None and now - since > WANTING_SECONDS:
                self._wanting[what] = None
                self._logger.warning(
                    "Task %r waits for %s. The cluster has none; the task starts when one joins.", lacking[what], what
                )

    async def _known_to_scheduler(self) -> dict[str, WorkerFacts]:
        workers: dict[str, Any] = (await self._client.scheduler.identity())["workers"]
        return {address: {**facts, "address": address} for address, facts in workers.items()}


def _wants(annotations: Annotations) -> Iterable[tuple[str, Suits]]:
    """Yields what a call wants of the worker that runs it: how that is called, and whether a worker has it."""
    resources = annotations.get("resources")
    places = annotations.get("workers")
    if resources:
        yield f"a worker with the resources {resources}", lambda worker: _has_resources(worker, resources)
    elif places and not annotations.get("allow_other_workers"):
        names = {str(place) for place in ([places] if isinstance(places, str | int) else places)}
        yield f"a worker of {', '.join(sorted(names))}", lambda worker: not names.isdisjoint(_names_of(worker))
    else:
        yield A_WORKER, lambda worker: True


def _has_resources(worker: WorkerFacts, wanted: Mapping[str, float]) -> bool:
    return all(worker["resources"].get(name, 0) >= amount for name, amount in wanted.items())


def _names_of(worker: WorkerFacts) -> set[str]:
    address = worker["address"]
    return {str(worker["name"]), worker["host"], address, address.partition("://")[2]}


def _introduce(versions: Callable[[str], dict[str, str]]) -> dict[str, Any]:
    """Runs on workers and in the scheduler, where our modules may be missing: it needs nothing of ours."""
    import sys
    import time

    # Inside the flow's process it is loaded.
    payloads = sys.modules.get("core_engine.remote.payloads")
    process = None if payloads is None else payloads.this_process()
    return {"versions": versions("distributed"), "process": process, "time": time.time()}
