"""The mailbox: an actor between the flow's process and its workers (D23). Reports go up, commands come down.

A message is acknowledged to its worker when the flow's process has it, not before: what the mailbox had when it died
goes back with the worker's call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

# A worker asks again after this, and finds out whether it still has something to listen for.
LISTEN_SECONDS = 1.0

# How many calls may wait in the mailbox at once: messages until they are taken, and one question for each worker.
MOST_WAITING = 10_000


class Mailbox:
    """The actor's class; all its methods run on one event loop."""

    def __init__(self) -> None:
        self._messages: deque[tuple[tuple[Any, ...], asyncio.Future[None] | None]] = deque()
        self._handed_over: list[asyncio.Future[None]] = []
        self._has_messages = asyncio.Event()
        self._commands: dict[str, list[bytes]] = {}
        self._has_commands: dict[str, asyncio.Event] = {}

    async def is_open(self) -> bool:
        """Says that it is there."""
        return True

    async def push(self, worker: str, node: str, message: bytes) -> None:
        """Takes a message of a worker; returns when the flow's process has it."""
        received = asyncio.get_running_loop().create_future()
        self._add((worker, node, message), received)
        await received

    async def mark(self, call: str) -> None:
        """Puts a mark behind the messages that are here."""
        self._add((call,), None)

    async def take(self) -> list[tuple[Any, ...]]:
        """Waits for messages and marks, and returns them; what the call before returned has been received."""
        for received in self._handed_over:
            if not received.done():
                received.set_result(None)
        self._handed_over = []
        await self._has_messages.wait()
        self._has_messages.clear()
        taken = []
        while self._messages:
            message, received_by = self._messages.popleft()
            taken.append(message)
            if received_by is not None:
                self._handed_over.append(received_by)
        return taken

    async def command(self, worker: str, command: bytes) -> None:
        """Takes a command for a worker."""
        self._commands.setdefault(worker, []).append(command)
        event = self._has_commands.get(worker)
        if event is not None:
            event.set()

    async def commands(self, worker: str) -> list[bytes]:
        """Waits for commands for a worker, for some time, and returns them."""
        if worker not in self._commands:
            event = self._has_commands[worker] = asyncio.Event()
            try:
                await asyncio.wait_for(event.wait(), LISTEN_SECONDS)
            except TimeoutError:
                pass
            finally:
                self._has_commands.pop(worker, None)
        return self._commands.pop(worker, [])

    def _add(self, message: tuple[Any, ...], received: asyncio.Future[None] | None) -> None:
        self._messages.append((message, received))
        self._has_messages.set()
