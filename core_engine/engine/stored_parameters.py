"""Parameters as they are stored: JSON, with a placeholder where JSON cannot say it, and secrets masked (D32)."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from typing import Any

from core_engine.utilities.secret_names import SECRET_MASK, is_secret_name

_PLAIN = (str, int, float, bool, type(None))
LONGEST_TEXT = 100_000
_PLACEHOLDER = re.compile(r"<\w+>")
_MASKS = (SECRET_MASK, "**********")  # ours, and that of pydantic's SecretStr


def stored_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what stands in the record for each parameter."""
    return {name: SECRET_MASK if is_secret_name(name) else _stored(name, value) for name, value in parameters.items()}


def cannot_be_restored(name: str, stored: Any) -> bool:
    """Returns whether what stands in the record is not the parameter's value: a mask, or a placeholder."""
    if is_secret_name(name):
        return True
    if isinstance(stored, str):
        return stored in _MASKS or _PLACEHOLDER.fullmatch(stored) is not None
    if isinstance(stored, dict):
        return any(cannot_be_restored(str(key), value) for key, value in stored.items())
    return isinstance(stored, list) and any(cannot_be_restored("", member) for member in stored)


def _stored(name: str, value: Any) -> Any:
    if type(value) in _PLAIN:
        return value if not isinstance(value, float) or math.isfinite(value) else str(value)
    try:
        return _masked(json.loads(_as_json(value)))
    except Exception as error:
        logging.getLogger("core_engine.engine").debug(
            "The parameter %r cannot be stored as JSON (%s); a placeholder is stored.", name, error
        )
        return f"<{type(value).__name__}>"


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        from pydantic_core import to_json

        return to_json(value).decode()


def _masked(value: Any) -> Any:
    """Masks what stands under secret names in nested mappings, which were models and dataclasses too."""
    if isinstance(value, dict):
        return {key: SECRET_MASK if is_secret_name(key) else _masked(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_masked(member) for member in value]
    return value
