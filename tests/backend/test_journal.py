"""The queue, its positions, its waiters, its thread and its failure. The stores here are small fakes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from core_engine import ids
from core_engine.backend.entries import CacheStored, Entry
from core_engine.backend.journal import THREAD_NAME, Journal
from core_engine.exceptions import StoreError, StoreUnavailable
from core_engine.schemas.states import COMPLETED, State
from tests.backend.builders import log_line

FLOW_RUN = ids.new_id()


class ListStore:
    """Keeps batches. Blocks in `apply` while its gate is closed, and raises what it is told to raise."""

    def __init__(self) -> None:
        self.batches: list[list[Entry]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.error: Exception | None = None

    def apply(self, entries: Sequence[Entry]) -> None:
        self.entered.set()
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        self.batches.append(list(entries))

    @property
    def entries(self) -> list[Entry]:
        return [entry for batch in self.batches for entry in batch]


def lines(count: int) -> list[Entry]:
    return [log_line(FLOW_RUN, f"line {number}") for number in range(count)]


def blocked_in_commit(store: ListStore, journal: Journal) -> None:
    """Lets the writer begin a commit that does not end before the gate is opened."""
    store.gate.clear()
    store.entered.clear()
    journal.append(log_line(FLOW_RUN, "first"))
    assert store.entered.wait(30)


@pytest.fixture
def target() -> ListStore:
    return ListStore()


@pytest.fixture
def journal(target: ListStore) -> Any:
    journal = Journal(target)
    yield journal
    target.gate.set()
    if journal.failure is None:
        journal.close()


def test_positions_count_entries_in_the_order_of_the_queue(journal: Journal, target: ListStore) -> None:
    first, *rest = lines(5)
    assert journal.append(first) == 1
    assert journal.append_many(rest) == 5
    assert journal.position == 5
    assert journal.flush(30)
    assert target.entries == [first, *rest]
    assert journal.committed == 5


@pytest.mark.behaviour("I2")
def test_entries_of_many_threads_are_each_committed_once_and_in_the_order_of_their_positions(
    journal: Journal, target: ListStore
) -> None:
    positions: dict[str, int] = {}

    def produce(name: str) -> None:
        for number in range(500):
            entry = log_line(FLOW_RUN, f"{name} {number}")
            positions[entry.message] = journal.append(entry)

    threads = [threading.Thread(target=produce, args=(f"thread-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.flush(30)
    written = [entry.message for entry in target.entries]  # type: ignore[union-attr]
    assert written == sorted(positions, key=positions.__getitem__)
    assert sorted(positions.values()) == list(range(1, 2001))


def test_what_is_queued_during_a_commit_goes_into_the_next_one_together(journal: Journal, target: ListStore) -> None:
    blocked_in_commit(target, journal)
    journal.append_many(lines(100))
    target.gate.set()
    assert journal.flush(30)
    assert [len(batch) for batch in target.batches] == [1, 100]


def test_a_batch_holds_no_more_entries_than_allowed(target: ListStore) -> None:
    journal = Journal(target, max_batch=10)
    blocked_in_commit(target, journal)
    journal.append_many(lines(25))
    target.gate.set()
    journal.close()
    assert [len(batch) for batch in target.batches] == [1, 10, 10, 5]


@pytest.mark.behaviour("I1", "D3")
def test_wait_returns_only_after_the_commit(journal: Journal, target: ListStore) -> None:
    blocked_in_commit(target, journal)
    position = journal.append(log_line(FLOW_RUN, "second"))
    assert not journal.wait(position, timeout_seconds=0.01)
    assert journal.committed == 0
    target.gate.set()
    assert journal.wait(position, 30)
    assert len(target.entries) == 2


def test_wait_for_what_is_committed_returns_at_once(journal: Journal) -> None:
    position = journal.append(log_line(FLOW_RUN, "only"))
    assert journal.wait(position, 30)
    assert journal.wait(position, timeout_seconds=0)


def test_somebody_who_waits_ends_the_lingering_of_a_small_batch(target: ListStore) -> None:
    journal = Journal(target, linger_seconds=3600)
    assert journal.wait(journal.append(log_line(FLOW_RUN, "urgent")), 30)
    journal.close()


def test_entries_that_nobody_waits_for_meet_in_one_batch_while_the_writer_lingers(target: ListStore) -> None:
    journal = Journal(target, linger_seconds=3600)
    for entry in lines(10):
        journal.append(entry)
    assert journal.flush(30)
    assert len(target.batches) == 1
    journal.close()


def test_a_callback_runs_in_the_writers_thread_right_after_the_commit(journal: Journal, target: ListStore) -> None:
    seen: list[tuple[str, StoreError | None, int]] = []
    done = threading.Event()

    def callback(failure: StoreError | None) -> None:
        seen.append((threading.current_thread().name, failure, journal.committed))
        done.set()

    blocked_in_commit(target, journal)
    journal.when_committed(journal.append(log_line(FLOW_RUN, "second")), callback)
    assert not seen
    target.gate.set()
    assert done.wait(30)
    assert seen == [(THREAD_NAME, None, 2)]


def test_a_callback_for_what_is_committed_runs_at_once_in_the_calling_thread(journal: Journal) -> None:
    position = journal.append(log_line(FLOW_RUN, "only"))
    journal.wait(position, 30)
    seen: list[threading.Thread] = []
    journal.when_committed(position, lambda failure: seen.append(threading.current_thread()))
    assert seen == [threading.current_thread()]


def test_callbacks_run_in_the_order_of_positions_not_of_registration(journal: Journal, target: ListStore) -> None:
    blocked_in_commit(target, journal)
    first, second = journal.append(lines(1)[0]), journal.append(lines(1)[0])
    seen: list[int] = []
    journal.when_committed(second, lambda failure: seen.append(second))
    journal.when_committed(first, lambda failure: seen.append(first))
    target.gate.set()
    journal.flush(30)
    assert seen == [first, second]


def test_a_callback_that_raises_is_logged_and_does_not_stop_the_writer(
    journal: Journal, target: ListStore, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(failure: StoreError | None) -> None:
        raise ZeroDivisionError("in the callback")

    blocked_in_commit(target, journal)
    journal.when_committed(1, broken)
    target.gate.set()
    assert journal.wait(journal.append(log_line(FLOW_RUN, "later")), 30)
    assert "in the callback" in caplog.text


def test_waiting_inside_a_callback_is_refused_instead_of_blocking_for_ever(journal: Journal, target: ListStore) -> None:
    seen: list[str] = []

    def waits(failure: StoreError | None) -> None:
        try:
            journal.wait(journal.append(log_line(FLOW_RUN, "more")))
        except RuntimeError as error:
            seen.append(str(error))

    blocked_in_commit(target, journal)
    journal.when_committed(1, waits)
    target.gate.set()
    journal.flush(30)
    assert len(seen) == 1
    assert "cannot wait for itself" in seen[0]


def test_failure_reaches_waiters_callbacks_and_later_appends(journal: Journal, target: ListStore) -> None:
    told: list[StoreError | None] = []
    raised: list[BaseException] = []
    blocked_in_commit(target, journal)
    position = journal.append(log_line(FLOW_RUN, "never written"))
    journal.when_committed(position, told.append)

    def wait() -> None:
        try:
            journal.wait(position)
        except StoreError as error:
            raised.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    target.error = StoreUnavailable("the disk is full")
    target.gate.set()
    waiter.join(30)
    assert isinstance(journal.failure, StoreUnavailable)
    assert told == [journal.failure]
    assert [str(error) for error in raised] == ["the disk is full"]
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        journal.append(log_line(FLOW_RUN, "too late"))
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        journal.flush()


def test_what_was_acknowledged_before_a_failure_stays_acknowledged(journal: Journal, target: ListStore) -> None:
    position = journal.append(log_line(FLOW_RUN, "safe"))
    assert journal.wait(position, 30)
    target.error = StoreUnavailable("the disk is full")
    with pytest.raises(StoreUnavailable):
        journal.wait(journal.append(log_line(FLOW_RUN, "lost")))
    assert journal.committed == position
    assert journal.wait(position)
    assert [entry.message for entry in target.entries] == ["safe"]  # type: ignore[union-attr]


def test_nothing_is_written_after_a_failure_although_the_store_recovers(journal: Journal, target: ListStore) -> None:
    target.error = StoreUnavailable("the disk is full")
    with pytest.raises(StoreUnavailable):
        journal.wait(journal.append(log_line(FLOW_RUN, "lost")))
    target.error = None
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            journal.append(log_line(FLOW_RUN, "after the gap"))
    with pytest.raises(StoreUnavailable):
        journal.close()
    assert target.entries == []


def test_an_unexpected_error_of_the_store_stops_the_journal_with_its_text(journal: Journal, target: ListStore) -> None:
    target.error = ZeroDivisionError("a bug")
    with pytest.raises(StoreError, match="ZeroDivisionError: a bug"):
        journal.wait(journal.append(log_line(FLOW_RUN, "lost")))


def test_a_thread_that_waits_commits_itself_when_the_writer_is_not_at_it(target: ListStore) -> None:
    journal = Journal(target, linger_seconds=3600)
    committed_in: list[str] = []
    position = journal.append(log_line(FLOW_RUN, "first"))
    journal.when_committed(position, lambda failure: None)
    assert journal.wait(position, 30)
    position = journal.append(log_line(FLOW_RUN, "second"))
    target.apply = lambda entries: committed_in.append(threading.current_thread().name)  # type: ignore[assignment]
    assert journal.wait(position, 30)
    assert committed_in == [threading.current_thread().name]
    journal.close()


def test_a_wait_that_is_interrupted_in_its_own_commit_loses_nothing_and_tells_the_others(target: ListStore) -> None:
    journal = Journal(target, linger_seconds=3600)
    told: list[StoreError | None] = []
    apply = target.apply

    def interrupted(entries: Sequence[Entry]) -> None:
        target.apply = apply  # type: ignore[method-assign]
        raise KeyboardInterrupt

    position = journal.append_many(lines(3))
    target.apply = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        journal.wait(position, 30)
    journal.when_committed(position, told.append)
    assert journal.wait(position, 30)
    journal.close()
    assert [entry.message for entry in target.entries] == ["line 0", "line 1", "line 2"]  # type: ignore[union-attr]
    assert told == [None]


def test_a_callback_that_raises_an_interrupt_keeps_neither_the_news_from_others_nor_the_writer_from_its_work(
    journal: Journal, target: ListStore, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[StoreError | None] = []

    def interrupted(failure: StoreError | None) -> None:
        raise KeyboardInterrupt

    blocked_in_commit(target, journal)
    position = journal.append(log_line(FLOW_RUN, "second"))
    journal.when_committed(position, interrupted)
    journal.when_committed(position, told.append)
    done = threading.Event()
    journal.when_committed(position, lambda failure: done.set())
    target.gate.set()
    assert done.wait(30)
    assert told == [None]
    done.clear()
    journal.when_committed(journal.append(log_line(FLOW_RUN, "third")), lambda failure: done.set())
    assert done.wait(30)
    assert "tried to end its writer" in caplog.text


@pytest.mark.behaviour("D4")
def test_a_cache_entry_is_seen_from_its_append_until_its_commit(journal: Journal, target: ListStore) -> None:
    older, newer = (CacheStored("key", None, State(COMPLETED)) for _ in range(2))
    blocked_in_commit(target, journal)
    journal.append(older)
    assert journal.cached("key") is older
    journal.append_many([newer])
    assert journal.cached("key") is newer
    assert journal.cached("another") is None
    target.gate.set()
    journal.flush(30)
    assert journal.cached("key") is None


@pytest.mark.behaviour("D36")
def test_the_writer_ends_when_idle_and_the_next_entry_starts_another(target: ListStore) -> None:
    journal = Journal(target, idle_seconds=0.01)
    journal.wait(journal.append(log_line(FLOW_RUN, "before")), 30)
    first = journal._thread
    if first is not None:
        assert first.daemon
        assert first.name == THREAD_NAME
        first.join(30)
    assert journal.wait(journal.append(log_line(FLOW_RUN, "after")), 30)
    assert len(target.entries) == 2
    journal.close()


def test_close_writes_what_is_queued_and_refuses_what_comes_later(journal: Journal, target: ListStore) -> None:
    blocked_in_commit(target, journal)
    journal.append_many(lines(10))
    target.gate.set()
    journal.close()
    journal.close()
    assert len(target.entries) == 11
    with pytest.raises(StoreError, match="closed"):
        journal.append(log_line(FLOW_RUN, "late"))


def test_the_journal_takes_log_lines_as_a_sink(journal: Journal, target: ListStore) -> None:
    line = log_line(FLOW_RUN, "from a handler")
    journal.append_log(line)
    assert journal.flush(30.0)
    assert target.entries == [line]


_AT_EXIT = """
import sys, time
from core_engine.backend.journal import Journal
class Slow:
    def apply(self, entries):
        time.sleep(0.2)
        print(len(entries), flush=True)
journal = Journal(Slow())
journal.append_many([object()] * 3)
if sys.argv[1] == "late":
    import atexit
    atexit.register(lambda: journal.append(object()))
"""


@pytest.mark.parametrize("when", ["queued", "late"])
def test_the_end_of_the_interpreter_waits_for_what_is_queued(when: str) -> None:
    result = subprocess.run([sys.executable, "-c", _AT_EXIT, when], capture_output=True, text=True, timeout=50)
    assert result.stderr == ""
    assert sum(map(int, result.stdout.split())) == (4 if when == "late" else 3)


def test_an_append_costs_about_a_call_of_a_python_function() -> None:
    """Guards the hot path by a ratio of CPU time, measured together: a lock, a list, a counter."""

    class Null:
        def apply(self, entries: Sequence[Entry]) -> None:
            pass

    def nothing(entry: object) -> None:
        pass

    journal = Journal(Null(), idle_seconds=0.1)
    entry = log_line(FLOW_RUN, "again and again")
    journal.append(entry)

    def cost(function: Any) -> float:
        started = time.thread_time()
        for _ in range(20_000):
            function(entry)
        return time.thread_time() - started

    ratio = min(cost(journal.append) / cost(nothing) for _ in range(5))
    journal.close()
    assert ratio < 15
