"""Checks of what users give as options: a wrong one is an error where it is given, which says what is right.

Each returns the value, so that an option is checked where it is kept, and raises TypeError for a value of another type,
ValueError for one out of range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from math import isfinite
from numbers import Integral, Real
from typing import Any, TypeVar, cast
from uuid import UUID

from core_engine.exceptions import InvalidNameError

T = TypeVar("T")

FORBIDDEN_IN_NAMES = "/%&><"
MOST_RETRY_DELAYS = 50


def shown(value: object) -> str:
    """Returns a value as messages show it: cut, with its type."""
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"


def check_names_of_options(kind: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Raises TypeError for an option that a decorator does not have."""
    known = sorted(known)
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"It has: {', '.join(known)}."
            raise TypeError(f"@{kind} has no option {name!r}. {hint}")


def check_instance(value: T, option: str, accepted: type | tuple[type, ...], words: str) -> T:
    """Returns a value that is None or of an accepted type; `words` says which in a message."""
    if value is None or isinstance(value, accepted):
        return value
    raise TypeError(f"{option} must be {words}, not {shown(value)}.")


def check_text(value: object, option: str) -> str | None:
    """Returns a text; None stays None."""
    return cast("str | None", check_instance(value, option, str, "a text"))


def check_id(value: object, option: str) -> UUID:
    """Returns the id that a UUID or its text is."""
    if isinstance(value, UUID):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{option} must be a UUID or its text, not {shown(value)}.")
    try:
        return UUID(value)
    except ValueError:
        raise ValueError(f"{option} must be a UUID, such as {UUID(int=7)}; {value!r} is none.") from None


def check_version(value: object) -> str | None:
    """Returns a version as text; None stays None."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return check_text(value, "version")


def check_flag(value: object, option: str, may_be_none: bool = True) -> Any:
    """Returns True or False, or None where that means something."""
    if isinstance(value, bool) or (value is None and may_be_none):
        return value
    raise TypeError(f"{option} must be True{', False or None' if may_be_none else ' or False'}, not {shown(value)}.")


def check_function(value: T, option: str) -> T:
    """Returns a function; None stays None."""
    if value is None or callable(value):
        return value
    raise TypeError(f"{option} must be a function, not {shown(value)}.")


def check_count(value: object, option: str, least: int = 0) -> int:
    """Returns a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{option} must be a whole number such as 3, not {shown(value)}.")
    if value < least:
        raise ValueError(f"{option} must be at least {least}, not {value}.")
    return int(value)


def check_seconds(value: object, option: str, hint: str = "") -> float:
    """Returns a number of seconds, 0 or more."""
    if isinstance(value, timedelta):
        raise TypeError(f"{option} must be a number of seconds, not {value!r}. Write {value.total_seconds():g}.")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{option} must be a number of seconds such as 2.5, not {shown(value)}. {hint}".rstrip())
    if not isfinite(value) or value < 0:
        raise ValueError(f"{option} must be a number of seconds of 0 or more, not {value}. {hint}".rstrip())
    return cast(float, value)


def check_delays(delays: Any, retries: int) -> float | list[float]:
    """Returns the delays before the retries of a task: one number, or a list."""
    option = "retry_delay_seconds"
    if callable(delays):
        delays = delays(retries)
        if not isinstance(delays, list | tuple | int | float):
            raise TypeError(f"The function given as {option} must return a list of seconds; it gave {shown(delays)}.")
    if not isinstance(delays, list | tuple):
        return check_seconds(delays, option, "Or give a list of such numbers, or a function that makes one.")
    if len(delays) > MOST_RETRY_DELAYS:
        raise ValueError(f"{len(delays)} retry delays are too many; at most {MOST_RETRY_DELAYS} can be given.")
    return [check_seconds(delay, f"{option}[{index}]") for index, delay in enumerate(delays)]


def check_jitter(factor: object) -> float | None:
    """Returns up to which part of itself a delay is lengthened; None stays None."""
    if factor is None:
        return None
    if isinstance(factor, bool) or not isinstance(factor, Real):
        raise TypeError(f"retry_jitter_factor must be a number such as 0.5, not {shown(factor)}.")
    if not isfinite(factor) or factor < 0:
        raise ValueError(f"retry_jitter_factor must be 0 or more, not {factor}.")
    return cast(float, factor)


