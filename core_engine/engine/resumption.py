"""What a resumable flow run records of its task runs' inputs, and which stored results a resumed one uses again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID
from weakref import WeakKeyDictionary

from core_engine.backend.entries import InputsDigested
from core_engine.engine.digests import NO_DIGEST, NotDigestible, digest_of_call, digest_of_item
from core_engine.exceptions import CoreEngineError
from core_engine.results.records import PersistedResult
from core_engine.schemas.states import COMPLETED, FINAL_TYPES, State

if TYPE_CHECKING:
    from core_engine.backend.journal import Journal
    from core_engine.engine.active import ActiveTaskRun
    from core_engine.engine.previous import PreviousRuns
    from core_engine.engine.run_sets import RunSet
    from core_engine.schemas.records import TaskRun, TaskRunGroup

Digests = Mapping[tuple[UUID, int], bytes]

CHANGED = "their inputs or their code have changed"
UNDIGESTED = "nothing is recorded of their inputs (run with --resumable, or the setting RESUMABLE)"
VALUELESS = "their results are not stored any more, or never were"


class ResumeTotals:
    """What a resumed flow run and its subflows used again, and why completed task runs were executed once more.

    Any thread counts; ``_lock`` keeps two from counting as one.
    """

    def __init__(self) -> None:
        self.reused = 0
        self.executed = 0
        self.repeated: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def count_reused(self) -> None:
        with self._lock:
            self.reused += 1

    def count_executed(self, number: int) -> None:
        with self._lock:
            self.executed += number

    def count_repeated(self, task_name: str, reason: str) -> None:
        with self._lock:
            self.repeated[task_name, reason] += 1

    def lines(self) -> list[str]:
        """Returns what was used again, in a line, and a line for each task and reason of what was executed again."""
        with self._lock:
            repeated = dict(self.repeated)
        lines = [f"{_runs(self.reused)} used again with their stored results, {_runs(self.executed)} executed."]
        for (name, reason), number in repeated.items():
            lines.append(f"{number:,} completed of task '{name}' executed again: {reason}.")
        return lines


def _runs(number: int) -> str:
    return f"{number:,} task run{'' if number == 1 else 's'}"


class Resumption:
    """Belongs to a flow run that can be resumed.

    Parameters:
        recorded: Digests by which completed task runs are used again; None: none are, this is not a resume.
        totals: Counts, shared with subflows.
    """

    def __init__(self, recorded: Digests | None = None, totals: ResumeTotals | None = None) -> None:
        self._recorded = recorded
        self.totals = totals or ResumeTotals()
        self._bases: WeakKeyDictionary[RunSet, bytes | None] = WeakKeyDictionary()

    @property
    def reuses(self) -> bool:
        """Whether completed task runs are used again if they were made of the same."""
        return self._recorded is not None

    def for_child(self, recorded: Digests | None) -> Resumption:
        """Returns what a subflow's run needs."""
        return Resumption(recorded if self.reuses else None, self.totals)

    def for_retry(self) -> Resumption:
        """Returns what the next attempt of the flow needs: retries match task runs by key and index alone."""
        return Resumption(None, self.totals)

    # Task runs --------------------------------------------------------------------------------------------------------

    def admit(self, run_set: RunSet, indices: Iterable[int]) -> list[int]:
        """Settles those of some runs, whose inputs are final, that are used again; records what the others begin with.

        Returns:
            The indices of those that are to be executed. Any thread.
        """
        previous = run_set.flow_run.previous
        base = self._base_of(run_set)
        to_execute: list[int] = []
        beginning: list[tuple[TaskRunGroup, int, int, bytes]] = []
        for index in indices:
            if run_set.states[index] is not None:
                continue
            if index in run_set.active:
                to_execute.append(index)  # it goes on, after a retry's delay for example
                continue
            group, position = run_set.summary.origin(index)
            record = None if previous is None else previous.find(group, position)
            digest = _item_digest(base, run_set, index)
            if record is not None and self._is_known(record, digest):
                assert previous is not None
                if previous.settle(run_set, index, record):
                    self.totals.count_reused()
                continue
            if record is not None and self.reuses:
                assert previous is not None
                previous.reopen(run_set.flow_run, group, position)
            to_execute.append(index)
            beginning.append((group, position, _next_execution(record), digest))
        if self.reuses:
            self.totals.count_executed(len(beginning))
        _record(run_set.flow_run.client.journal, beginning)
        return to_execute

    def _base_of(self, run_set: RunSet) -> bytes | None:
        if run_set not in self._bases:
            self._bases[run_set] = _call_digest(run_set.task.fn, run_set.shared)
        return self._bases[run_set]

    def _is_known(self, record: TaskRun, digest: bytes) -> bool:
        """Whether a completed run was made of the same and its value can be had; if not, why is counted."""
        if self._recorded is None or record.state is None or record.state._type is not COMPLETED:
            return False
        known = self._recorded.get((record.id, record.execution), NO_DIGEST)
        if known == NO_DIGEST:
            reason = UNDIGESTED if _is_stored(record.state) else VALUELESS
        elif known != digest:
            reason = CHANGED
        elif not _is_stored(record.state) or not _has_value(record.state):
            reason = VALUELESS
        else:
            return True
        self.totals.count_repeated(record.task_name, reason)
        return False

    # Subflows ---------------------------------------------------------------------------------------------------------

    def admit_subflow(
        self,
        fn: Callable[..., Any],
        parameters: Mapping[str, Any],
        stand_in: ActiveTaskRun,
        previous: PreviousRuns | None,
    ) -> bool:
        """Returns whether a subflow's run completed before with the same; else records what it begins with."""
        record = None if previous is None else previous.find(stand_in.group, stand_in.index)
        digest = _call_digest(fn, parameters) or NO_DIGEST
        if record is not None and self._is_known(record, digest):
            self.totals.count_reused()
            return True
        journal = stand_in.flow_run.client.journal
        _record(journal, [(stand_in.group, stand_in.index, _next_execution(record), digest)])
        return False


def _call_digest(fn: Callable[..., Any], parameters: Mapping[str, Any]) -> bytes | None:
    try:
        return digest_of_call(fn, parameters)
    except NotDigestible:
        return None


def _item_digest(base: bytes | None, run_set: RunSet, index: int) -> bytes:
    if base is None:
        return NO_DIGEST
    try:
        return digest_of_item(base, run_set.columns, index)
    except NotDigestible:
        return NO_DIGEST


def _next_execution(record: TaskRun | None) -> int:
    """Returns in which execution a run will be that begins now."""
    if record is None or record.state is None:
        return 1
    return record.execution + (record.state._type in FINAL_TYPES)


def _record(journal: Journal, beginning: list[tuple[TaskRunGroup, int, int, bytes]]) -> None:
    """Records digests, those of consecutive runs in one entry."""
    start = 0
    while start < len(beginning):
        group, first, execution, _ = beginning[start]
        end = start
        while end < len(beginning) and beginning[end][:3] == (group, first + end - start, execution):
            end += 1
        digests = b"".join(digest for *_, digest in beginning[start:end])
        journal.append(InputsDigested(group, first, execution, digests))
        start = end


def _is_stored(state: State) -> bool:
    return getattr(type(state._data), "stored", False) is True


def _has_value(state: State) -> bool:
    """Whether the stored file is there; one that cannot be asked for counts as gone."""
    data = state._data
    if type(data) is not PersistedResult:
        return True
    try:
        return data.exists()
    except CoreEngineError:
        return False
