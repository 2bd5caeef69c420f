"""A proxy for TCP connections that can stop forwarding, as a network does that is interrupted, or break them off."""

import contextlib
import socket
import threading


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
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

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
        for thread in self._threads:
            thread.join()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="tcp-proxy", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return  # closed
            try:
                there = socket.create_connection(self._target)
            except OSError:
                here.close()
                continue
            with self._lock:
                self._sockets += [here, there]
            self._start(self._forward, here, there)
            self._start(self._forward, there, here)

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
