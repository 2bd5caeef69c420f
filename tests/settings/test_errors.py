"""Bad input: each error names the place, the value, and what is accepted."""

import subprocess
import sys

import pytest

from core_engine.exceptions import SettingsError
from core_engine.settings import Profile, load_process_settings, temporary_settings, use_profile
from core_engine.settings.sources import environment_origins, make_settings


def test_a_bad_variable_is_named_with_its_value_and_what_is_accepted(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CORE_ENGINE_FLOW_DEFAULT_RETRIES", "many")

    with pytest.raises(SettingsError) as caught:
        load_process_settings()

    message = str(caught.value)
    assert "CORE_ENGINE_FLOW_DEFAULT_RETRIES" in message
    assert "'many'" in message
    assert "valid integer" in message


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("logging_level", "loud", "DEBUG"),
        ("database_synchronous", "off", "'normal' or 'full'"),
        ("grace_seconds", "-1", "greater than or equal to 0"),
        ("logging_to_api_when_missing_flow", "panic", "'warn', 'error' or 'ignore'"),
        ("debug_mode", "perhaps", "valid boolean"),
        ("task_runner_max_workers", "0", "greater than or equal to 1"),
    ],
)
def test_the_error_says_what_is_accepted(name: str, value: str, accepted: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_settings({name: value}, environment_origins([name]))

    assert f"CORE_ENGINE_{name.upper()} cannot be {value!r}" in str(caught.value)
    assert accepted in str(caught.value)


def test_several_bad_values_are_reported_at_once_and_nothing_else() -> None:
    with pytest.raises(SettingsError) as caught, temporary_settings({"home": 3, "debug_mode": "perhaps"}):
        pass

    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.behaviour("D32")
def test_a_bad_secret_is_not_shown() -> None:
    with pytest.raises(SettingsError, match="API_KEY") as caught, temporary_settings({"api_key": [12345]}):
        pass

    assert "12345" not in str(caught.value)


def test_a_bad_value_of_a_profile_is_named_with_the_profile() -> None:
    profile = Profile("work", {"task_default_retries": "x"})

    with (
        pytest.raises(SettingsError, match="TASK_DEFAULT_RETRIES of profile 'work' cannot be 'x'"),
        use_profile(profile),
    ):
        pass


def test_an_unknown_variable_gives_a_warning_that_names_the_closest(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CORE_ENGINE_LOGING_LEVEL", "DEBUG")

    with pytest.warns(UserWarning, match="CORE_ENGINE_LOGING_LEVEL.*Did you mean CORE_ENGINE_LOGGING_LEVEL"):
        load_process_settings()


@pytest.mark.parametrize("name", ["LOGGING_HANDLERS_CONSOLE_LEVEL", "TEST_POSTGRES", "PROFILE"])
def test_variables_with_another_purpose_give_no_warning(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.setenv(f"CORE_ENGINE_{name}", "default")

    load_process_settings()


def test_an_unknown_name_in_code_is_an_error_that_names_the_closest() -> None:
    wrong = {"LOGING_LEVEL": "DEBUG"}

    with pytest.raises(SettingsError, match=r"LOGING_LEVEL.*LOGGING_LEVEL"), temporary_settings(wrong):
        pass


def test_settings_that_could_not_be_read_are_read_again_when_asked_for() -> None:
    script = """if True:
        import os
        from core_engine.exceptions import SettingsError
        from core_engine.settings import get_current_settings
        os.environ["CORE_ENGINE_DEBUG_MODE"] = "perhaps"
        for _ in range(2):
            try:
                get_current_settings()
            except SettingsError as error:
                print(error)
        os.environ["CORE_ENGINE_DEBUG_MODE"] = "1"
        print(get_current_settings().debug_mode)
    """
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout.split(
        "\n"
    )

    assert output[0] == output[1]
    assert "CORE_ENGINE_DEBUG_MODE" in output[0]
    assert output[2] == "True"
