"""Exceptions that can be sent and stored, whatever they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_engine.exceptions import FailedRun
from core_engine.results.records import type_name

if TYPE_CHECKING:
    from core_engine.serializers import Serializer


def portable_exception(exception: BaseException, serializer: Serializer | None = None) -> BaseException:
    """Returns the exception itself if it survives being written and read, else one that says the same as text.

    Many exceptions can be pickled but not made again, because they pass other arguments on than they take; so they
    are tried both ways.

    Parameters:
        exception: Any exception.
        serializer: What writes and reads it; None is the pickle serializer.
    """
    from core_engine.serializers import PickleSerializer

    return exception if survives(exception, serializer or PickleSerializer()) else exception_as_text(exception)


def survives(exception: BaseException, serializer: Serializer) -> bool:
    """Returns whether `serializer` gives back an exception of the same type."""
    try:
        return isinstance(serializer.loads(serializer.dumps(exception)), type(exception))
    except Exception:  # whatever the user's class or serializer raises, the answer is no
        return False


def exception_as_text(exception: BaseException) -> FailedRun:
    """Returns a FailedRun that holds type and text of `exception`, with its traceback as a note."""
    import traceback

    try:
        text = str(exception)
    except Exception as error:  # the user's __str__
        text = f"<its text cannot be shown: {type(error).__name__}>"
    name = type_name(exception)
    stand_in = FailedRun(f"{name}: {text}" if text else name)
    if exception.__traceback__ is not None:
        frames = "".join(traceback.format_tb(exception.__traceback__))
        stand_in.add_note(f"The exception itself could not be serialized. Where it was raised:\n{frames.rstrip()}")
    return stand_in
