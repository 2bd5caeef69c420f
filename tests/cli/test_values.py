import time
from datetime import UTC, datetime, timedelta

import pytest
import typer

from core_engine.cli.values import (
    local_time,
    parse_duration,
    parse_level,
    parse_moment,
    parse_parameters,
    parse_states,
)
from core_engine.schemas.states import StateType


def test_a_parameter_is_json_or_else_text() -> None:
    pairs = ["a=1", "b=[1, 2]", "c=hello", 'd="1"', "e=null", "f=a=b", "g=", "h=true", "i={'x'"]
    assert parse_parameters(pairs) == {
        "a": 1, "b": [1, 2], "c": "hello", "d": "1", "e": None, "f": "a=b", "g": "", "h": True, "i": "{'x'",
    }  # fmt: skip


@pytest.mark.parametrize("pair", ["limit", "=5", ""])
def test_a_parameter_without_key_or_value_is_refused_and_named(pair: str) -> None:
    with pytest.raises(typer.BadParameter, match="key=value"):
        parse_parameters([pair])


def test_a_parameter_given_twice_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="'a' is given twice"):
        parse_parameters(["a=1", "a=2"])


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43200), ("30d", 2592000), ("2w", 1209600), ("1.5H", 5400)]
)
def test_durations_have_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text, "--older-than") == seconds


@pytest.mark.parametrize("text", ["30", "d", "-3d", "3 years", ""])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a duration"):
        parse_duration(text, "--older-than")


def test_a_moment_is_a_date_a_time_or_so_long_ago() -> None:
    now = datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp()
    assert parse_moment("2h", "--since", now) == now - 7200
    assert parse_moment("2026-03-01T12:00+00:00", "--since", now) == datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
    assert parse_moment("2026-03-01", "--since", now) == datetime(2026, 3, 1).astimezone().timestamp()
    with pytest.raises(typer.BadParameter, match="yesterday"):
        parse_moment("yesterday", "--since", now)


def test_states_are_types_or_names() -> None:
    assert parse_states(["failed", "TimedOut", "CRASHED"]) == ([StateType.FAILED, StateType.CRASHED], ["TimedOut"])
    assert parse_states([]) == (None, None)


def test_levels_are_names_or_numbers() -> None:
    assert [parse_level(text, "--level") for text in ("debug", "WARNING", "35")] == [10, 30, 35]
    with pytest.raises(typer.BadParameter, match="loud"):
        parse_level("loud", "--level")


def test_times_of_today_are_shown_without_the_date() -> None:
    now = datetime.now(UTC)
    assert len(local_time(now, now)) == len("12:00:00")
    assert local_time(now - timedelta(days=2), now).startswith(time.strftime("%Y-"))
    assert local_time(None) == "-"
