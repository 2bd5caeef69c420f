"""Every exception of core_engine, in one place.

CoreEngineError
├── definitions   InvalidNameError (ValueError), ReservedArgumentError (TypeError)
├── parameters    ParameterBindError, ParameterTypeError, SignatureMismatchError (all TypeError)
├── maps          MappingLengthMismatch, MappingMissingIterable
├── context       MissingContextError (RuntimeError)
├── outcomes      FailedRun, CrashedRun, CancelledRun, UnfinishedRun, PausedRun, UpstreamTaskError
├── results       MissingResult, SerializationError, StorageError
├── pauses        NotPausedError, FlowPauseTimeout
├── loading       ScriptError, MissingFlowError, UnspecifiedFlowError
├── runners       UnknownTaskRunner, TaskRunnerNotInstalled
├── settings      SettingsError (ValueError)
├── orchestration IllegalTransition, ObjectNotFound
└── store         StoreError: DatabaseDamaged, DatabaseTooNew, StoreUnavailable, UnsafeHome

Signal (BaseException)     what a user's ``except Exception`` must not swallow
├── Abort                  orchestration ends this execution; the recorded state stands
├── Pause                  the run leaves because it is paused; carries the state
└── TerminationSignal      SIGTERM arrived
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core_engine.states import State


class CoreEngineError(Exception):
    """Base of every error that core_engine raises on its own account."""


class InvalidNameError(CoreEngineError, ValueError):
    """A flow's explicit name holds a character that is not allowed."""


class ReservedArgumentError(CoreEngineError, TypeError):
    """A function has a parameter whose name the engine uses itself."""


class ParameterBindError(CoreEngineError, TypeError):
    """Arguments do not fit a function's signature."""


class ParameterTypeError(CoreEngineError, TypeError):
    """Values do not fit the annotations of a flow's parameters."""


class SignatureMismatchError(CoreEngineError, TypeError):
    """Parameter names do not fit the flow's signature."""

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @classmethod
    def from_names(cls, expected: Iterable[str], provided: Iterable[str]) -> SignatureMismatchError:
        return cls(f"The flow takes the parameters {sorted(expected)} but was given {sorted(provided)}.")


class MappingLengthMismatch(CoreEngineError):
    """The iterables of a map have different lengths."""

    @classmethod
    def from_lengths(cls, lengths: Mapping[str, int]) -> MappingLengthMismatch:
        listed = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        return cls(
            f"map takes its iterables in step, but their lengths differ ({listed}). "
            "Make them equally long, or wrap what every child should get whole in unmapped(...)."
        )


class MappingMissingIterable(CoreEngineError):
    """A map was given nothing to map over."""


class MissingContextError(CoreEngineError, RuntimeError):
    """Something that needs a run's context was used outside of one."""


class FailedRun(CoreEngineError):
    """A run failed, and only the text of its failure is known."""


class CrashedRun(CoreEngineError):
    """A run was ended by something other than the user's code."""


class CancelledRun(CoreEngineError):
    """A run was cancelled."""


class UnfinishedRun(CoreEngineError):
    """A result was asked of a run that has not reached a final state."""


class PausedRun(CoreEngineError):
    """A result was asked of a run that is paused. ``state`` is the paused state, None where it is not known."""

    def __init__(self, *args: object, state: State | None = None) -> None:
        super().__init__(*args)
        self.state = state


class UpstreamTaskError(CoreEngineError):
    """An input comes from a run that did not complete."""


class MissingResult(CoreEngineError):
    """A run completed, but its value was kept nowhere that can be read from here."""


class SerializationError(CoreEngineError):
    """A value cannot be turned into bytes, or bytes not into a value."""


class StorageError(CoreEngineError):
    """The storage of results cannot be read or written."""


class NotPausedError(CoreEngineError):
    """Resume was asked of a run that is not paused."""


class FlowPauseTimeout(CoreEngineError):
    """Resume came after the pause's deadline."""


class ScriptError(CoreEngineError):
    """A script could not be executed to find its flows. ``path`` is the script, ``__cause__`` what it raised."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.path)


class MissingFlowError(CoreEngineError):
    """A script or module holds no such flow."""


class UnspecifiedFlowError(CoreEngineError):
    """A script holds several flows and none was named."""


class UnknownTaskRunner(CoreEngineError, ValueError):
    """No task runner is registered under this name."""


class TaskRunnerNotInstalled(CoreEngineError, ImportError):
    """The task runner is known, but what it needs is not installed."""


class SettingsError(CoreEngineError, ValueError):
    """A setting, or a profile, has a value that cannot be used."""


class IllegalTransition(CoreEngineError):
    """A run was asked to make a move that the transition table does not have."""


class ObjectNotFound(CoreEngineError):
    """The store holds no such run, or other record."""


class StoreError(CoreEngineError):
    """The store cannot do what was asked."""


class DatabaseDamaged(StoreError):
    """The database file is not one, or its pages are damaged."""


class DatabaseTooNew(StoreError):
    """The database was made by a later version of core_engine."""


class StoreUnavailable(StoreError):
    """The store cannot be written or reached: disk full, no permission, locked for too long."""


class UnsafeHome(StoreError):
    """The home lies on a file system on which SQLite's write-ahead log is unsafe."""


class Signal(BaseException):
    """Base of the engine's own signals."""


class Abort(Signal):
    """Orchestration refused to go on with this execution; the recorded state stands."""


class Pause(Signal):
    """The run leaves because it is paused. ``state`` is the paused state, None when only known by its recording."""

    def __init__(self, *args: object, state: State | None = None) -> None:
        super().__init__(*args)
        self.state = state


class TerminationSignal(Signal):
    """A termination signal arrived. ``signal`` is its number."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"received signal {signal}")
        self.signal = signal


def exception_text(exception: BaseException) -> str:
    """Returns "Type: text" for an exception, or the type alone where it has no text, or none that can be had."""
    name = type(exception).__name__
    try:
        text = str(exception)
    except Exception as error:
        text = f"(its text cannot be shown, because its __str__ raised {type(error).__name__})"
    return f"{name}: {text}" if text else name


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
