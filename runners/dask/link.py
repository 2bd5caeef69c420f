"""The client's connection to the scheduler: what is set up on it, and what is so again when it was lost and is back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

LOOK_AGAIN_SECONDS = 0.05
# Calls whose client was forgotten stop within two pulses of their worker, and say what they did until then.
STOPPING_SECONDS = 0.5
# Dask's client collects what it sends for ten milliseconds, which is most of what a short call takes. Blocks are sent
# together already.
SEND_SECONDS = 0.002


class Link:
    """Watches the connection of one client. All on the client's loop.

    Dask's client connects again by itself, for as long as its own time limit, and then closes for good. The scheduler
    has forgotten the client meanwhile: its calls, its values and our plugin, but not the reports that came since. Calls
    that ran notice, and stop; what they still say is taken before they are counted as lost.

    Parameters:
        client: An asynchronous client that has started.
        logger: The runner's.

    Attributes:
        may_start_again: Whether the cluster may start a call of ours a second time by itself.
    """

    def __init__(self, client: Any, logger: logging.Logger) -> None:
        self._client = client
        self._logger = logger
        self._connection: Any = None
        self._receive: Callable[[bytes], None] | None = None
        self.address: str = client.scheduler.address
        self.may_start_again = True

    @property
    def is_up(self) -> bool:
        """Whether calls can be sent: connected, and set up on this connection."""
        return self._client.status == "running" and self._connection is self._client.scheduler_comm

    @property
    def is_over(self) -> bool:
        """Whether the connection is lost and will not come back."""
        # A scheduler that closes in order says so, after which the client stands idle and calls itself running.
        listening = self._client._handle_report_task
        return self._client.status in ("closing", "closed") or (listening is not None and listening.done())

    def lost(self) -> ConnectionError:
        """Returns the error that says that the connection is lost."""
        return ConnectionError(f"The connection to the Dask scheduler at {self.address} was lost.")

    async def open(self) -> None:
        """Sets up the first connection."""
        connection = self._client.scheduler_comm
        await self._set_up()
        self._connection = connection

    async def _set_up(self) -> None:
        """Sets up on the connection what the scheduler is to know."""
        self._client.scheduler_comm.interval = SEND_SECONDS
        self.may_start_again = not await self._starts_once()
        self._subscribe()

    async def settle(self) -> None:
        """Waits, while the connection is lost, until it has come back and is set up, or is over."""
        while not self.is_up and not self.is_over:  # noqa: ASYNC110 - Dask tells nobody
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def come_back(self) -> bool:
        """Sets up again what a lost connection took along; returns whether that was necessary."""
        if self.is_up or self._client.status != "running":
            return False
        connection = self._client.scheduler_comm
        await asyncio.sleep(STOPPING_SECONDS)
        await self._set_up()
        for event in await self._client.scheduler.events(topic=self._client.id):
            self._handle(event)
        self._connection = connection
        self._logger.warning("The connection to the Dask scheduler at %s is back.", self.address)
        return True

    def listen(self, receive: Callable[[bytes], None]) -> None:
        """Has `receive` called with each message of a worker."""
        self._receive = receive
        self._subscribe()

    def leave(self) -> None:
        """Listens no more."""
        self._receive = None
        if self._client.status == "running" and self._client.id in self._client._event_handlers:
            self._client.unsubscribe_topic(self._client.id)

    def _subscribe(self) -> None:
        if self._receive is not None:
            self._client.subscribe_topic(self._client.id, self._handle)

    def _handle(self, event: tuple[float, Any]) -> None:
        # The scheduler itself says under this topic when the client came.
        if isinstance(event[1], bytes) and self._receive is not None:
            self._receive(event[1])

    async def _starts_once(self) -> bool:
        from runners.dask.single_starts import SingleStarts

        try:
            await self._client.register_plugin(SingleStarts(self._client.id))
        except Exception as error:  # a scheduler may refuse code of others, in several ways
            self._logger.debug("The Dask scheduler takes no plugin, so that each start is asked for: %s", error)
            return False
        return True
