"""States: how they are made, grouped and read.

``State`` itself stands in ``core_engine.schemas.states``; here are its constructors, groups, and what ``result()``
does.
"""

from __future__ import annotations

import datetime as dt
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from core_engine.exceptions import (
    CancelledRun,
    CrashedRun,
    FailedRun,
    MissingResult,
    PausedRun,
    UnfinishedRun,
    exception_text,
)
from core_engine.lineage import link_handed_over
from core_engine.results.records import BaseResult
from core_engine.schemas.states import (
    CANCELLED,
    COMPLETED,
    CRASHED,
    FAILED,
    FINAL_TYPES,
    PAUSED,
    State,
    StateDetails,
    StateType,
    make_state,
)

__all__ = [
    "AwaitingRetry",
    "Cancelled",
    "Cancelling",
    "Completed",
    "Crashed",
    "Failed",
    "Late",
    "Paused",
    "Pending",
    "Retrying",
    "Running",
    "Scheduled",
    "State",
    "StateDetails",
    "StateGroup",
    "StateType",
    "exception_to_crashed_state",
    "exception_to_failed_state",
    "get_state_exception",
    "get_state_result",
    "is_state",
    "is_state_iterable",
    "raise_state_exception",
    "return_value_to_state",
]

if TYPE_CHECKING:
    from core_engine.results import ResultFactory


def Scheduled(scheduled_time: datetime | None = None, **fields: Any) -> State:
    """Makes a SCHEDULED state due at `scheduled_time` (None: now).

    Raises:
        ValueError: The time is given both directly and in `state_details`.
    """
    details = fields.pop("state_details", None) or StateDetails()
    if details.scheduled_time is not None and scheduled_time is not None:
        raise ValueError("scheduled_time is given twice: directly and in state_details. Give it once.")
    details.scheduled_time = scheduled_time or details.scheduled_time or datetime.now(UTC)
    return State(StateType.SCHEDULED, state_details=details, **fields)


def Pending(**fields: Any) -> State:
    """Makes a PENDING state: the run exists and may start."""
    return State(StateType.PENDING, **fields)


def Running(**fields: Any) -> State:
    """Makes a RUNNING state."""
    return State(StateType.RUNNING, **fields)


def Completed(**fields: Any) -> State:
    """Makes a COMPLETED state; ``data`` is the value."""
    return State(StateType.COMPLETED, **fields)


def Failed(**fields: Any) -> State:
    """Makes a FAILED state; ``data`` is the exception, or a text that says what went wrong."""
    return State(StateType.FAILED, **fields)


def Crashed(**fields: Any) -> State:
    """Makes a CRASHED state: ended by something other than the user's code."""
    return State(StateType.CRASHED, **fields)


def Cancelling(**fields: Any) -> State:
    """Makes a CANCELLING state."""
    return State(StateType.CANCELLING, **fields)


def Cancelled(**fields: Any) -> State:
    """Makes a CANCELLED state."""
    return State(StateType.CANCELLED, **fields)


def Paused(
    timeout_seconds: float | None = None,
    pause_expiration_time: datetime | None = None,
    reschedule: bool = False,
    pause_key: str | None = None,
    **fields: Any,
) -> State:
    """Makes a PAUSED state.

    Parameters:
        timeout_seconds: How long it may last; None means without a limit, unless `pause_expiration_time` sets one.
        pause_expiration_time: Until when it may last (aware datetime).
        reschedule: Whether the run's process leaves and another goes on after the resume.
        pause_key: A key under which a pause happens once.

    Raises:
        ValueError: Both limits are given, or one stands in `state_details`.
    """
    details = fields.pop("state_details", None) or StateDetails()
    if details.pause_timeout is not None:
        raise ValueError("Give a pause's limit by timeout_seconds or pause_expiration_time, not in state_details.")
    if timeout_seconds is not None and pause_expiration_time is not None:
        raise ValueError("Give either timeout_seconds or pause_expiration_time, not both.")
    if timeout_seconds is not None:
        pause_expiration_time = datetime.now(UTC) + timedelta(seconds=timeout_seconds)
    details.pause_timeout = pause_expiration_time
    details.pause_reschedule = reschedule or details.pause_reschedule
    details.pause_key = pause_key or details.pause_key
    return State(PAUSED, state_details=details, **fields)


