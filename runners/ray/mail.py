"""What workers report while their calls run, and commands to them: the flow's end of the mailbox (D23).

A mailbox is a process of its own, which takes half a second to start, and a flow of tiny tasks needs none. So it is
started when a call that has reported goes on. Until then both ends leave what they have to say with Ray's head.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runners.ray import head
from runners.ray.calls import Calls, forget_frames
from runners.ray.functions import remote_mailbox
from runners.ray.worker import MailboxAddress

# How often is looked with the head, as long as there is no mailbox: while calls are on their way, and else.
LOOK_SECONDS = 0.1
IDLE_LOOK_SECONDS = 0.5
# A mailbox is made anew so many times.
MOST_MAILBOXES = 10


class Mail:
    """The mail of one road. One thread takes messages, from the mailbox or the head.

    ``_opening`` guards which mailbox there is, and the commands that it has not got since it was not open. ``_taking``
    is held from the moment that messages leave the head until they are received, so that whoever gets it finds them
    received.

    Parameters:
        logger: The runner's.
        calls: The calls on their way.
        receive: Takes a message, with the names of its worker and node; in any thread.

    Attributes:
        address: The mailbox's, whether or not it is there yet.
    """

    def __init__(self, logger: logging.Logger, calls: Calls, receive: Callable[[str, str, bytes], None]) -> None:
        self._logger = logger
        self._calls = calls
        self._receive = receive
        self._has_sent = False
        self._has_call = threading.Event()
        self._is_over = threading.Event()
        self._opening = threading.Lock()
        self._mailbox: Any = None
        self._made = 0
        self._is_open = False
        self._left_commands: list[tuple[str, bytes]] = []
        self._name = f"core-engine-mailbox-{uuid.uuid4().hex}"
        self._namespace = ray.get_runtime_context().namespace
        self.address: MailboxAddress = (f"{self._name}.1", self._namespace)
        self._taking = threading.Lock()
        self._behind: dict[str, Callable[[], None]] = {}
        self._thread = threading.Thread(target=self._run, name="core-engine-ray-mail", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # Any thread -------------------------------------------------------------------------------------------------------

    def expect(self) -> None:
        """A call is on its way, which may report."""
        self._has_sent = True
        if not self._has_call.is_set():
            self._has_call.set()

    def command(self, worker: str, command: bytes) -> None:
        """Sends a command to a worker, which gets it soon if it executes a call that has reported."""
        with self._opening:
            if self._made and self._mailbox is None:  # there will be none any more
                return
            if self._is_open:
                self._mailbox.command.remote(worker, command)
                return
            self._left_commands.append((worker, command))
            number = len(self._left_commands)
        try:
            head.leave(f"{head.down(self.address[0])}/{worker}", number, command)
        except RayError as error:
            self._logger.warning("A command to worker %s could not be left with Ray's head: %s", worker, error)

    def call_behind(self, name: str, then: Callable[[], None]) -> None:
        """Has something called once, in whatever thread, when the messages are received that a call has sent.

        Parameters:
            name: The call's.
            then: What is called.
        """
        self.take_left()
        self._behind[name] = then
        mailbox = self._mailbox
        if mailbox is None:
            self._reach(name)
        else:
            mailbox.mark.remote(name)

    def take_left(self) -> set[str]:
        """Receives what workers have left with the head; returns the names of the calls it came from. Blocks."""
        with self._taking:
            if self._is_over.is_set() or not self._has_sent:
                return set()
            try:
                taken = head.take(head.up(self._name))
            except RayError as error:
                self._logger.warning("Ray's head could not be asked for messages of workers: %s", error)
                return set()
            for _, *message in taken:
                self._receive(*message)
            return {call for call, *_ in taken}

    def end(self) -> None:
        """Has the thread end, when nothing more is to come."""
        self._is_over.set()
        self._has_call.set()

    def stop(self, timeout_seconds: float) -> None:
        """Takes away the mailbox and what workers left. Ray must be there. Blocks, and waits for the thread so long."""
        self.end()
        with self._opening:
            if self._mailbox is not None:
                ray.kill(self._mailbox)
        head.drop(head.up(self._name))
        head.drop(head.down(self._name))
        head.drop_forgotten()
        self._thread.join(timeout_seconds)
        # Not to be let go while Ray is being left.
        self._mailbox = None

    def _open(self) -> None:
        self._made += 1
        self.address = (f"{self._name}.{self._made}", self._namespace)
        place = NodeAffinitySchedulingStrategy(node_id=ray.get_runtime_context().get_node_id(), soft=True)
        self._mailbox = remote_mailbox().options(name=self.address[0], scheduling_strategy=place).remote()

    # The thread -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._has_call.wait()
        self._wait_for_a_long_call()
        try:
            with self._opening:
                if not self._is_over.is_set():
                    self._open()
        except Exception as error:  # of Ray's, which may be about to end
            self._logger.error("No mailbox could be started on Ray: workers report at the end of calls only. %s", error)
        while self._mailbox is not None and not self._is_over.is_set():
            try:
                self._take_from(self._mailbox)
            except RayError as error:
                self._replace(error)
                forget_frames(error)

    def _wait_for_a_long_call(self) -> None:
        """Receives from the head, until a call goes on, or reports again, after its first report was found."""
        latest: set[str] = set()
        seen: set[str] = set()
        while self._waits():
            goes_on = any(self._calls.get(name) is not None for name in latest)
            latest = self.take_left()
            if goes_on or latest & seen:
                return
            seen |= latest

    def _waits(self) -> bool:
        """Waits until it is time to look with the head; returns whether there is still a reason to."""
        self._has_call.clear()
        if self._calls.outstanding():
            self._is_over.wait(LOOK_SECONDS)
        elif not self._is_over.is_set():
            self._has_call.wait(IDLE_LOOK_SECONDS)
        return not self._is_over.is_set()

    def _take_from(self, mailbox: Any) -> None:
        opened = mailbox.is_open.remote()
        while not ray.wait([opened], timeout=LOOK_SECONDS)[0]:
            self.take_left()
        ray.get(opened)
        with self._opening:
            self._is_open = True
            # A worker that knew before does not look with the head any more. One that gets them twice takes no harm.
            for worker, command in self._left_commands:
                mailbox.command.remote(worker, command)
            self._left_commands.clear()
        self.take_left()
        while not self._is_over.is_set():
            for message in ray.get(mailbox.take.remote()):
                if len(message) == 1:
                    self._reach(message[0])
                else:
                    self._receive(*message)

    def _reach(self, name: str) -> None:
        then = self._behind.pop(name, None)
        if then is not None:
            then()

    def _replace(self, error: Exception) -> None:
        """What workers had sent by it goes back with their calls; whoever waits for messages waits no more."""
        if self._is_over.is_set():
            return
        with self._opening:
            self._is_open = False
            if self._made < MOST_MAILBOXES:
                self._logger.warning("The mailbox on Ray was lost, and is made anew: %s", error)
                self._open()
            else:
                self._mailbox = None
                self._logger.error(
                    "The mailbox on Ray was lost again: workers report at the end of calls only. %s", error
                )
        for name in list(self._behind):
            self._reach(name)
