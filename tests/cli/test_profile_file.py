import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_engine.cli.profile_file import _checked, _with_profile, change_profile, use_profile
from core_engine.exceptions import SettingsError

FILE = """\
# My settings
active = "work"  # since May

[profiles.work]
# all of it
LOGGING_LEVEL = "DEBUG"
TASK_DEFAULT_RETRIES = 2

[profiles.home]
LOGGING_LEVEL = "INFO"
"""

keys = st.sampled_from(["A", "B_1", "LOGGING_LEVEL", "TASK_DEFAULT_RETRIES"])
values = st.one_of(
    st.integers(-10, 10**9), st.booleans(), st.text(max_size=12), st.lists(st.text(max_size=3), max_size=3)
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "profiles.toml"
    path.write_text(FILE)
    return path


def test_a_change_leaves_the_rest_as_it_was_written(path: Path) -> None:
    change_profile(path, "work", {"LOGGING_LEVEL": "ERROR", "GRACE_SECONDS": 3.0}, frozenset({"TASK_DEFAULT_RETRIES"}))
    expected = FILE.replace('LOGGING_LEVEL = "DEBUG"', 'LOGGING_LEVEL = "ERROR"')
    assert path.read_text() == expected.replace("TASK_DEFAULT_RETRIES = 2", "GRACE_SECONDS = 3.0")


def test_a_profile_that_is_missing_is_made(path: Path) -> None:
    change_profile(path, "new one", {"API_KEY": 'a"b\\c'})
    assert tomllib.loads(path.read_text())["profiles"]["new one"] == {"API_KEY": 'a"b\\c'}
    assert path.read_text().startswith(FILE)


def test_a_file_that_is_missing_is_made_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "profiles.toml"
    change_profile(path, "default", {"API_KEY": "secret"})
    assert tomllib.loads(path.read_text()) == {"profiles": {"default": {"API_KEY": "secret"}}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_active_profile_is_replaced_or_added(path: Path, tmp_path: Path) -> None:
    use_profile(path, "home")
    assert path.read_text() == FILE.replace('active = "work"  # since May', 'active = "home"')
    empty = tmp_path / "empty.toml"
    use_profile(empty, "x")
    assert tomllib.loads(empty.read_text()) == {"active": "x"}


def test_values_over_several_lines_are_kept_though_not_their_form(path: Path) -> None:
    path.write_text('[profiles.work]\nLOGGING_EXTRA_LOGGERS = [\n  "a",\n  "b",\n]\n')
    change_profile(path, "work", {"LOGGING_EXTRA_LOGGERS": ["c"]})
    assert tomllib.loads(path.read_text())["profiles"]["work"] == {"LOGGING_EXTRA_LOGGERS": ["c"]}


@given(st.dictionaries(keys, values), st.frozensets(keys), st.sampled_from(["work", "home", "a.b", 'qu"ote']))
def test_the_text_always_says_what_was_asked_for(
    change: dict[str, object], unset: frozenset[str], profile: str
) -> None:
    expected = tomllib.loads(FILE)
    table = expected["profiles"].setdefault(profile, {})
    for key in unset | change.keys():
        table.pop(key, None)
    table.update(change)
    assert tomllib.loads(_checked(_with_profile(FILE, profile, change, unset), expected)) == expected


def test_a_file_that_is_no_toml_is_left_alone(path: Path) -> None:
    path.write_text("nonsense [")
    with pytest.raises(SettingsError, match="not a valid TOML file"):
        change_profile(path, "work", {"A": 1})
    assert path.read_text() == "nonsense ["
