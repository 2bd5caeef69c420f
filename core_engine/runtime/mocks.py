"""Values of runtime attributes that environment variables give, for tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

PREFIX = "CORE_ENGINE__RUNTIME__"


def _as_bool(text: str) -> bool:
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def _as_datetime(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


_CASTS: dict[type, Callable[[str], Any]] = {
    bool: _as_bool,
    int: int,
    float: float,
    str: str,
    type(None): str,
    datetime: _as_datetime,
}


def mocked_text(module: str, name: str) -> str | None:
    """Returns what the environment says for an attribute, None when it says nothing."""
    return os.environ.get(f"{PREFIX}{module.upper()}__{name.upper()}")


def cast_like(text: str, real: Any, name: str) -> Any:
    """Returns the text as a value of the real value's type.

    Raises:
        ValueError: The real value is a list or mapping, which cannot be given this way, or the text is no such value.
    """
    cast = _CASTS.get(type(real))
    if cast is None:
        raise ValueError(
            f"The runtime attribute {name!r} is a {type(real).__name__}, which no environment variable can mock."
        )
    try:
        return cast(text)
    except ValueError as error:
        raise ValueError(
            f"The environment gives {text!r} for the runtime attribute {name!r}, which is a {type(real).__name__}: "
            f"{error}."
        ) from None


def lookup(module: str, name: str, fields: dict[str, Callable[[], Any]]) -> Any:
    """Returns a runtime attribute: what the environment says, or what the run says.

    Raises:
        AttributeError: There is no such attribute.
    """
    text = mocked_text(module, name)
    if name not in fields:
        if text is None:
            raise AttributeError(f"core_engine.runtime.{module} has no attribute {name!r}")
        return text
    real = fields[name]()
    return real if text is None else cast_like(text, real, name)
