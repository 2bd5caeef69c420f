"""The parent's handle on a worker process."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
# How long a worker may take for one command, or to end.
ANSWER_SECONDS = 300.0
END_SECONDS = 15.0

# No line on the terminal: what is stored, and nothing else.
NO_CONSOLE = {"CORE_ENGINE_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
# Nothing at INFO, neither stored nor shown.
QUIET = {"CORE_ENGINE_LOGGING_LEVEL": "WARNING"}


class WorkerError(RuntimeError):
    """A worker died, took too long, or its contender raised; the message says which and why."""


class ContenderError(WorkerError):
    """A contender raised; its process lives, and may be asked again."""


@dataclass(slots=True, frozen=True)
class Spec:
    """A contender, as a worker can make it.

    Attributes:
        name: What it is called in results; unique among those that are measured together.
        target: "module:class".
        arguments: Of the class; anything JSON can say.
        environment: Variables that its process has beside the others.
        records: Whether it leaves anything behind.
    """

    name: str
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    records: bool = True


def engine_spec(name: str, case: str, runner: str, environment: Mapping[str, str] | None = None) -> Spec:
    """Returns the spec of one of the engine's flows."""
    arguments = {"case": case, "runner": runner}
    return Spec(name, "benchmarks.contenders.engine:EngineFlow", arguments, environment or {})


def clean_environment(home: Path) -> dict[str, str]:
    """Returns the environment without settings of the engine, but for the synchronous mode, and with `home`."""
    kept = {"CORE_ENGINE_DATABASE_SYNCHRONOUS"}
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("CORE_ENGINE_") or name in kept
    }
    environment.update(CORE_ENGINE_HOME=str(home), PYTHONPATH=str(ROOT), PYTHONHASHSEED="0")
    return environment


class Worker:
    """A contender in a process of its own.

    Parameters:
        spec: The contender.
        folder: For its log, and for a home that is used by what has none of its own.
        command: The program and its arguments; None: this interpreter and ``benchmarks.worker``.
        environment: Of the process; None: ours, cleaned.
    """

    def __init__(
        self, spec: Spec, folder: Path, command: list[str] | None = None, environment: dict[str, str] | None = None
    ) -> None:
        self.spec = spec
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "output.log"
        description = json.dumps({"target": spec.target, "arguments": dict(spec.arguments)})
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*(command or [sys.executable, "-m", "benchmarks.worker"]), description],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT if environment is None else folder,
                env={**(environment or clean_environment(folder / "home")), **spec.environment},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, **command: Any) -> None:
        """Sends a command without waiting for its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def answer(self, timeout_seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Returns the answer to the last command.

        Raises:
            ContenderError: The contender raised.
            WorkerError: The worker died, or the time is over.
        """
        assert self._process.stdout is not None
        # One answer to one command: nothing is ever left in the buffer of the reader.
        if not select.select([self._process.stdout], [], [], timeout_seconds)[0]:
            raise WorkerError(f"{self.spec.name} did not answer within {timeout_seconds:.0f} seconds.{self._tail()}")
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContenderError(f"{self.spec.name} raised:\n{answer['error']}")
        return answer

    def ask(self, timeout_seconds: float = ANSWER_SECONDS, **command: Any) -> dict[str, Any]:
        """Sends a command and returns its answer; raises as ``answer``."""
        self.tell(**command)
        return self.answer(timeout_seconds)

    def stop(self) -> None:
        """Ends the process: by the end of its input, and by force if that does not help."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _died(self) -> WorkerError:
        code = self._process.wait()
        return WorkerError(f"The process of {self.spec.name} ended with exit code {code}.{self._tail()}")

    def _tail(self) -> str:
        text = self.log.read_text(errors="replace")[-2_000:]
        return f" The end of its output:\n{text}" if text else ""
