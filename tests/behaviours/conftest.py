"""Fixtures of the behaviour tests."""

import logging
from collections.abc import Iterator

import pytest

from core_engine.task_runners import BaseTaskRunner
from runners.concurrent import ConcurrentTaskRunner
from runners.sequential import SequentialTaskRunner


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=[SequentialTaskRunner, ConcurrentTaskRunner], ids=["sequential", "concurrent"])
def runner(request: pytest.FixtureRequest) -> BaseTaskRunner:
    """Each task runner of this process in turn."""
    return request.param()


class LogRecords(logging.Handler):
    """Every record of the library's loggers while a test runs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record not in self.records:
            self.records.append(record)

    @property
    def text(self) -> str:
        formatter = logging.Formatter("%(levelname)s %(name)s %(message)s")
        return "\n".join(formatter.format(record) for record in self.records)

    def messages(self, level: int | None = None) -> list[str]:
        return [record.getMessage() for record in self.records if level is None or record.levelno == level]


@pytest.fixture
def log() -> Iterator[LogRecords]:
    """Collects what the library logs, at every level."""
    from core_engine.logging.configuration import setup_logging

    setup_logging()
    handler = LogRecords()
    loggers = [logging.getLogger(name) for name in ("core_engine", "core_engine.flow_runs", "core_engine.task_runs")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    yield handler
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)
