"""What the fault tests share: signals at a known moment, and scripts in processes of their own."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Seconds that a test waits for what must happen; only a failing test waits that long.
PATIENCE = 20.0


class Moment(threading.Event):
    """Something that user code says has come, and that another thread waits for."""

    def come(self) -> None:
        self.set()

    def await_it(self) -> None:
        assert self.wait(PATIENCE), "the moment did not come"


@contextmanager
def sends(number: int, at: Moment) -> Iterator[None]:
    """Send a signal to this process at a moment inside the block."""

    def send() -> None:
        at.await_it()
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send, name="test-sender", daemon=True)
    thread.start()
    yield
    thread.join(PATIENCE)


def spin(seconds: float = PATIENCE) -> None:
    """Run Python code without a pause."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass


class Script:
    """A Python script in a process of its own, which shares the test's home."""

    def __init__(self, path: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.lines: list[str] = []

    def read_line(self) -> str:
        """Wait for the script's next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the script has ended: {self.end()}"
        self.lines.append(line.strip())
        return self.lines[-1]

    def await_line(self, line: str) -> None:
        """Wait until the script has printed a line."""
        while self.read_line() != line:
            pass

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, timeout_seconds: float = PATIENCE) -> tuple[int, str]:
        """Wait for the script's end; return its exit code and what it wrote to stderr."""
        out, errors = self.process.communicate(timeout=timeout_seconds)
        self.lines += out.splitlines()
        return self.process.returncode, errors

    def await_end(self, timeout_seconds: float) -> None:
        """Wait for the script's end.

        Raises:
            TimeoutError: It goes on.
        """
        try:
            self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None


@contextmanager
def script(folder: Path, source: str, **environment: str) -> Iterator[Script]:
    """Run a script for the length of the block; killed if it has not ended then."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(source))
    # Started by something that ignores SIGINT, a Python process ignores it too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    running = Script(path, **environment)
    signal.signal(signal.SIGINT, before)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def states_of(records: Any) -> list[str]:
    return [record.state_type.value for record in records]
