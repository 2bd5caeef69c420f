"""Flow runs that were kept as long as the setting says go by themselves, with the files of their results."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core_engine import flow
from core_engine.backend import open_backend
from core_engine.engine import requests
from core_engine.settings import temporary_settings
from core_engine.testing import leaping_clock

pytestmark = pytest.mark.behaviour("D31")

PATIENCE = 20.0


@flow(persist_result=True)
def census(number: int) -> list[int]:
    return [number]


@flow
def waits_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


@pytest.fixture
def like_a_new_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What is done once in the life of a process is done again with the next flow run."""
    return lambda: monkeypatch.setattr(requests, "_watches", {})


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What the engine warns of; taken at its logger, which need not propagate once logging is set up."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Lines(logging.WARNING)
    logger = logging.getLogger("core_engine.engine")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def stored_files(home: Path) -> list[Path]:
    return [path for path in (home / "storage").rglob("*") if path.is_file()]


def names() -> list[str]:
    return [run.flow_name for run in open_backend().store.read_flow_runs()]


def test_a_flow_run_past_its_time_is_gone_with_its_result_and_younger_ones_stay(
    home: Path, like_a_new_process: Callable[[], None]
) -> None:
    with temporary_settings({"RUNS_RETENTION_DAYS": 7}), leaping_clock() as clock:
        census(1)
        (old_file,) = stored_files(home)
        clock.leap(6 * 86_400)
        census(2)
        (young_file,) = set(stored_files(home)) - {old_file}
        clock.leap(2 * 86_400)
        like_a_new_process()
        assert waits_until(lambda: not old_file.exists())

    assert stored_files(home) == [young_file]
    assert sorted(names()) == ["census", "waits-until"]


def test_without_the_setting_runs_and_results_are_kept(home: Path, like_a_new_process: Callable[[], None]) -> None:
    with leaping_clock() as clock:
        census(1)
        clock.leap(1000 * 86_400)
        like_a_new_process()
        census(2)

    assert len(stored_files(home)) == 2
    assert names() == ["census", "census"]
