"""Runs to log in, a sink that remembers, and logging as a new process finds it."""

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from core_engine.context import FlowRunContext, TaskRunContext
from core_engine.logging import LogEntry, configuration
from core_engine.logging.handlers import APILogHandler
from core_engine.schemas.records import FlowRun, TaskRun

_numbers = itertools.count()
OUR_LOGGERS = ("", "core_engine", "core_engine.flow_runs", "core_engine.task_runs", "core_engine.extra")


class RecordingSink:
    """Keeps the entries it is given."""

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []
        self.flushes: list[float] = []

    def append_log(self, entry: LogEntry) -> None:
        self.entries.append(entry)

    def flush(self, timeout_seconds: float) -> bool:
        self.flushes.append(timeout_seconds)
        return True

    @property
    def messages(self) -> list[str]:
        return [entry.message for entry in self.entries]


@dataclass
class Runs:
    """Makes contexts of runs whose lines go to one sink."""

    sink: Any = field(default_factory=RecordingSink)

    @property
    def client(self) -> SimpleNamespace:
        return SimpleNamespace(log_sink=self.sink)

    def flow(self, **fields: Any) -> FlowRunContext:
        name = fields.pop("name", f"flow-run-{next(_numbers)}")
        flow_run = FlowRun(id=uuid4(), name=name, flow_name="my-flow")
        flow = SimpleNamespace(name="my-flow")
        return FlowRunContext(**{"flow": flow, "flow_run": flow_run, "client": self.client, **fields})

    def task(self, flow_run_id: UUID, **fields: Any) -> TaskRunContext:
        name = fields.pop("name", f"task-run-{next(_numbers)}")
        task_run = TaskRun(
            id=uuid4(), name=name, flow_run_id=flow_run_id, task_key="t", task_name="my-task", dynamic_key="0"
        )
        return TaskRunContext(
            **{"task": SimpleNamespace(name="my-task"), "task_run": task_run, "client": self.client, **fields}
        )


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def sink(runs: Runs) -> RecordingSink:
    return runs.sink


@pytest.fixture
def new_process_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logging as if nobody had set it up; afterwards it is as it was."""
    loggers = [logging.getLogger(name) for name in OUR_LOGGERS]
    saved = [(logger.handlers[:], logger.level, logger.propagate, logger.disabled) for logger in loggers]
    for logger in loggers[1:]:
        logger.handlers, logger.level, logger.propagate, logger.disabled = [], logging.NOTSET, True, False
    monkeypatch.setattr(configuration, "_installation", configuration._Installation())
    yield
    for logger, (handlers, level, propagate, disabled) in zip(loggers, saved, strict=True):
        logger.handlers, logger.level, logger.propagate, logger.disabled = handlers, level, propagate, disabled
    logging.root.manager._clear_cache()  # type: ignore[attr-defined]


@pytest.fixture
def api_handler(new_process_logging: None) -> APILogHandler:
    """The handler, on the loggers of runs."""
    handler = APILogHandler()
    for name in ("core_engine.flow_runs", "core_engine.task_runs"):
        logging.getLogger(name).addHandler(handler)
    logging.getLogger("core_engine").setLevel(logging.INFO)
    return handler
