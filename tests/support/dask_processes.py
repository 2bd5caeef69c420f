"""A scheduler and workers of Dask in processes of their own, as the commands `dask scheduler` and `dask worker` start
them, and certificates for them."""

import datetime
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.support.waiting import wait_for

PATIENCE = 40.0


class DaskProcesses:
    """A scheduler, and workers that join it, on this host.

    Parameters:
        folder: Where they write.
        options: More arguments for all commands, such as certificates.
        environment: Variables that all of them see beside this process's.
    """

    def __init__(self, folder: Path, options: Sequence[str] = (), environment: dict[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.options = list(options)
        self.environment = environment or {}
        self.workers: list[subprocess.Popen[bytes]] = []
        self._file = folder / "scheduler.json"
        self.scheduler = self._start(
            "scheduler", "--port", "0", "--dashboard-address", ":0", "--scheduler-file", str(self._file)
        )
        wait_for(self._is_up, "the scheduler's start")
        self.address: str = json.loads(self._file.read_text())["address"]

    def _is_up(self) -> bool:
        assert self.scheduler.poll() is None, self.output()
        try:
            return bool(json.loads(self._file.read_text()))
        except (OSError, ValueError):
            return False

    def start_worker(self, *options: str, address: str | None = None) -> subprocess.Popen[bytes]:
        """Start a worker of one thread; it has joined when a client says so.

        Parameters:
            options: More arguments of `dask worker`.
            address: How it finds the scheduler; None: directly.
        """
        folder = str(self.folder / f"worker-{len(self.workers)}")
        worker = self._start(
            *("worker", address or self.address, "--nthreads", "1", "--no-dashboard"),
            *("--local-directory", folder, *options),
        )
        self.workers.append(worker)
        return worker

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        place = () if "--listen-address" in arguments else ("--host", "127.0.0.1")
        output = (self.folder / "output").open("ab")
        with output:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments, *place, *self.options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.environment},
            )

    def output(self) -> str:
        """Return what the processes have written."""
        return (self.folder / "output").read_text()

    def close(self) -> None:
        """End all processes, at once."""
        for process in (self.scheduler, *self.workers):
            kill(process)


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and those below it."""
    below: list[psutil.Process] = []
    if process.poll() is None:
        below = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    process.wait()
    for child in below:
        try:
            child.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a key and a certificate that signs itself, for 127.0.0.1; return the paths of certificate and key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "core-engine tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_path, key_path


def expect_clean(client: Any) -> None:
    """Wait until nothing of ours is in a scheduler any more."""
    deadline = time.monotonic() + PATIENCE / 2
    while any((left := client.run_on_scheduler(leftovers)).values()):
        assert time.monotonic() < deadline, f"left in the scheduler: {left}"
        time.sleep(0.02)


def leftovers(dask_scheduler: Any = None) -> dict[str, list[str]]:
    """Return what a client left in a scheduler: to be run there."""
    topics = dask_scheduler._broker._topics
    return {
        "tasks": list(dask_scheduler.tasks),
        "plugins": [name for name in dask_scheduler.plugins if "core-engine" in name],
        # What the scheduler itself says under a client's topic is no text of ours.
        "messages": [name for name, topic in topics.items() if any(type(event[1]) is bytes for event in topic.events)],
        "groups": list(dask_scheduler.task_groups),
    }
