"""The one Ray that a process can be connected to: started by the first runner that needs it, ended by the last.

Ray's own processes end with the thread that started them, so that one named thread starts Ray and lives until it is
shut down (D24). A Ray that the process was connected to before is used and left running.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Mapping
from typing import Any

from core_engine.task_runners import Outcome
from runners.ray.signals import handlers_kept

NAMESPACE = "core-engine"
# Addresses of servers for Ray Client begin with it.
CLIENT = "ray://"
CONNECT_SECONDS = 5.0
# Shared memory for values on a temporary Ray; what does not fit is written to disk.
SHARE_OF_MEMORY = 0.1
LEAST_STORE_BYTES = 80 * 1024 * 1024
MOST_STORE_BYTES = 2 * 1024**3


class ProcessRay:
    """This process's connection to Ray.

    ``_lock`` guards the number of its users, the thread and the address; it is held while Ray starts and ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._thread: _RayThread | None = None
        self._address: str | None = None

    def acquire(self, address: str | None, init_kwargs: Mapping[str, Any], logger: logging.Logger) -> str:
        """Connects to Ray, starting one if there is none to connect to. Blocks; ``release`` must follow.

        Parameters:
            address: Of a Ray that runs; None: one that this process is connected to, or that the variable RAY_ADDRESS
                names; else a temporary one is started.
            init_kwargs: Arguments for ``ray.init``.
            logger: The runner's.

        Returns:
            Where Ray answers: "host:port" of its head, or "ray://host:port" of a server for Ray Client; "ray://" alone
            if that is not known.

        Raises:
            ConnectionError: Nothing answers at the address.
            RuntimeError: This process is connected to another Ray.
            Exception: What ``ray.init`` raised.
        """
        import ray

        with self._lock:
            if ray.is_initialized():
                here = self._address or _address_here()
                _check_same(address, here)
                logger.info("Using the Ray that this process is connected to, at %s", here)
                if init_kwargs and self._thread is None:
                    logger.warning("init_kwargs have no effect: the Ray at %s was initialised before.", here)
            else:
                thread = _RayThread(_chosen(address, init_kwargs, logger))
                here = self._address = thread.start_ray()
                self._thread = thread
                if thread.dashboard:
                    logger.info("The Ray dashboard is available at http://%s", thread.dashboard)
            self._users += 1
            return here

    def release(self) -> None:
        """Ends the use of Ray; the last user ends a Ray that was started, or connected to, by ``acquire``. Blocks."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._thread is not None:
                thread, self._thread, self._address = self._thread, None, None
                thread.stop_ray()


class _RayThread:
    """The thread that starts Ray, waits, and shuts it down.

    Parameters:
        options: Arguments for ``ray.init``.

    Attributes:
        dashboard: "host:port" of the dashboard of a Ray that has started, "" if there is none.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.dashboard = ""
        self._options = options
        self._started: Outcome[str] = Outcome()
        self._has_started = False
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="core-engine-ray", daemon=True)

    def start_ray(self) -> str:
        """Returns where Ray answers. Raises what ``ray.init`` raised."""
        self._thread.start()
        return self._started.wait_result()

    def stop_ray(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        import ray

        with handlers_kept():
            self._started.run(self._init)
        if self._has_started:
            self._is_over.wait()
        with handlers_kept():
            ray.shutdown()

    def _init(self) -> str:
        import ray

        # What Ray says at its start is of no use here: that this is not the main thread, and advice to operators.
        context = ray.init(**{"logging_level": logging.ERROR, **self._options})
        self.dashboard = getattr(context, "dashboard_url", None) or ""
        if "logging_level" not in self._options:
            logging.getLogger("ray").setLevel(logging.WARNING)
        self._has_started = True
        address: str = self._options["address"]
        return address if address.startswith(CLIENT) else _address_here()


def _address_here() -> str:
    """Returns where the Ray answers that this process is connected to; only CLIENT where nobody says, by Ray Client."""
    import ray
    from ray.util import client

    return CLIENT if client.ray.is_connected() else str(ray.get_runtime_context().gcs_address)


def _chosen(address: str | None, init_kwargs: Mapping[str, Any], logger: logging.Logger) -> dict[str, Any]:
    """Returns the arguments for ``ray.init``."""
    options: dict[str, Any] = {"namespace": NAMESPACE, **init_kwargs}
    wanted = address or os.environ.get("RAY_ADDRESS") or None
    if wanted is not None and wanted != "local":
        logger.info("Connecting to an existing Ray at %s", wanted)
        _check_answers(wanted)
        return {**options, "address": wanted}
    if init_kwargs.get("include_dashboard"):
        _check_dashboard()
    logger.info("Starting a temporary Ray")
    return {
        "include_dashboard": False,
        "log_to_driver": False,
        "object_store_memory": _store_bytes(),
        **options,
        "address": "local",
    }


def _check_dashboard() -> None:
    """Finds out that a dashboard cannot start before Ray does, which then says less."""
    try:
        import ray.dashboard.optional_deps  # noqa: F401
    except ImportError as error:
        raise ModuleNotFoundError(
            f'A Ray dashboard needs packages that are not installed ({error}): pip install "ray[default]"',
            name=error.name,
        ) from error


def _store_bytes() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min(MOST_STORE_BYTES, max(LEAST_STORE_BYTES, memory * SHARE_OF_MEMORY)))


def _check_same(address: str | None, here: str) -> None:
    if address in (None, "auto", "local", here) or _resolved(address) == _resolved(here):
        return
    if here == CLIENT and str(address).startswith(CLIENT):
        return
    raise RuntimeError(
        f"This process is connected to the Ray at {here}, and a process can be connected to one only; {address} cannot "
        "be used as well. Leave the address out to use the same, or call the flow in another process."
    )


def _resolved(address: str | None) -> str:
    host, _, port = (address or "").rpartition(":")
    try:
        return f"{socket.gethostbyname(host)}:{port}"
    except OSError:
        return address or ""


def _check_answers(address: str) -> None:
    """Finds out within seconds that nothing is there, for which Ray itself takes a minute."""
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        answers(host, int(port))
    except OSError as error:
        raise ConnectionError(f"No Ray answers at {address} within {CONNECT_SECONDS:.0f} seconds: {error}") from error


def answers(host: str, port: int) -> None:
    """Raises OSError if nothing listens there."""
    socket.create_connection((host, port), CONNECT_SECONDS).close()


process_ray = ProcessRay()
