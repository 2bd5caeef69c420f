"""The common outcome of many runs, from how many are in each type of state (FLOW-RET-7 to 9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from core_engine.schemas.states import CANCELLED, COMPLETED, CRASHED, FAILED, FINAL_TYPES, PAUSED, State, StateType


def count_states(states: Iterable[State]) -> dict[StateType, int]:
    """Returns how many of `states` are in each type that occurs."""
    counts: dict[StateType, int] = {}
    for state in states:
        counts[state._type] = counts.get(state._type, 0) + 1
    return counts


def aggregate_states(states: Mapping[StateType, int] | Iterable[State]) -> tuple[StateType, str]:
    """Judges many states together.

    Parameters:
        states: How many are in each type, or the states themselves.

    Returns:
        The type of the outcome, and a message with the count that decided it: COMPLETED if all are; otherwise
        CANCELLED if any is, PAUSED if any is, else FAILED.
    """
    counts = states if isinstance(states, Mapping) else count_states(states)
    total = sum(counts.values())
    if counts.get(COMPLETED, 0) == total:
        return COMPLETED, f"All {total} runs completed."
    for type, phrase in ((CANCELLED, "were cancelled"), (PAUSED, "are paused")):
        if number := counts.get(type, 0):
            return type, f"{number}/{total} runs {phrase}."
    if failed := counts.get(FAILED, 0) + counts.get(CRASHED, 0):
        return FAILED, f"{failed}/{total} runs failed."
    unfinished = sum(number for type, number in counts.items() if type not in FINAL_TYPES)
    return FAILED, f"{unfinished}/{total} runs are not final."
