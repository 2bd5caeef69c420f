from pathlib import Path

import pytest

from tests.cli.conftest import Cli


def test_settings_are_shown_with_where_they_come_from(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("settings", "set", "grace_seconds=3", "CORE_ENGINE_LOGGING_LEVEL=debug")
    shown = reread(cli)["settings"]
    assert shown["HOME"] == {"value": str(home), "source": "CORE_ENGINE_HOME"}
    assert shown["GRACE_SECONDS"] == {"value": 3.0, "source": "profile 'default'"}
    assert shown["LOGGING_LEVEL"] == {"value": "DEBUG", "source": "profile 'default'"}
    assert shown["API_URL"] == {"value": None, "source": "default"}
    assert "GRACE_SECONDS" in cli("settings", "view", "--changed").stdout
    assert "API_URL" not in cli("settings", "view", "--changed").stdout


@pytest.mark.behaviour("D32")
def test_secrets_are_masked(cli: Cli) -> None:
    result = cli("settings", "set", "API_KEY=hunter2")
    assert "hunter2" not in result.output
    assert reread(cli)["settings"]["API_KEY"]["value"] == "********"
    assert "hunter2" not in cli("settings").output


def test_a_setting_is_taken_out_again_however_it_was_spelt(cli: Cli, home: Path) -> None:
    home.mkdir()
    (home / "profiles.toml").write_text('[profiles.default]\ncore_engine_logging_level = "ERROR"\n')
    reread(cli)
    cli("settings", "unset", "LOGGING_LEVEL")
    assert reread(cli)["settings"]["LOGGING_LEVEL"]["source"] == "default"
    assert "not set" in cli("settings", "unset", "LOGGING_LEVEL", code=2).stderr


@pytest.mark.parametrize(
    ("pair", "told"), [("LOGING_LEVEL=INFO", "LOGGING_LEVEL"), ("GRACE_SECONDS=soon", "'soon'"), ("HOME", "NAME=VALUE")]
)
def test_a_wrong_setting_is_refused_with_the_reason(cli: Cli, home: Path, pair: str, told: str) -> None:
    assert told in cli("settings", "set", pair, code=2).stderr
    assert not (home / "profiles.toml").exists()


def test_a_variable_that_goes_above_the_profile_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORE_ENGINE_LOGGING_LEVEL", "ERROR")
    assert "goes above the profile" in cli("settings", "set", "LOGGING_LEVEL=DEBUG").stderr


def test_profiles_are_made_chosen_and_listed(cli: Cli) -> None:
    cli("settings", "profiles", "create", "work")
    cli("settings", "set", "--profile", "work", "GRACE_SECONDS=4")
    cli("settings", "profiles", "create", "play", "--from", "work")
    assert "already a profile" in cli("settings", "profiles", "create", "work", code=2).stderr
    assert "elsewhere" in cli("settings", "profiles", "use", "elsewhere", code=2).stderr
    cli("settings", "profiles", "use", "play")
    assert reread(cli)["settings"]["GRACE_SECONDS"] == {"value": 4.0, "source": "profile 'play'"}
    assert cli("settings", "profiles", "list").stdout.splitlines() == ["  default", "  work", "* play"]
    assert cli.json("settings", "profiles", "list")["profiles"] == ["default", "work", "play"]


@pytest.mark.behaviour("CTX-12")
def test_the_command_line_chooses_a_profile_above_the_variable(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("work", "play"):
        cli("settings", "profiles", "create", name)
    monkeypatch.setenv("CORE_ENGINE_PROFILE", "work")
    assert reread(cli)["profile"] == "work"
    assert cli.json("--profile", "play", "settings")["profile"] == "play"
    result = cli("--profile", "nowhere", "settings", "--json")
    assert "the command line names the profile 'nowhere'" in result.stderr


def reread(cli: Cli) -> dict[str, dict[str, dict[str, object]]]:
    """What ``core-engine settings`` would show in a new process."""
    from core_engine.settings import load_process_settings

    load_process_settings()
    return cli.json("settings")  # type: ignore[no-any-return]
