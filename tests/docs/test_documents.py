"""What the documents say is true: their code runs, their commands work, and what they name is there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core_engine.cli.app import app

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
GUIDES = sorted((ROOT / "docs" / "guide").glob("*.md"))
DOCUMENTS = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")), *GUIDES]
FIRST_FLOW = ROOT / "examples" / "first_flow.py"


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.M | re.S)


def run_script(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "first_flow.py"
    script.write_text(code, encoding="utf-8")
    return subprocess.run([sys.executable, "-W", "error", script.name], cwd=folder, capture_output=True, text=True)


def without_chance(lines: str) -> list[str]:
    """Log lines without times and random names."""
    lines = re.sub(r"^\d\d:\d\d:\d\d\.\d+", "TIME", lines, flags=re.M)
    return re.sub(r"(?i)(flow run )'[^']+'", r"\1'NAME'", lines).splitlines()


def test_the_first_flow_of_the_readme_is_the_example_and_prints_what_the_readme_shows(tmp_path: Path) -> None:
    code = blocks(README, "python")[0]
    example = FIRST_FLOW.read_text(encoding="utf-8")
    assert example[example.index("from core_engine") :] == code
    result = run_script(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert without_chance(result.stderr) == without_chance(blocks(README, "text")[0])


@pytest.mark.parametrize("number", range(1, len(blocks(README, "python"))))
def test_each_other_piece_of_code_in_the_readme_runs_by_itself(number: int, tmp_path: Path) -> None:
    result = run_script(blocks(README, "python")[number], tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_the_code_of_a_guide_runs_from_top_to_bottom(guide: Path, tmp_path: Path) -> None:
    result = run_script("\n\n".join(blocks(guide, "python")), tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_commands_of_the_readme_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(FIRST_FLOW, tmp_path)
    monkeypatch.chdir(tmp_path)
    tour = next(block for block in blocks(README, "sh") if "core-engine run " in block)
    name = ""
    for line in tour.splitlines():
        words = [name if word == "RUN" else word for word in shlex.split(line, comments=True)]
        assert words[0] == "core-engine"
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
        name = name or _name_of_newest_run()
    assert (tmp_path / f"{name}.html").exists()


def _name_of_newest_run() -> str:
    result = CliRunner().invoke(app, ["runs", "--json", "--limit", "1"])
    found = re.search(r'"name": "([^"]+)"', result.stdout)
    assert found is not None, result.stdout
    return found[1]


def test_the_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README.read_text(encoding="utf-8"), re.M))
    assert {"demo", "test"} <= named
    assert named <= targets


def test_the_settings_of_the_readme_have_the_defaults_that_it_says() -> None:
    from core_engine.settings import Settings

    defaults = Settings.from_values({}).shown_values()
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \| `([^`]+)` \|", README.read_text(encoding="utf-8"), re.M)
    assert len(rows) >= 5
    for names, default in rows:
        for name in re.findall(r"[A-Z_]+", names):
            value = str(defaults[name.lower()]).removesuffix(".0")
            assert os.path.expanduser(default).lower() == value.lower(), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_links_and_paths_in_a_document_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if link and not (document.parent / link).exists()]
    paths = re.findall(r"`((?:core_engine|runners|tests|docs|examples|benchmarks|scripts)/[\w./]*)`", text)
    missing += [path for path in paths if not (ROOT / path).exists()]
    assert not missing


def test_the_tests_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert named
    missing = [f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text("utf-8")]
    assert not missing
