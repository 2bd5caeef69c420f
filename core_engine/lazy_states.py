"""The states of all runs of a flow run, without holding them: the data of a flow that returns nothing (D10)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from core_engine.exceptions import ObjectNotFound
from core_engine.schemas.states import COMPLETED, State, StateType

if TYPE_CHECKING:
    from core_engine.backend.journal import Journal
    from core_engine.backend.store import Store
    from core_engine.engine.active import ActiveFlowRun
    from core_engine.engine.run_sets import RunSetSummary


class StateSequence(Sequence[State]):
    """States of a flow run's task runs, in the order in which they were made, then those of its subflows.

    States that are not Completed, and those of subflows, are held; the others are read from the store when asked for.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        parts: Sequence[tuple[RunSetSummary, int, Mapping[int, State]]],
        last: list[State],
    ) -> None:
        self._store = store
        self._journal = journal
        self._parts = parts
        self._last = last

    @classmethod
    def of(cls, run: ActiveFlowRun) -> StateSequence:
        """Makes the sequence for a flow run whose task runs have all ended."""
        parts = [(summary, summary.count, summary.not_completed) for summary in run.summaries]
        return cls(run.client.store, run.client.journal, parts, list(run.subflow_states))

    def counts(self) -> dict[StateType, int]:
        """Returns how many states are of each type."""
        counts: dict[StateType, int] = {}
        for _, count, held in self._parts:
            counts[COMPLETED] = counts.get(COMPLETED, 0) + count - len(held)
            for state in held.values():
                counts[state._type] = counts.get(state._type, 0) + 1
        for state in self._last:
            counts[state._type] = counts.get(state._type, 0) + 1
        return {type: count for type, count in counts.items() if count}

    def first_bad(self) -> State:
        """Returns the first failed, crashed or cancelled state.

        Raises:
            ValueError: There is none.
        """
        bad = (StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)
        for _, _, held in self._parts:
            for index in sorted(held):
                if held[index]._type in bad:
                    return held[index]
        for state in self._last:
            if state._type in bad:
                return state
        raise ValueError("None of the states is failed, crashed or cancelled.")

    def __len__(self) -> int:
        return sum(count for _, count, _ in self._parts) + len(self._last)

    @overload
    def __getitem__(self, index: int) -> State: ...

    @overload
    def __getitem__(self, index: slice) -> list[State]: ...

    def __getitem__(self, index: int | slice) -> State | list[State]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if position < 0:
            raise IndexError(index)
        for summary, count, held in self._parts:
            if position < count:
                return held[position] if position in held else self._read(summary, position)
            position -= count
        return self._last[position]

    def __iter__(self) -> Iterator[State]:
        for position in range(len(self)):
            yield self[position]

    def _read(self, summary: RunSetSummary, position: int) -> State:
        group, index = summary.origin(position)
        self._journal.flush()
        id = group.run_id(index)
        run = self._store.read_task_run(id)
        if run is None or run.state is None:
            raise ObjectNotFound(f"The task run {id} is not recorded any more; its flow run was deleted.")
        return run.state

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (list, tuple, StateSequence)) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(repr(state) for state in self[:10])
        return f"[{shown}{', ...' if len(self) > 10 else ''}]"

    def __reduce__(self) -> Any:
        return list, (list(self),)