def AwaitingRetry(scheduled_time: datetime | None = None, **fields: Any) -> State:
    """Makes a SCHEDULED state named AwaitingRetry, due at `scheduled_time` (None: now)."""
    return Scheduled(scheduled_time, **{"name": "AwaitingRetry", **fields})


def Late(scheduled_time: datetime | None = None, **fields: Any) -> State:
    """Makes a SCHEDULED state named Late."""
    return Scheduled(scheduled_time, **{"name": "Late", **fields})


def Retrying(**fields: Any) -> State:
    """Makes a RUNNING state named Retrying."""
    return Running(**{"name": "Retrying", **fields})


def is_state(obj: object) -> bool:
    """Returns whether `obj` is a State (an instance, not the class)."""
    return isinstance(obj, State)


def is_state_iterable(obj: object) -> bool:
    """Returns whether `obj` is a list, tuple or set, not empty, of States only."""
    if isinstance(obj, (list, tuple, set)) and obj:
        return all(isinstance(member, State) for member in obj)
    return False


class StateGroup:
    """Counts of many states by type, from which their common outcome follows.

    Parameters:
        states: The states, any iterable that can be walked twice.
    """

    def __init__(self, states: Sequence[State]) -> None:
        self.states = states
        self.type_counts: dict[StateType, int] = dict.fromkeys(StateType, 0)
        for state in states:
            self.type_counts[state._type] += 1
        self.total_count = sum(self.type_counts.values())
        self.cancelled_count = self.type_counts[CANCELLED]
        self.final_count = sum(self.type_counts[type] for type in FINAL_TYPES)
        self.not_final_count = self.total_count - self.final_count
        self.paused_count = self.type_counts[PAUSED]

    @property
    def fail_count(self) -> int:
        return self.type_counts[FAILED] + self.type_counts[CRASHED]

    def all_completed(self) -> bool:
        return self.type_counts[COMPLETED] == self.total_count

    def any_cancelled(self) -> bool:
        return self.cancelled_count > 0

    def any_failed(self) -> bool:
        return self.fail_count > 0

    def any_paused(self) -> bool:
        return self.paused_count > 0

    def all_final(self) -> bool:
        return self.final_count == self.total_count

    def counts_message(self) -> str:
        """Returns the counts as text: the total, those not final if any, and each type that occurs."""
        parts = [f"total={self.total_count}"]
        if self.not_final_count:
            parts.append(f"not_final={self.not_final_count}")
        parts += [f"'{type.value}'={count}" for type, count in self.type_counts.items() if count]
        return ", ".join(parts)


# What a state's result is ---------------------------------------------------------------------------------------------

_WRAPPERS: Mapping[StateType, tuple[type[Exception], str]] = {
    FAILED: (FailedRun, "The run failed."),
    CRASHED: (CrashedRun, "The run crashed."),
    CANCELLED: (CancelledRun, "The run was cancelled."),
}
_ABSENT = object()


def stored_value(state: State) -> Any:
    """Returns the value behind ``state.data``, reading it from storage if need be.

    Raises:
        MissingResult: The record's value was kept nowhere.
    """
    data = state._data
    if isinstance(data, BaseResult):
        return data.read()
    return data


def _check_readable(state: State) -> None:
    if state._type is PAUSED:
        raise PausedRun("The run is paused, so no result is available. Resume it first.", state=state)
    if state._type not in FINAL_TYPES:
        raise _unfinished(state)


def _unfinished(state: State) -> UnfinishedRun:
    reason = f": {state._message}" if state._message else ""
    where = f"The run is in state {state._name} (type {state._type.value}), which is not final"
    return UnfinishedRun(f"{where}; it has no result yet{reason}")


