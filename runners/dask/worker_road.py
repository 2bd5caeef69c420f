"""The worker's end of the road over Dask's own connections (D23)."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from core_engine.remote import Values, execute_block, receive_command

# The scheduler keeps the last thousand messages of a topic: they must be small (D23).
LARGEST_MESSAGE = 16 * 1024

_logger = logging.getLogger("core_engine.runners.dask")


class DaskWorkerRoad:
    """The worker's end, for one call.

    Values that stay on the cluster are announced to the scheduler together, before the message goes that may speak of
    them: from then on messages go out by way of the worker's loop, in order.

    ``_lock`` guards the values that have not been announced: threads of the call, of the user and the pulse come here.

    Parameters:
        topic: The topic of the client, which is its id: the scheduler forgets its messages with the client.
    """

    largest_message = LARGEST_MESSAGE
    returns_last = False

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._worker: Any = None
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {}
        self._order = asyncio.Lock()
        self._leaving: Future[None] | None = None

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

    def this_call(self) -> Any:
        return self._here.get_current_task()

    def is_wanted(self, call: Any) -> bool:
        # The scheduler has it released when its client is gone; what runs goes on all the same.
        state = self._here.state.tasks.get(call)
        return state is not None and state.state != "cancelled"

    def send(self, message: bytes) -> None:
        if self._values or self._leaving is not None:
            self._post(message)
        else:
            self._here.log_event(self.topic, message)

    def send_again(self) -> None:
        """Nothing is kept back."""

    def keep(self, value: Any) -> str | None:
        key = f"core-engine-value-{uuid.uuid4().hex}"
        with self._lock:
            self._values[key] = value
        return key

    def close(self) -> None:
        """Waits until what was kept has been announced and sent: the end of the call is not to overtake it."""
        if self._values:
            self._post(None)
        if self._leaving is not None:
            self._leaving.result()

    def _post(self, message: bytes | None) -> None:
        with self._lock:
            values, self._values = self._values, {}
        announcing = self._announce(values, message)
        self._leaving = asyncio.run_coroutine_threadsafe(announcing, self._here.loop.asyncio_loop)

    async def _announce(self, values: dict[str, Any], message: bytes | None) -> None:
        worker = self._here
        async with self._order:
            try:
                if values:
                    await _keep(worker, values, self.topic)
            except OSError as error:  # without its scheduler the worker ends; until then it says what it can
                _logger.warning("%d values could not be announced to the Dask scheduler: %s", len(values), error)
            if message is not None:
                worker.log_event(self.topic, message)


def execute(payload: bytes, common: Sequence[bytes], values: Sequence[Any], topic: str) -> bytes | None:
    """What Dask calls on a worker for each block; `topic` as for the road, the others as ``execute_block``."""
    road = DaskWorkerRoad(topic)
    try:
        return execute_block(payload, common, Values(values), road)
    finally:
        road.close()


def receive_commands(commands: Sequence[bytes]) -> None:
    """What Dask calls on a worker for commands, which are about blocks that it executes."""
    for command in commands:
        receive_command(command)


async def _keep(worker: Any, values: dict[str, Any], client: str) -> None:
    """Makes values data of this worker that a client wants: what the client's own ``scatter`` does from inside."""
    from dask.sizeof import sizeof

    worker.update_data(data=values)
    await worker.scheduler.update_data(
        who_has={key: [worker.address] for key in values},
        nbytes={key: sizeof(value) for key, value in values.items()},
        client=client,
    )
