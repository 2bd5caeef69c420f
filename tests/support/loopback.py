"""The smallest cluster: processes of this host at the ends of pipes. Tests of remote execution need no other."""

import itertools
import multiprocessing
import os
import pickle
import signal
import threading
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from typing import Any, Self

from core_engine.remote import Block, RemoteSession, RemoteTaskRunner, WorkerLost, unpacked

LARGEST_MESSAGE = 16 * 1024


class LoopbackWorkerRoad:
    """The worker's end. Arrives empty, and finds the pipe of the process that it is used in."""

    largest_message = LARGEST_MESSAGE
    returns_last = False

    @property
    def worker(self) -> str:
        return f"loopback-{os.getpid()}"

    def this_call(self) -> None:
        """Nothing is asked of a call: workers end with the process that they work for."""

    def is_wanted(self, call: None) -> bool:
        return True

    def send(self, message: bytes) -> None:
        _worker.send(("message", message))

    def send_again(self) -> None:
        """Nothing is kept back."""

    def keep(self, value: Any) -> str:
        key = uuid.uuid4().hex
        _worker.send(("kept", key, pickle.dumps(value)))
        return key


class _Worker:
    """A worker process: one thread for the pipe, one for each call."""

    def __init__(self) -> None:
        self.pipe: Connection | None = None
        self.lock = threading.Lock()

    def send(self, message: Any) -> None:
        assert self.pipe is not None
        with self.lock:
            self.pipe.send(message)

    def serve(self, pipe: Connection) -> None:
        from core_engine.remote import receive_command

        self.pipe = pipe
        while True:
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                os._exit(0)
            if message[0] == "command":
                receive_command(message[1])
            else:
                threading.Thread(target=self.call, args=message, daemon=True).start()

    def call(self, kind: str, name: str, *arguments: Any) -> None:
        from core_engine.remote import Values, execute_block
        from core_engine.remote.calls import run_call

        if kind == "block":
            payload, common, values = arguments
            loaded = Values([pickle.loads(value) for value in values])
            self.send(("done", name, execute_block(payload, common, loaded, LoopbackWorkerRoad())))
        else:
            self.send(("done", name, run_call(*arguments)))


_worker = _Worker()


def _serve(pipe: Connection, prepare: Callable[[], None] | None) -> None:
    if prepare is not None:
        prepare()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker.serve(pipe)


class LoopbackProcess:
    """The flow's end of one worker process, which takes one block at a time."""

    def __init__(self, cluster: "LoopbackCluster") -> None:
        self.cluster = cluster
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, cluster.prepare), daemon=True)
        self.process.start()
        theirs.close()
        self.lock = threading.Lock()
        self.is_killed = False
        self.calls: dict[str, tuple[Any, Callable[..., None]]] = {}
        self.thread = threading.Thread(target=self.read, name="loopback", daemon=True)
        self.thread.start()

    @property
    def name(self) -> str:
        return f"loopback-{self.process.pid}"

    def read(self) -> None:
        while True:
            try:
                message = self.pipe.recv()
            except (EOFError, OSError):
                break
            if message[0] == "message":
                self.cluster.receive(message[1])
            elif message[0] == "kept":
                self.cluster.kept[message[1]] = message[2]
            else:
                self.calls.pop(message[1])[1](message[2], None)
                self.cluster.give()
        self.process.join()
        self.cluster.lose(self)
        for sent, done in list(self.calls.values()):
            if self.cluster.may_start_again and not self.cluster.closing:
                self.cluster.put(sent, done)
            else:
                done(None, WorkerLost(self.name, "Its process ended."))
        self.cluster.give()

    def send(self, message: Any) -> None:
        with self.lock:
            self.pipe.send(message)

    def kill(self) -> None:
        self.is_killed = True
        self.process.kill()

    def stop(self) -> None:
        self.kill()
        self.thread.join()
        self.pipe.close()


class LoopbackCluster:
    """Worker processes, and the road to them. A dead one is replaced; its calls are started again if the cluster may.

    ``prepare`` is called in each worker process before anything else.

    ``lock`` guards the queue and who is busy.
    """

    def __init__(
        self, workers: int = 2, may_start_again: bool = False, prepare: Callable[[], None] | None = None
    ) -> None:
        self.may_start_again = may_start_again
        self.prepare = prepare
        self.loses_commands = False
        self.lock = threading.RLock()
        self.receive: Callable[[bytes], None] = lambda message: None
        self.kept: dict[str, bytes] = {}
        self.queue: list[tuple[Any, Callable[..., None]]] = []
        self.sent: list[tuple[str, Any]] = []
        self.numbers = itertools.count()
        self.closing = False
        self.workers = [LoopbackProcess(self) for _ in range(workers)]

    # A road

    @property
    def slots(self) -> int:
        return len(self.workers)

    def listen(self, receive: Callable[[bytes], None]) -> None:
        self.receive = receive

    def on_workers(self, session: RemoteSession) -> None:
        """Nothing is to be learnt: one clock, and workers that are all alike."""

    def share(self, name: str, content: bytes) -> Any:
        self.sent.append((name, len(content)))
        return content

    def reference(self, key: str) -> Any:
        return self.kept[key]

    def fetch(self, key: str, timeout_seconds: float | None) -> Any:
        return unpacked(pickle.loads(self.kept[key]))

    def collect(self) -> None:
        """Messages come by themselves."""

    def release(self, key: str) -> None:
        self.kept.pop(key, None)

    def send(self, block: Block, done: Callable[..., None]) -> None:
        self.put(("block", block.name, block.payload, list(block.common), list(block.values)), done)

    def call(self, name: str, content: bytes, done: Callable[..., None]) -> None:
        self.put(("call", name, content), done)

    def revoke(self, name: str) -> None:
        with self.lock:
            self.queue = [entry for entry in self.queue if entry[0][1] != name]

    def kill(self, name: str) -> None:
        with self.lock:
            for process in self.workers:
                if name in process.calls:
                    process.kill()

    def command(self, worker: str, command: bytes) -> None:
        if self.loses_commands:
            return
        for process in self.workers:
            if process.name == worker:
                process.send(("command", command))

    # Inside

    def put(self, message: Any, done: Callable[..., None]) -> None:
        with self.lock:
            self.queue.append((message, done))
            self.sent.append((message[0], message))
        self.give()

    def give(self) -> None:
        with self.lock:
            for process in self.workers:
                if self.queue and not process.calls and not process.is_killed:
                    message, done = self.queue.pop(0)
                    process.calls[message[1]] = (message, done)
                    process.send(message)

    def lose(self, process: LoopbackProcess) -> None:
        with self.lock:
            if not self.closing and process in self.workers:
                self.workers[self.workers.index(process)] = LoopbackProcess(self)

    def close(self) -> None:
        with self.lock:  # whoever replaces a dead worker just now has done so, or does not
            self.closing = True
        for process in self.workers:
            process.stop()


class LoopbackRunner(RemoteTaskRunner):
    """Runs calls in the processes of a cluster that is there already."""

    clusters: dict[int, LoopbackCluster] = {}

    def __init__(self, number: int, retries: int = 0) -> None:
        super().__init__()
        self.number = number
        self.retries = retries

    @classmethod
    def of(cls, cluster: LoopbackCluster, retries: int = 0) -> Self:
        cls.clusters[id(cluster)] = cluster
        return cls(id(cluster), retries)

    def duplicate(self) -> Self:
        return type(self)(self.number, self.retries)

    def _lost_retries(self, annotations: Any) -> int:
        return self.retries

    async def _connect(self, exit_stack: AsyncExitStack) -> Any:
        return self.clusters[self.number]