def read_state_result(state: State, raise_on_failure: bool = True) -> Any:
    """Returns the run's value, or raises or returns its exception: ``State.result`` for sync code, without the checks
    of the calling context. Blocks while it reads storage."""
    _check_readable(state)
    if state._type is COMPLETED:
        if state._data is None:
            if state._ordinal or (state._details is not None and _belongs_to_run(state)):
                raise MissingResult(
                    "The run completed, but its result was not persisted and is gone. "
                    "Use persist_result=True to keep it."
                )
            raise MissingResult("The state has no data. A result must be persisted to be read back from the store.")
        return stored_value(state)
    if raise_on_failure:
        raise get_state_exception(state)
    return _failure_value(state)


def _failure_value(state: State) -> Any:
    try:
        value = stored_value(state)
    except MissingResult:
        value = None
    return get_state_exception(state) if value is None else value


def _belongs_to_run(state: State) -> bool:
    details = state._details
    return details is not None and (details.flow_run_id is not None or details.task_run_id is not None)


async def fetch_state_result(state: State, raise_on_failure: bool = True) -> Any:
    """What ``State.result`` does in async code: ``read_state_result``, in a thread where storage has to be read."""
    from core_engine.concurrency.waiting import run_blocking

    if _is_at_hand(state):
        return _hand_over(state, read_state_result(state, raise_on_failure))
    value = await run_blocking(read_state_result, state, raise_on_failure)
    return _hand_over(state, value)


def _is_at_hand(state: State) -> bool:
    """Returns whether the result of a completed run can be read without a storage."""
    data: Any = state._data
    return state._type is COMPLETED and (not isinstance(data, BaseResult) or bool(data.has_cached_object()))


def _hand_over(state: State, value: Any) -> Any:
    link_handed_over(state, value)
    return value


def get_state_result(state: State, raise_on_failure: bool = True, fetch: bool | None = None) -> Any:
    """What ``State.result`` does; see there."""
    from core_engine.context import in_async_code

    if not in_async_code():
        return _hand_over(state, read_state_result(state, raise_on_failure))
    if fetch is None:
        from core_engine.settings import get_current_settings

        fetch = get_current_settings().async_fetch_state_result or None
    if fetch:
        return fetch_state_result(state, raise_on_failure)
    if fetch is None:
        warnings.warn(
            "State.result was called in async code without awaiting: it returns the result record, not the value. "
            "Write `await state.result(fetch=True)`, or pass fetch=False to get the record.",
            DeprecationWarning,
            stacklevel=3,
        )
    _check_readable(state)
    if state._type is not COMPLETED and raise_on_failure:
        raise get_state_exception(state)
    return state._data


def get_state_exception(state: State) -> BaseException:
    """Returns the exception that a bad state stands for; for a run that has not ended, that it has not.

    Raises:
        ValueError: The state is not bad, or holds only states that are not.
        TypeError: Its data is nothing that an exception could be made of.
    """
    if state._type not in FINAL_TYPES and state._type is not PAUSED and state._ordinal:
        return _unfinished(state)
    if state._type not in _WRAPPERS:
        raise ValueError(f"Only failed, crashed and cancelled states have an exception; this one is {state!r}.")
    wrapper, default_message = _WRAPPERS[state._type]
    try:
        value = stored_value(state)
    except MissingResult:
        value = None
    if value is None:
        return wrapper(state._message or default_message)
    if isinstance(value, BaseException):
        return value
    if isinstance(value, str):
        return wrapper(value)
    if isinstance(value, State):
        return get_state_exception(value)
    if is_state_iterable(value):
        bad = next((member for member in value if member._type in _WRAPPERS), None)
        if bad is None:
            raise ValueError("None of the states that this state holds is failed, crashed or cancelled.")
        return get_state_exception(bad)
    from core_engine.lazy_states import StateSequence

    if isinstance(value, StateSequence):
        return get_state_exception(value.first_bad())
    raise TypeError(
        f"The data of a {state._name} state must be an exception, a text or states, not {type(value).__name__}."
    )


def raise_state_exception(state: State) -> Any:
    """Raises the exception of a bad state; does nothing for others. In async code it is to be awaited."""
    from core_engine.context import in_async_code

    if in_async_code():
        return _raise_in_async_code(state)
    if state._type in _WRAPPERS:
        raise get_state_exception(state)
    return None


