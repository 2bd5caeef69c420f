"""The settings themselves: defaults, values, equality, what is shown and what travels."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from core_engine.settings import Settings, get_current_settings, load_process_settings, temporary_settings


def test_paths_below_the_home_follow_the_home(tmp_path: Path) -> None:
    settings = Settings.from_values({"home": tmp_path})

    assert settings.profiles_path == tmp_path / "profiles.toml"
    assert settings.database_path == tmp_path / "core_engine.db"
    assert settings.local_storage_path == tmp_path / "storage"


def test_the_home_is_absolute_however_it_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/somewhere")

    assert Settings.from_values({"home": "here"}).home == tmp_path / "here"
    assert Settings.from_values({"home": "~/there"}).home == Path("/somewhere/there")
    assert Settings.from_values({}).home == Path("/somewhere/.core_engine")


@pytest.mark.behaviour("LOG-10")
def test_the_level_is_info_and_in_debug_mode_debug() -> None:
    assert Settings.from_values({}).logging_level == "INFO"
    assert Settings.from_values({"debug_mode": True}).logging_level == "DEBUG"
    assert Settings.from_values({"debug_mode": True, "logging_level": "error"}).logging_level == "ERROR"
    assert Settings.from_values({"logging_level": "30"}).logging_level == "WARNING"


@pytest.mark.behaviour("FLOW-DEF-14", "TASK-DEF-7", "CACHE-8", "STATE-14", "RES-POLICY-1", "LOG-PRINT-3")
def test_defaults_change_nothing_about_runs_that_do_not_say_so() -> None:
    settings = Settings.from_values({})

    assert (settings.flow_default_retries, settings.flow_default_retry_delay_seconds) == (0, 0)
    assert (settings.task_default_retries, settings.task_default_retry_delay_seconds) == (0, 0)
    assert not settings.tasks_refresh_cache
    assert not settings.async_fetch_state_result
    assert not settings.results_persist_by_default
    assert not settings.logging_log_prints


@pytest.mark.behaviour("D25", "D26", "D29", "D30")
def test_defaults_that_decisions_name() -> None:
    settings = Settings.from_values({})

    assert settings.grace_seconds == 10
    assert settings.results_fetch_limit_bytes == 1_000_000_000
    assert settings.database_synchronous == "normal"
    assert not settings.allow_network_home


def test_settings_are_immutable_and_know_their_names() -> None:
    settings = Settings.from_values({})

    with pytest.raises(ValidationError, match="frozen"):
        settings.debug_mode = True  # type: ignore[misc]
    with pytest.raises(ValidationError, match="debug_mod"):
        Settings.from_values({"debug_mod": True})


def test_settings_with_the_same_values_are_equal_whether_set_or_default() -> None:
    default, set_to_default = Settings.from_values({}), Settings.from_values({"flow_default_retries": 0})
    other = Settings.from_values({"flow_default_retries": 1})

    assert default == set_to_default
    assert hash(default) == hash(set_to_default)
    assert default.digest == set_to_default.digest
    assert default != other
    assert default.digest != other.digest
    assert default != "settings"


def test_secrets_differ_although_they_are_shown_alike() -> None:
    one, other = (Settings.from_values({"api_key": key}) for key in ("one", "other"))

    assert one != other
    assert one.digest != other.digest


def test_pickled_settings_come_back_equal_with_the_same_values_set() -> None:
    settings = Settings.from_values({"api_key": "secret", "logging_extra_loggers": "a, b"})

    copy = pickle.loads(pickle.dumps(settings))

    assert copy == settings
    assert copy.explicit_values() == settings.explicit_values()


def test_only_values_that_were_set_travel() -> None:
    pickled = pickle.dumps(Settings.from_values({"logging_level": "DEBUG"}))
    script = (
        "import pickle, sys; s = pickle.load(sys.stdin.buffer); print(s.logging_level, s.home, s.flow_default_retries)"
    )

    output = subprocess.run(
        [sys.executable, "-c", script],
        input=pickled,
        env={"HOME": "/elsewhere", "CORE_ENGINE_FLOW_DEFAULT_RETRIES": "3"},
        capture_output=True,
        check=True,
    ).stdout

    assert output.decode().split() == ["DEBUG", "/elsewhere/.core_engine", "0"]


@pytest.mark.behaviour("D32")
def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    settings = Settings.from_values({"api_key": "s3cret", "api_url": "https://user:s3cret@host/api"})
    shown = settings.shown_values()

    assert "s3cret" not in repr(settings) + str(settings) + json.dumps(shown)
    assert shown["api_url"] == "https://user:********@host/api"
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "s3cret"


def test_shown_values_are_all_settings_in_a_form_for_json(tmp_path: Path) -> None:
    shown = json.loads(json.dumps(Settings.from_values({"home": tmp_path}).shown_values()))

    assert set(shown) == set(Settings.model_fields)
    assert shown["home"] == str(tmp_path)


def test_the_representation_names_what_was_set() -> None:
    assert repr(Settings.from_values({"debug_mode": True})) == "Settings(debug_mode=True)"


def test_every_setting_says_what_it_means() -> None:
    assert not [name for name, field in Settings.model_fields.items() if not field.description]


def test_values_come_from_environment_variables_with_the_prefix(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CORE_ENGINE_TASK_DEFAULT_RETRIES", "4")
    environment.setenv("CORE_ENGINE_LOGGING_EXTRA_LOGGERS", "one, two,,")
    environment.setenv("CORE_ENGINE_LOGGING_COLORS", "false")

    load_process_settings()

    settings = get_current_settings()
    assert settings.task_default_retries == 4
    assert settings.logging_extra_loggers == ("one", "two")
    assert settings.logging_colors is False
    assert Settings().task_default_retries == 4


def test_an_empty_environment_variable_is_one_that_is_not_set(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CORE_ENGINE_LOGGING_LEVEL", "")

    load_process_settings()

    assert get_current_settings().logging_level == "INFO"
    assert "logging_level" not in get_current_settings().model_fields_set


def test_the_package_of_settings_is_imported_without_pydantic() -> None:
    script = "import sys, core_engine.settings; print([m for m in ('pydantic', 'tomllib', 'yaml') if m in sys.modules])"

    output = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout

    assert output.strip() == "[]"


def test_temporary_settings_compare_with_others_by_value() -> None:
    before = get_current_settings()
    with temporary_settings({"logging_level": "ERROR"}) as one, temporary_settings({"logging_level": "INFO"}) as other:
        assert one != before
        assert other == before