def check_tags(tags: object, option: str = "tags") -> set[str]:
    """Returns tags as a set; None is none."""
    if tags is None:
        return set()
    if isinstance(tags, str | bytes):
        raise TypeError(f"{option} takes a list of texts, not one text. Write {option}=[{tags!r}].")
    if not isinstance(tags, Iterable):
        raise TypeError(f"{option} takes a list of texts, not {shown(tags)}.")
    found = list(tags)
    for tag in found:
        if not isinstance(tag, str):
            raise TypeError(f"{option} takes a list of texts; it holds {shown(tag)}.")
    return set(found)


def check_expiration(value: object) -> timedelta | None:
    """Returns how long a cached result serves; None stays None."""
    hint = f" Write timedelta(seconds={value})." if isinstance(value, int | float) else ""
    if value is None or isinstance(value, timedelta):
        return value
    raise TypeError(f"cache_expiration must be a datetime.timedelta, not {shown(value)}.{hint}")


def check_result_storage(value: T) -> T:
    """Returns a storage, or what names one; whether that is there is seen where a run needs it."""
    if value is None or isinstance(value, str):
        return value
    from pathlib import Path

    from core_engine.results import ResultStorage
    from core_engine.results.storage import ACCEPTED_STORAGES

    return check_instance(value, "result_storage", (Path, ResultStorage), ACCEPTED_STORAGES)


def check_result_serializer(value: T) -> T:
    """Returns a serializer, or the text that names one."""
    if value is not None and not isinstance(value, str):
        from core_engine.serializers import resolve_serializer

        resolve_serializer(value)
    return value


def check_callable(fn: object, kind: str) -> None:
    """Raises TypeError unless `fn` can be called."""
    if isinstance(fn, classmethod):
        raise TypeError(f"A {kind} is made of a function, not of a class method. Write @classmethod above @{kind}.")
    if not callable(fn):
        raise TypeError(f"A {kind} is made of a function; {fn!r} ({type(fn).__name__}) cannot be called.")


def check_name(name: object, kind: str) -> None:
    """Checks an explicit name.

    Raises:
        TypeError: It is not text.
        InvalidNameError: It holds a character that is not allowed.
    """
    if not isinstance(name, str):
        hint = " Write @flow(...) with keywords, or call the function that makes the name." if callable(name) else ""
        raise TypeError(f"The parameter 'name' of a {kind} must be a string, not {type(name).__name__}.{hint}")
    found = [character for character in FORBIDDEN_IN_NAMES if character in name]
    if found:
        raise InvalidNameError(
            f"The name {name!r} holds the character {found[0]!r}, which is not allowed in a {kind}'s name."
        )


def check_run_name(run_name: object, option: str) -> None:
    """Raises TypeError unless `run_name` is a template, a function or None."""
    if run_name is not None and not isinstance(run_name, str) and not callable(run_name):
        raise TypeError(f"{option} must be a string or a function that makes one, not {type(run_name).__name__}.")


def check_hooks(hooks: object, option: str) -> list[Callable[..., Any]] | None:
    """Returns the hooks as a list; None stays None.

    Raises:
        TypeError: Not an iterable of callables.
        ValueError: An empty iterable.
    """
    if hooks is None:
        return None
    if not isinstance(hooks, Iterable) or isinstance(hooks, (str, bytes)):
        raise TypeError(
            f"{option} takes a list of functions, not {type(hooks).__name__}. Write {option}=[hook1, hook2]."
        )
    listed = list(hooks)
    if not listed:
        raise ValueError(f"{option} is empty. Give at least one function, or leave the option out.")
    for hook in listed:
        if not callable(hook):
            raise TypeError(f"{option} takes a list of functions; it holds a {type(hook).__name__} ({hook!r}).")
    return listed


def check_timeout(timeout_seconds: object) -> float | None:
    """Returns a limit in seconds as a float; None and 0 mean none. Raises as ``check_seconds``."""
    if timeout_seconds is None:
        return None
    return float(check_seconds(timeout_seconds, "timeout_seconds", "None or 0 means no limit.")) or None


def check_resources(resources: object) -> dict[str, float] | None:
    """Returns a copy of what a task takes of its worker; None and nothing mean nothing in particular.

    Raises:
        TypeError: Not a mapping from names to numbers.
        ValueError: An amount that is not above 0, or not finite.
    """
    if resources is None:
        return None
    if not isinstance(resources, Mapping):
        raise TypeError(f"resources must be a mapping such as {{'GPU': 1}}, not {type(resources).__name__}.")
    for name, amount in resources.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"A resource is named by a string, not {name!r}.")
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            raise TypeError(f"The amount of the resource {name!r} must be a number, not {amount!r}.")
        if not (amount > 0 and isfinite(amount)):
            raise ValueError(f"The amount of the resource {name!r} must be above 0, not {amount}.")
    return dict(resources) or None
