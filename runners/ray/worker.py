"""What Ray calls on a worker, and the way from there to the flow's process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import ray
from ray.exceptions import RayError

from core_engine.remote import Pickled, Values, execute_block, execute_in_turns, is_stuck, receive_command

LARGEST_MESSAGE = 64 * 1024
# How long a process in which code goes on waits for its end, which the flow's process brings about.
KILL_SECONDS = 10.0
# So many messages that are not known to have arrived are looked through for those that are.
MOST_SENT = 50

# Name and namespace of a mailbox.
MailboxAddress = tuple[str, str]
# What a call returns: who executed it and where, how many values it left, and its last messages.
Report = tuple[str, str, int, list[bytes]]


def execute_at_once(
    mailbox: MailboxAddress, call: str, payload: bytes, shared: int, *inputs: Any, most_values: int = 1
) -> tuple[Report, bytes | Any | None]:
    """Executes a block; the value that stays on the cluster is the second thing returned. For a block of one run.

    Parameters:
        mailbox: The way to the flow's process.
        call: Name of the block.
        payload: The block.
        shared: How many of the `inputs` are shared by many blocks; the others are large values.
        inputs: Both.
        most_values: How many values can stay on the cluster: 1, or 0 for blocks of several runs.
    """
    road = RayWorkerRoad(mailbox, call, most_values)
    content = execute_block(payload, _contents(inputs[:shared]), Values(inputs[shared:]), road)
    values = road.take_values()
    return road.close(content), values[0] if values else None


def execute_by_and_by(mailbox: MailboxAddress, call: str, payload: bytes, shared: int, *inputs: Any) -> Iterator[Any]:
    """Executes a block: gives values that stay on the cluster while it runs, at last its report. For several runs.

    Parameters as ``execute_at_once``.
    """
    road = RayWorkerRoad(mailbox, call, most_values=None)
    turns = execute_in_turns(payload, _contents(inputs[:shared]), Values(inputs[shared:]), road)
    content, is_over = None, False
    while not is_over:
        try:
            next(turns)
        except StopIteration as end:
            content, is_over = end.value, True
        for value in road.hand_over():  # noqa: UP028 Ray sends something into this very generator
            yield value
    yield road.close(content)


def _contents(common: Sequence[Any]) -> list[Any]:
    """Returns what ``RayRoad.share`` was given: bytes, or a view of them."""
    return [one.content if type(one) is Pickled else one for one in common]


class RayWorkerRoad:
    """The worker's end of the road, for one call.

    Messages go through the mailbox; those that are not known to have arrived go back with the call once more. Values
    belong to the flow's process from the moment that the call hands them over, so that they outlive this worker (D12);
    until then no message goes out, since it may speak of them.

    ``_lock`` guards what is kept and sent: threads of the call, of the user and the pulse come here.

    Parameters:
        mailbox, call: As ``execute_at_once``.
        most_values: How many values the call can leave on the cluster; None: any number.
    """

    largest_message = LARGEST_MESSAGE
    returns_last = True

    def __init__(self, mailbox: MailboxAddress, call: str, most_values: int | None) -> None:
        self._mailbox = mailbox
        self._call = call
        self._most_values = most_values
        self._lock = threading.Lock()
        self._count = 0
        self._values: list[Any] = []
        self._held: list[bytes] = []
        self._sent: list[tuple[Any, bytes]] = []
        self._is_listening = False

    @property
    def worker(self) -> str:
        return _here()[0]

    def this_call(self) -> None:
        """Nothing is asked of a call: workers end with the process that they work for."""

    def is_wanted(self, call: None) -> bool:
        return True

    def send(self, message: bytes) -> None:
        with self._lock:
            if self._values:
                self._held.append(message)
            else:
                self._push(message)

    def keep(self, value: Any) -> str | None:
        with self._lock:
            if self._count == self._most_values:
                return None
            key = f"{self._call}#{self._count}"
            self._count += 1
            self._values.append(value)
            return key

    def hand_over(self) -> Iterator[Any]:
        """Gives the values that wait to be handed over; then the messages that waited for them go out."""
        while self._values:
            yield from self.take_values()
        with self._lock:
            held, self._held = self._held, []
            for message in held:
                self._push(message)

    def take_values(self) -> list[Any]:
        with self._lock:
            values, self._values = self._values, []
            return values

    def close(self, content: bytes | None) -> Report:
        """Returns what goes back with the call, of which `content` is the last message.

        Where code goes on that cannot be interrupted, the flow's process is told instead, and ends this one (D20).
        """
        if content is not None and is_stuck():
            with self._lock:
                self._push(content)
            threading.Event().wait(KILL_SECONDS)
            content = None
        with self._lock:
            messages = [*self._unacknowledged(), *self._held, *([] if content is None else [content])]
            self._sent, self._held = [], []
            is_listening, self._is_listening = self._is_listening, False
        if is_listening:
            _listeners.leave(self._mailbox)
        return (*_here(), self._count, messages)

    def _push(self, message: bytes) -> None:
        try:
            mailbox = _mailboxes.get(self._mailbox)
            reference = mailbox.push.remote(*_here(), message)
        except (RayError, ValueError):  # the mailbox is gone: the message goes back with the call
            self._sent.append((None, message))
            return
        self._sent.append((reference, message))
        if len(self._sent) > MOST_SENT:
            self._sent = [entry for entry in self._sent if not _has_arrived(entry[0])]
        if not self._is_listening:
            self._is_listening = True
            _listeners.join(self._mailbox)

    def _unacknowledged(self) -> list[bytes]:
        return [message for reference, message in self._sent if not _has_arrived(reference)]


def _has_arrived(reference: Any) -> bool:
    if reference is None or not ray.wait([reference], timeout=0)[0]:
        return False
    try:
        ray.get(reference)
    except RayError:
        return False
    return True


@cache
def _here() -> tuple[str, str]:
    """Returns the names of this worker and of its node."""
    context = ray.get_runtime_context()
    return f"ray-{ray.util.get_node_ip_address()}-{os.getpid()}", context.get_node_id()


class _Mailboxes:
    """The mailboxes that this worker has written to. ``_lock`` guards them."""

    def __init__(self, most: int = 16) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._known: dict[MailboxAddress, Any] = {}

    def get(self, address: MailboxAddress) -> Any:
        """Returns a mailbox. Raises ValueError: it is gone."""
        with self._lock:
            mailbox = self._known.get(address)
            if mailbox is None:
                mailbox = self._known[address] = ray.get_actor(*address)
                while len(self._known) > self._most:
                    self._known.pop(next(iter(self._known)))
            return mailbox


class _Listeners:
    """Threads that bring commands, one for each mailbox, there while a block that has reported runs.

    ``_lock`` guards the counts of such blocks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: dict[MailboxAddress, int] = {}
        self._listening: set[MailboxAddress] = set()

    def join(self, address: MailboxAddress) -> None:
        with self._lock:
            self._blocks[address] = self._blocks.get(address, 0) + 1
            if address in self._listening:
                return
            self._listening.add(address)
        threading.Thread(target=self._listen, args=(address,), name="core-engine-commands", daemon=True).start()

    def leave(self, address: MailboxAddress) -> None:
        with self._lock:
            self._blocks[address] -= 1
            if not self._blocks[address]:
                del self._blocks[address]

    def _listen(self, address: MailboxAddress) -> None:
        while self._goes_on(address):
            try:
                commands = ray.get(_mailboxes.get(address).commands.remote(_here()[0]))
            except (RayError, ValueError):  # the mailbox is gone, and with it whoever would send
                with self._lock:
                    self._listening.discard(address)
                return
            for command in commands:
                receive_command(command)

    def _goes_on(self, address: MailboxAddress) -> bool:
        with self._lock:
            if address not in self._blocks:
                self._listening.discard(address)
                return False
            return True


_mailboxes = _Mailboxes()
_listeners = _Listeners()
