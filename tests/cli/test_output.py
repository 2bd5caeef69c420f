"""What commands print for people."""

from pathlib import Path

import pytest

from core_engine.cli.output import command


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of a command in a virtual environment below the folder that the shell is in."""
    path = tmp_path / ".venv" / "bin" / "core-engine"
    path.parent.mkdir(parents=True)
    path.touch(mode=0o700)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sys.argv", [str(path), "run"])
    return path


def test_a_line_to_copy_names_the_command_by_its_path_where_the_environment_is_not_active(installed: Path) -> None:
    assert command() == ".venv/bin/core-engine"


def test_a_line_to_copy_names_the_whole_path_from_another_folder(
    installed: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert command() == str(installed)


def test_a_line_to_copy_names_the_command_alone_where_the_shell_finds_it(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(installed.parent))
    assert command() == "core-engine"


def test_a_line_to_copy_names_the_command_where_another_program_runs_the_flow(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/pytest"])
    assert command() == "core-engine"
