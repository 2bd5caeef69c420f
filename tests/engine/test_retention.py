"""Flow runs that were kept as long as the setting says go by themselves, with the files of their results."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core_engine import clock, flow
from core_engine.backend import open_backend
from core_engine.backend.store import Store
from core_engine.engine import requests, store_care
from core_engine.engine.store_care import SECONDS_PER_DAY, clean
from core_engine.exceptions import StorageError
from core_engine.results import LocalStorage
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


def store_with_an_old_run() -> Store:
    """A store with a flow run that ended just now and, as seen from the times below, days ago."""
    census(1)
    backend = open_backend()
    backend.journal.flush()
    return backend.store


def days_later(days: float) -> float:
    return clock.now() + days * SECONDS_PER_DAY


def test_a_flow_run_past_its_time_is_gone_with_its_result_and_younger_ones_stay(home: Path) -> None:
    store = store_with_an_old_run()
    (old_file,) = stored_files(home)
    with leaping_clock() as leaping:
        leaping.leap(6 * SECONDS_PER_DAY)
        census(2)
    (young_file,) = set(stored_files(home)) - {old_file}

    assert clean(store, 7, days_later(8))

    assert stored_files(home) == [young_file]
    assert names() == ["census"]


def test_it_is_done_once_a_day_by_whichever_process(home: Path) -> None:
    store = store_with_an_old_run()
    assert clean(store, 7, days_later(1))
    assert names() == ["census"]
    assert not clean(store, 7, days_later(1.9))
    assert clean(store, 0.5, days_later(2.1))
    assert names() == []
    assert stored_files(home) == []


def test_a_file_that_cannot_be_removed_is_told_and_tried_again_the_next_day(
    home: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    def refuse(storage: LocalStorage, key: str) -> bool:
        raise StorageError(f"The file {key} cannot be removed: it is held.")

    store = store_with_an_old_run()
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "delete", refuse)
        assert clean(store, 7, days_later(8))
    assert [line for line in warnings if "it is held" in line and "tried again tomorrow" in line]
    assert names() == []
    assert len(stored_files(home)) == 1

    assert clean(store, 7, days_later(9))
    assert stored_files(home) == []


def test_a_deletion_that_was_cut_short_is_gone_on_with_by_the_next_process(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core_engine.backend import retention

    store = store_with_an_old_run()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retention, "_sweep", killed)
        with pytest.raises(KeyboardInterrupt):
            clean(store, 7, days_later(8))
    assert store.read_cleaned() is None

    assert clean(store, 7, days_later(8))
    assert stored_files(home) == []


def test_processes_that_run_flows_do_it_in_the_background(home: Path, like_a_new_process: Callable[[], None]) -> None:
    store_with_an_old_run()
    with temporary_settings({"RUNS_RETENTION_DAYS": 7}), leaping_clock() as leaping:
        leaping.leap(8 * SECONDS_PER_DAY)
        like_a_new_process()
        assert waits_until(lambda: not stored_files(home))
        assert waits_until(lambda: open_backend().store.read_cleaned() is not None)

    assert names() == ["waits-until", "waits-until"]


def test_requests_are_answered_while_old_runs_are_deleted(
    like_a_new_process: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end, answered = threading.Event(), threading.Event(), threading.Event()

    def slow(*_: object) -> bool:
        begun.set()
        assert may_end.wait(PATIENCE)
        return True

    monkeypatch.setattr(store_care, "clean", slow)
    monkeypatch.setattr(requests._Watch, "_answer", lambda *_: answered.set())
    with temporary_settings({"RUNS_RETENTION_DAYS": 7}):
        like_a_new_process()
        assert waits_until(lambda: begun.is_set() and answered.is_set())
    may_end.set()


def test_a_deletion_that_fails_is_told_and_ends_no_flow(
    like_a_new_process: Callable[[], None], monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    def fails(*_: object) -> bool:
        raise StorageError("The disk is gone.")

    monkeypatch.setattr(store_care, "clean", fails)
    with temporary_settings({"RUNS_RETENTION_DAYS": 7}):
        like_a_new_process()
        assert waits_until(lambda: any("Old flow runs could not be deleted" in line for line in warnings))


def test_without_the_setting_runs_and_results_are_kept(
    home: Path, like_a_new_process: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> bool:
        raise AssertionError("nobody asked for it")

    monkeypatch.setattr(store_care, "clean", never)
    with leaping_clock() as leaping:
        census(1)
        leaping.leap(1000 * SECONDS_PER_DAY)
        like_a_new_process()
        census(2)

    assert len(stored_files(home)) == 2
    assert names() == ["census", "census"]
