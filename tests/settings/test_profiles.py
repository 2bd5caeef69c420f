"""Profiles: the file, which one is used, and how one is put on top of what holds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core_engine.exceptions import SettingsError
from core_engine.settings import (
    Profile,
    get_current_settings,
    get_settings_context,
    load_process_settings,
    temporary_settings,
    use_profile,
)

WriteProfiles = Callable[[str], None]


@pytest.fixture
def write_profiles(home: Path, environment: pytest.MonkeyPatch) -> WriteProfiles:
    def write(text: str) -> None:
        (home / "profiles.toml").write_text(text, encoding="utf-8")

    return write


TWO_PROFILES = """
active = "one"
[profiles.one]
TASK_DEFAULT_RETRIES = 1
[profiles.two]
CORE_ENGINE_TASK_DEFAULT_RETRIES = 2
flow_default_retries = 2
"""


def test_the_active_profile_of_the_file_is_used(write_profiles: WriteProfiles) -> None:
    write_profiles(TWO_PROFILES)

    context = load_process_settings()

    assert context.profile.name == "one"
    assert context.settings.task_default_retries == 1


@pytest.mark.behaviour("CTX-12")
def test_the_command_line_beats_the_variable_and_that_beats_the_file(
    write_profiles: WriteProfiles, environment: pytest.MonkeyPatch
) -> None:
    write_profiles(TWO_PROFILES + "[profiles.three]\n")
    environment.setenv("CORE_ENGINE_PROFILE", "two")

    assert load_process_settings().profile.name == "two"
    assert load_process_settings("three").profile.name == "three"


@pytest.mark.behaviour("CTX-12")
def test_a_variable_that_names_no_profile_gives_a_warning_and_the_default_profile(
    write_profiles: WriteProfiles, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_profiles(TWO_PROFILES + "[profiles.default]\ntask_default_retries = 9\n")
    environment.setenv("CORE_ENGINE_PROFILE", "missing")

    context = load_process_settings()

    warning = capsys.readouterr().err
    assert "'missing'" in warning
    assert "CORE_ENGINE_PROFILE" in warning
    assert context.profile.name == "default"
    assert context.settings.task_default_retries == 9


@pytest.mark.behaviour("CTX-12")
def test_a_command_line_that_names_no_profile_gives_a_warning_and_the_default_profile(
    write_profiles: WriteProfiles, capsys: pytest.CaptureFixture[str]
) -> None:
    write_profiles(TWO_PROFILES)

    context = load_process_settings("missing")

    warning = capsys.readouterr().err
    assert "'missing'" in warning
    assert "command line" in warning
    assert context.profile.name == "default"
    assert context.settings.task_default_retries == 0


@pytest.mark.behaviour("CTX-11")
def test_the_environment_beats_the_profile(write_profiles: WriteProfiles, environment: pytest.MonkeyPatch) -> None:
    write_profiles(TWO_PROFILES)
    environment.setenv("CORE_ENGINE_TASK_DEFAULT_RETRIES", "5")

    assert load_process_settings().settings.task_default_retries == 5
    with use_profile("two") as context:
        assert (context.settings.task_default_retries, context.settings.flow_default_retries) == (5, 2)
    with use_profile("two", override_environment_variables=True) as context:
        assert context.settings.task_default_retries == 2


@pytest.mark.behaviour("CTX-11")
def test_a_used_profile_layers_nests_and_restores(write_profiles: WriteProfiles) -> None:
    write_profiles(TWO_PROFILES)
    before = load_process_settings()

    with temporary_settings({"grace_seconds": 3}), use_profile("one"):
        with use_profile(Profile("inner", {"FLOW_DEFAULT_RETRIES": 4})) as context:
            assert get_current_settings() is context.settings
            assert context.profile.name == "inner"
            assert context.settings.flow_default_retries == 4
            assert context.settings.task_default_retries == 1
            assert context.settings.grace_seconds == 3
        with use_profile("two", include_current_context=False) as context:
            assert context.settings.grace_seconds == 10
        assert get_settings_context().profile.name == "one"

    assert get_settings_context() is before


def test_a_profile_that_is_used_by_name_must_exist(write_profiles: WriteProfiles) -> None:
    write_profiles(TWO_PROFILES)
    load_process_settings()

    with pytest.raises(SettingsError, match=r"'missing'.*one, two"), use_profile("missing"):
        pass


def test_an_unknown_setting_in_a_profile_gives_a_warning_with_its_place(write_profiles: WriteProfiles) -> None:
    write_profiles("[profiles.default]\nTASK_DEFAULT_RETRYS = 1\n")

    with pytest.warns(UserWarning, match="TASK_DEFAULT_RETRYS of profile 'default' in .*TASK_DEFAULT_RETRIES"):
        load_process_settings()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("active = ", "not a valid TOML file"),
        ("active = 3", "active must be the name"),
        ("[profiles]\nwork = 3", "table of its own"),
        ("profiles = 3", "table of its own"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(
    write_profiles: WriteProfiles, home: Path, text: str, reason: str
) -> None:
    write_profiles(text)

    with pytest.raises(SettingsError, match=reason) as caught:
        load_process_settings()

    assert str(home / "profiles.toml") in str(caught.value)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(home: Path, environment: pytest.MonkeyPatch) -> None:
    (home / "profiles.toml").mkdir()

    with pytest.raises(SettingsError, match=r"profiles\.toml cannot be read: .+"):
        load_process_settings()


def test_the_file_may_lie_elsewhere(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text(TWO_PROFILES)
    environment.setenv("CORE_ENGINE_PROFILES_PATH", str(tmp_path / "mine.toml"))

    assert load_process_settings().profile.path == tmp_path / "mine.toml"
