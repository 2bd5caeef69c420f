"""A proxy for TCP connections that can stop forwarding, as a network does that is interrupted, or break them off."""

import contextlib
import socket
import threading
from collections.abc import Mapping


class TcpProxy:
    """Forwards connections to an address.

    ``_lock`` guards the list of sockets, to which accepting adds and from which breaking takes.

    Parameters:
        target: Host and port; connected to with each connection that comes.
        host: Where it listens; "" is everywhere.
    """

    def __init__(self, target: tuple[str, int], host: str = "127.0.0.1") -> None:
        self._target = target
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, 0))
        self.place = ("127.0.0.1", self._listener.getsockname()[1])
        self.address = f"tcp://127.0.0.1:{self.place[1]}"
        self._accepting = self._start(self._accept)

    def stop_forwarding(self) -> None:
        """Hold back what is sent, in both directions, until ``go_on``; no connection notices."""
        self._open.clear()

    def go_on(self) -> None:
        """Forward what was held back, and everything else."""
        self._open.set()

    def break_off(self) -> None:
        """Close all connections; new ones are taken."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        """Break off, and take no connection any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.go_on()
        self.break_off()
        self._accepting.join()
        self.break_off()  # what came meanwhile
        for thread in self._threads:
            thread.join()

    def _start(self, target: object, *args: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, name="tcp-proxy", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return  # closed
            with self._lock:
                self._sockets.append(here)
            try:
                there = self._connect(here)
            except OSError:
                here.close()
                continue
            with self._lock:
                self._sockets.append(there)
            self._start(self._forward, here, there)
            self._start(self._forward, there, here)

    def _connect(self, here: socket.socket) -> socket.socket:
        return socket.create_connection(self._target)

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while content := source.recv(65536):
                self._open.wait()
                sink.sendall(content)
        except OSError:
            pass  # broken off
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class HttpProxy(TcpProxy):
    """Connects as its clients ask for by HTTP's CONNECT, which is what gRPC does where `grpc_proxy` names one.

    Parameters:
        ways: By port: through which proxies connections to it go. Others go straight there.
    """

    def __init__(self, ways: Mapping[int, TcpProxy]) -> None:
        self._ways = ways
        super().__init__(("", 0))

    @property
    def url(self) -> str:
        return self.address.replace("tcp://", "http://")

    def _connect(self, here: socket.socket) -> socket.socket:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            content = here.recv(1)
            if not content:
                raise ConnectionError("no request")
            request += content
        host, _, port = request.split()[1].decode().rpartition(":")
        way = self._ways.get(int(port))
        here.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        return socket.create_connection(way.place if way else (host, int(port)))
