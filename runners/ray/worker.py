"""What Ray calls on a worker, and the way from there to the flow's process."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError

from core_engine.remote import Values, execute_block, execute_in_turns, is_stuck, receive_command
from runners.ray import head

LARGEST_MESSAGE = 64 * 1024
# How long a process in which code goes on waits for its end, which the flow's process brings about.
KILL_SECONDS = 10.0
SEND_AGAIN_SECONDS = 0.1
# So many messages that are not known to have arrived are looked through for those that are.
MOST_SENT = 50

# So many messages of a call that find no mailbox are left with Ray's head: soon there is one, or the flow run is over.
MOST_LEFT = 100

# Name and namespace of a mailbox.
MailboxAddress = tuple[str, str]


class Order(NamedTuple):
    """What a call is to do, as one argument: Ray takes longer for each argument than for its bytes.

    Attributes:
        mailbox: The way to the flow's process.
        call: Name of the block.
        payload: The block.
        shared: What many blocks share; None: it comes as an argument of its own, since it lies on the cluster.
        most_values: How many values the call can leave on the cluster; None: any number.
    """

    mailbox: MailboxAddress
    call: str
    payload: bytes
    shared: Sequence[bytes | None]
    most_values: int | None

    def encode(self) -> bytes:
        return pickle.dumps(tuple(self), protocol=5)

    @classmethod
    def decode(cls, content: bytes) -> Order:
        return cls(*pickle.loads(content))


class Report(NamedTuple):
    """What a call returns, as bytes: Ray takes longer for anything else.

    Attributes:
        worker, node: Who executed it, and where.
        values: How many values it left on the cluster.
        refused: How many more it would have left, if it could. They are in the messages.
        messages: Its last ones, in order.
    """

    worker: str
    node: str
    values: int
    refused: int
    messages: Sequence[bytes]

    def encode(self) -> bytes:
        return pickle.dumps(tuple(self), protocol=5)

    @classmethod
    def decode(cls, content: bytes) -> Report:
        return cls(*pickle.loads(content))


def execute(content: bytes, *inputs: Any) -> bytes:
    """Executes a block: returns its report. For one that is to leave no values on the cluster.

    Parameters:
        content: The order.
        inputs: What lies on the cluster: shared contents, then large values.
    """
    order = Order.decode(content)
    road = RayWorkerRoad(order.mailbox, order.call, order.most_values)
    return road.close(execute_block(order.payload, *_laid_out(order, inputs), road))


def execute_at_once(content: bytes, *inputs: Any) -> tuple[bytes, Any]:
    """Executes a block: returns its report, and the value that stays on the cluster, if any. For a block of one run.

    Parameters as ``execute``.
    """
    order = Order.decode(content)
    road = RayWorkerRoad(order.mailbox, order.call, order.most_values)
    last = execute_block(order.payload, *_laid_out(order, inputs), road)
    values = road.take_values()
    return road.close(last), values[0] if values else None


def execute_by_and_by(content: bytes, *inputs: Any) -> Iterator[Any]:
    """Executes a block: gives values that stay on the cluster while it runs, at last its report. For several runs.

    Parameters as ``execute``.
    """
    order = Order.decode(content)
    road = RayWorkerRoad(order.mailbox, order.call, order.most_values)
    turns = execute_in_turns(order.payload, *_laid_out(order, inputs), road)
    last, is_over = None, False
    while not is_over:
        try:
            next(turns)
        except StopIteration as end:
            last, is_over = end.value, True
        for value in road.hand_over():  # noqa: UP028 Ray sends something into this very generator
            yield value
    yield road.close(last)


def _laid_out(order: Order, inputs: Sequence[Any]) -> tuple[list[Any], Values]:
    """Returns what many blocks share, as bytes or views of them, and the large values of this one."""
    given = iter(inputs)
    shared = [next(given).content if content is None else content for content in order.shared]
    return shared, Values(list(given))


class RayWorkerRoad:
    """The worker's end of the road, for one call.

    Messages go through the mailbox. As long as there is none they are left with Ray's head, so that the flow's process
    has them though this one dies. Those that are not known to have arrived go back with the call once more. Values
    belong to the flow's process from the moment that the call hands them over, so that they outlive this worker (D12);
    until then no message goes out, since it may speak of them.

    ``_lock`` guards what is kept and sent: threads of the call, of the user and the pulse come here.

    Parameters:
        mailbox, call, most_values: As in ``Order``.
    """

    largest_message = LARGEST_MESSAGE
    returns_last = True

    def __init__(self, mailbox: MailboxAddress, call: str, most_values: int | None) -> None:
        self._mailbox = mailbox
        self._call = call
        self._most_values = most_values
        self._lock = threading.Lock()
        self._count = 0
        self._refused = 0
        self._values: list[Any] = []
        self._held: list[bytes] = []
        self._sent: list[tuple[Any, bytes]] = []
        self._left = 0
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

    def send_again(self) -> None:
        with self._lock:
            if all(reference is not None for reference, _ in self._sent):
                return
            for number, (reference, message) in enumerate(self._sent):
                if reference is None:
                    reference = self._pushed(message)
                    if reference is None:  # there is still no mailbox, and it is not asked for with each message
                        break
                    self._sent[number] = (reference, message)
        # Looked for once more when the mailbox has opened: from then on they come by that.
        for command in self._left_commands():
            receive_command(command)

    def keep(self, value: Any) -> str | None:
        with self._lock:
            if self._count == self._most_values:
                self._refused += 1
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

    def close(self, content: bytes | None) -> bytes:
        """Returns the report that goes back with the call, of which `content` is the last message.

        Where code goes on that cannot be interrupted, the flow's process is told instead, and ends this one (D20).
        Where that is late, or in vain, this process ends itself: Ray would take it for idle.
        """
        if content is not None and is_stuck():
            with self._lock:
                self._push(content)
            content = None
            self._wait_for_the_end()
            self._exit_unless_needed()
        with self._lock:
            messages = [*self._unacknowledged(), *self._held, *([] if content is None else [content])]
            self._sent, self._held = [], []
            is_listening, self._is_listening = self._is_listening, False
        if is_listening:
            _listeners.leave(self._mailbox)
        return Report(*_here(), self._count, self._refused, messages).encode()

    def _wait_for_the_end(self) -> None:
        over = time.monotonic() + KILL_SECONDS
        while time.monotonic() < over:
            time.sleep(SEND_AGAIN_SECONDS)
            self.send_again()

    def _exit_unless_needed(self) -> None:
        """Ends this process, unless it has something to say that only the call can take along."""
        with self._lock:
            if not self._unacknowledged() and not self._held:
                os._exit(1)

    def _push(self, message: bytes) -> None:
        reference = self._pushed(message)
        self._sent.append((reference, message))
        if reference is None:
            self._leave(message)
        if len(self._sent) > MOST_SENT:
            self._sent = [entry for entry in self._sent if not _has_arrived(entry[0])]

    def _pushed(self, message: bytes) -> Any:
        """Returns the reference to a message's arrival; None: there is no mailbox yet, or no more."""
        try:
            reference = _mailboxes.get(self._mailbox).push.remote(*_here(), message)
        except (RayError, ValueError):
            return None
        if not self._is_listening:
            self._is_listening = True
            _listeners.join(self._mailbox)
        return reference

    def _leave(self, message: bytes) -> None:
        if self._left >= MOST_LEFT:
            return
        self._left += 1
        with suppress(RayError):  # it goes back with the call in any case
            head.leave(f"{head.up(self._mailbox[0])}/{self._call}", self._left, (self._call, *_here(), message))

    def _left_commands(self) -> list[bytes]:
        try:
            return head.take(f"{head.down(self._mailbox[0])}/{_here()[0]}/")
        except RayError:
            return []

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
        # With the answer that tells that it is open, None once that has come.
        self._known: dict[MailboxAddress, tuple[Any, Any]] = {}

    def get(self, address: MailboxAddress) -> Any:
        """Returns a mailbox. What is sent to one that is not open yet goes with this process if that dies.

        Raises:
            ValueError: It is not open yet, or it is gone.
        """
        with self._lock:
            known = self._known.get(address)
            if known is None:
                actor = ray.get_actor(*address)
                known = self._known[address] = (actor, actor.is_open.remote())
                while len(self._known) > self._most:
                    self._known.pop(next(iter(self._known)))
            mailbox, opening = known
            if opening is not None:
                if not _has_arrived(opening):
                    raise ValueError(f"The mailbox {address[0]} is not open yet.")
                self._known[address] = (mailbox, None)
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
