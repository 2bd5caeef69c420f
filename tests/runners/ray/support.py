"""What tests on Ray have in common."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from core_engine import get_client
from core_engine.concurrency.waiting import step
from tests.support.waiting import wait_for

PATIENCE = 20.0


def messages(flow_run_id: Any) -> list[str]:
    """Return the stored lines of a flow run."""
    return [stored.entry.message for stored in step(get_client().read_logs(flow_run_id))]


def leftovers(killed: bool = False) -> dict[str, Any]:
    """Return what calls have left, or still use, of the Ray that this process is connected to.

    Parameters:
        killed: Whether their flow's process was killed: then a last message of a worker may lie with the head.
    """
    import ray

    from runners.ray import head

    there, free = ray.cluster_resources(), ray.available_resources()
    return {
        "actors": [actor for actor in ray._private.state.actors().values() if actor["State"] != "DEAD"],
        "with the head": [] if killed else [key for place in (head.up(""), head.down("")) for key in keys_at(place)],
        "in use": {name: most - free.get(name, 0) for name, most in there.items() if free.get(name, 0) < most},
    }


def keys_at(place: str) -> list[bytes]:
    """Return what lies with Ray's head in places whose names begin so."""
    from ray.experimental.internal_kv import _internal_kv_list

    from runners.ray import head

    return list(_internal_kv_list(place.encode(), namespace=head.NAMESPACE))


def expect_clean(killed: bool = False) -> None:
    """Wait until nothing of ours is on the Ray that this process is connected to; `killed` as in ``leftovers``."""
    deadline = time.monotonic() + PATIENCE
    while any((left := leftovers(killed)).values()):
        assert time.monotonic() < deadline, f"left on Ray: {left}"
        time.sleep(0.02)


# A busy machine may take longer than Ray Client's server expects of it.
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "50"}


class RayProcesses:
    """A head and workers as `ray start` makes them, each a process of its own with children.

    Parameters:
        folder: Where Ray keeps what it writes; its path must be short, since sockets lie below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.address = f"127.0.0.1:{free_port()}"
        self.client_address = f"ray://127.0.0.1:{free_port()}"

    def start_head(
        self, num_cpus: int = 1, environment: Mapping[str, str] | None = None, options: Sequence[str] = ()
    ) -> None:
        port = self.address.rpartition(":")[2]
        client = f"--ray-client-server-port={self.client_address.rpartition(':')[2]}"
        place = ("--head", f"--port={port}", client, f"--temp-dir={self.folder}")
        self._start(f"--num-cpus={num_cpus}", *place, *options, environment=environment)
        wait_for(lambda: can_connect(self.address), seconds=40)

    def start_worker(
        self,
        environment: Mapping[str, str] | None = None,
        address: str | None = None,
        options: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a node of one CPU; `address` is where it finds the head, None: at its own address."""
        return self._start("--num-cpus=1", f"--address={address or self.address}", *options, environment=environment)

    def _start(self, *options: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        store = "--object-store-memory=80000000"
        with (self.folder / "start.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, *options, store],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **ENVIRONMENT, **(environment or {})},
            )
        self.processes.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a node with everything that it runs."""
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        for one in [*children, process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()
        psutil.wait_procs(children, timeout=PATIENCE)

    def close(self) -> None:
        for process in reversed(self.processes):
            self.kill(process)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def can_connect(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True