async def _raise_in_async_code(state: State) -> None:
    from core_engine.concurrency.waiting import run_blocking

    if state._type in _WRAPPERS:
        raise await run_blocking(get_state_exception, state)


# What becomes a state -------------------------------------------------------------------------------------------------


def exception_to_failed_state(
    exception: BaseException | None = None,
    message: str | None = None,
    result_factory: ResultFactory | None = None,
    **fields: Any,
) -> State:
    """Makes the FAILED state of an exception (None: the one being handled).

    Parameters:
        exception: What was raised.
        message: What to say before its text; None: nothing.
        result_factory: Decides where the exception is kept, and may block; None: in the state itself.

    Raises:
        ValueError: None is given and none is being handled.
    """
    import sys

    exception = exception or sys.exc_info()[1]
    if exception is None:
        raise ValueError("There is no active exception to make a state of. Pass one.")
    text = exception_text(exception)
    fields.setdefault("data", exception if result_factory is None else _failure_record(exception, result_factory))
    return Failed(message=f"{message} {text}" if message else text, **fields)


def _failure_record(exception: BaseException, result_factory: ResultFactory) -> BaseResult[Any]:
    """Keeps how a run failed by the result policy; in memory where that cannot be done, so that it is not lost."""
    try:
        return result_factory.create_result(exception)
    except Exception as error:
        from core_engine.results.records import UnpersistedResult

        logging.getLogger("core_engine.engine").warning(
            "%s: the exception of a failed run could not be persisted, and is held in memory only.",
            exception_text(error),
        )
        return UnpersistedResult(exception)


def exception_to_crashed_state(exception: BaseException, **fields: Any) -> State:
    """Makes the CRASHED state of an exception; the message tells what kind of end it was."""
    return Crashed(message=_crash_message(exception), data=exception, **fields)


def _crash_message(exception: BaseException) -> str:
    import asyncio

    from core_engine.concurrency.interrupts import Interrupt
    from core_engine.exceptions import TerminationSignal

    if isinstance(exception, asyncio.CancelledError):
        return "Execution was cancelled by the runtime environment."
    if isinstance(exception, KeyboardInterrupt):
        return "Execution was aborted by an interrupt signal."
    if isinstance(exception, Interrupt):
        return f"Execution was ended by the engine: {exception}."
    if isinstance(exception, TerminationSignal):
        return "Execution was aborted by a termination signal."
    if isinstance(exception, SystemExit):
        return "Execution was aborted by a call of Python's system exit."
    if type(exception).__module__.partition(".")[0] == "httpx":
        request = getattr(exception, "_request", None)
        where = f" to {request.url}" if request is not None else ""
        return f"A request{where} failed: {exception_text(exception)}"
    return f"Execution was interrupted by an unexpected exception: {exception_text(exception)}"


def aggregate(states: Sequence[State]) -> State:
    """Returns the state that the common outcome of `states` gives, without data."""
    from core_engine.orchestration.aggregate import aggregate_states

    type, message = aggregate_states(states)
    return State(type, message=message)


def return_value_to_state(value: Any, result_factory: Any) -> State:
    """Makes the final state of what a flow or task returned, futures already replaced by their states.

    A hand-made State stands as it is, with its data kept by the result policy; a State of a run, or a list, tuple or
    set of States only, is judged together and stays the data; anything else is a value: COMPLETED.

    Parameters:
        value: What the function returned.
        result_factory: The core_engine.results.ResultFactory that decides where the value is kept.
    """
    if isinstance(value, State) and not value._ordinal and not _belongs_to_run(value):
        if value._type in FINAL_TYPES or value._data is not None:
            value._data = result_factory.create_result(value._data)
        return value
    if isinstance(value, State) or is_state_iterable(value):
        members: Iterable[State] = [value] if isinstance(value, State) else value
        state = aggregate(list(members))
        state._data = result_factory.create_result(value)
        return state
    if hasattr(value, "gi_frame") and hasattr(value, "__next__"):
        value = list(value)
    return make_state(COMPLETED, 0.0, None, 0, 0, data=result_factory.create_result(value))


def utc(seconds: float) -> dt.datetime:
    """Returns seconds since the epoch as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
