"""The worker's end of the road over Dask's own connections (D23): it travels with each block."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from core_engine.remote import Values, execute_block

# The scheduler keeps the last thousand messages of a topic: they must be small (D23).
LARGEST_MESSAGE = 16 * 1024


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

    def this_call(self) -> Any:
        return self._here.get_current_task()

    def is_wanted(self, call: Any) -> bool:
        # The scheduler has it released when its client is gone; what runs goes on all the same.
        state = self._here.state.tasks.get(call)
        return state is not None and state.state != "cancelled"

    def send(self, message: bytes) -> None:
        self._here.log_event(self.topic, message)

    def keep(self, value: Any, content: bytes) -> str:
        from distributed.utils import sync

        worker = self._here
        key = f"core-engine-value-{uuid.uuid4().hex}"
        sync(worker.loop, _keep, worker, key, content or value, self.topic)
        return key

    def __reduce__(self) -> tuple[Any, ...]:
        return DaskWorkerRoad, (self.topic,)


def execute(payload: bytes, common: Sequence[bytes], values: Sequence[Any], road: DaskWorkerRoad) -> bytes | None:
    """What Dask calls on a worker for each block; parameters and return value as ``execute_block``."""
    return execute_block(payload, common, Values(values), road)


async def _keep(worker: Any, key: str, value: Any, client: str) -> None:
    """Makes a value data of this worker that a client wants: what the client's own ``scatter`` does from inside."""
    from dask.sizeof import sizeof

    worker.update_data(data={key: value})
    await worker.scheduler.update_data(who_has={key: [worker.address]}, nbytes={key: sizeof(value)}, client=client)
