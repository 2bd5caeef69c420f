"""How parameters, times and durations are read from the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

from core_engine.schemas.states import StateType

# Names that the engine itself gives, beside those that say no more than their type.
NAMES_OF_STATES = ("AwaitingRetry", "Cached", "Late", "NotReady", "Rerunning", "Resuming", "Retrying", "TimedOut")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """Returns flow parameters from ``key=value`` texts; a value is JSON, or else the text itself.

    Raises:
        typer.BadParameter: A text has no ``=``, or a key comes twice.
    """
    parameters: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"{pair!r} is not of the form key=value.", param_hint="-p")
        if key in parameters:
            raise typer.BadParameter(f"{key!r} is given twice.", param_hint="-p")
        try:
            parameters[key] = json.loads(text)
        except ValueError:
            parameters[key] = text
    return parameters


def parse_duration(text: str, option: str) -> float:
    """Returns the seconds of a text such as ``90s``, ``15m``, ``12h``, ``30d`` or ``2w``.

    Raises:
        typer.BadParameter: It is none; names `option`.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip().lower())
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is not a duration. Give a number and a unit: 90s, 15m, 12h, 30d or 2w.", param_hint=option
        )
    return float(found[1]) * _UNITS[found[2]]


def parse_moment(text: str, option: str, now: float) -> float:
    """Returns the time, in seconds since the epoch, of an ISO date or time, or of a duration before `now`.

    A time without a zone is in that of this machine.

    Raises:
        typer.BadParameter: It is neither; names `option`.
    """
    if re.fullmatch(r"\s*[\d.]+\s*[a-zA-Z]\s*", text):
        return now - parse_duration(text, option)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a time such as 2026-03-01 or 2026-03-01T12:00 nor a duration such as 2h or 7d.",
            param_hint=option,
        ) from None
    return moment.timestamp()


def parse_states(names: Sequence[str]) -> tuple[list[StateType] | None, list[str] | None]:
    """Returns the state types and the other state names (such as TimedOut) among `names`; None where there are none."""
    types, others = [], []
    for name in names:
        try:
            types.append(StateType(name.upper()))
        except ValueError:
            others.append(name)
    return types or None, others or None


def check_state_names(names: Sequence[str], others: Collection[str]) -> list[str]:
    """Returns state names as they are spelt.

    Parameters:
        names: State names that are no types, as given.
        others: Names that runs of the store have beside the usual ones: flows may name their states.

    Raises:
        typer.BadParameter: There is no such state.
    """
    known = {name.lower(): name for name in (*NAMES_OF_STATES, *others)}
    for name in names:
        if name.lower() not in known:
            types = ", ".join(type.value.lower() for type in StateType)
            raise typer.BadParameter(
                f"{name!r} is not a state. States are {types}; and by name {', '.join(sorted(known.values()))}.",
                param_hint="--state",
            )
    return [known[name.lower()] for name in names]


def parse_level(text: str, option: str) -> int:
    """Returns the number of a logging level given by name or number.

    Raises:
        typer.BadParameter: There is no such level; names `option`.
    """
    import logging

    if text.isdecimal():
        return int(text)
    levels = logging.getLevelNamesMapping()
    if text.upper() not in levels:
        reason = f"{text!r} is not a level: use debug, info, warning, error or critical."
        raise typer.BadParameter(reason, param_hint=option)
    return levels[text.upper()]


def local_time(moment: datetime | None, now: datetime | None = None) -> str:
    """Returns a time in the zone of this machine: of today without the date; None is a dash."""
    if moment is None:
        return "-"
    here = moment.astimezone()
    today = (now or datetime.now(UTC)).astimezone().date()
    return here.strftime("%H:%M:%S" if here.date() == today else "%Y-%m-%d %H:%M:%S")
