#!/usr/bin/env python3
"""Make docs/compatibility.md of core_engine/vocabulary.toml, or with --check say whether it is what would be made."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
sys.path.insert(0, str(ROOT))

from core_engine.vocabulary import VocabularyModule, vocabulary  # noqa: E402  # of this checkout, not of an installed one

HEAD = """# Which names of Prefect 2.13 are here

Made by `scripts/compatibility.py` of `core_engine/vocabulary.toml`; a test holds that every name said to be here can be
imported, and that every other one gives an ImportError or AttributeError with the words of this page.
[differences.md](differences.md) has what behaves otherwise under the same name.

Settings are fields: `PREFECT_LOGGING_LEVEL` is `get_current_settings().logging_level`, in the environment
`CORE_ENGINE_LOGGING_LEVEL`. `core-engine settings` lists those that there are.
"""


def page() -> str:
    """Return the text of the page."""
    modules = list(vocabulary().values())
    parts = [HEAD, "## Modules\n", _modules(modules)]
    parts += [_section(module) for module in modules if module.instead is None]
    return "\n".join(parts)


def _modules(modules: list[VocabularyModule]) -> str:
    lines = ["| there | here |", "| --- | --- |"]
    here = [module for module in modules if module.instead is None and not _is_class(module)]
    lines += [f"| `{_there(module)}` | `{module.place}` |" for module in here]
    others = [module for module in modules if module.instead is not None]
    lines += [f"| `{_there(module)}` | not here; instead: {module.instead} |" for module in others]
    return "\n".join(lines) + "\n"


def _section(module: VocabularyModule) -> str:
    title = f"`{_there(module)}`"
    if module.place.replace("core_engine", "prefect", 1) != _there(module):
        title += f", here `{module.place}`"
    lines = [f"## {title}\n"]
    if module.here:
        lines.append(f"Here: {', '.join(f'`{name}`' for name in module.here)}.\n")
    rows = [f"| `{name}` | `{other}` |" for name, other in module.renamed.items()]
    groups: dict[str, list[str]] = {}
    for name, instead in module.absent.items():
        groups.setdefault(instead, []).append(f"`{name}`")
    rows += [f"| {', '.join(names)} | not here; instead: {instead} |" for instead, names in groups.items()]
    if rows:
        lines += ["| there | here |", "| --- | --- |", *rows, ""]
    return "\n".join(lines)


def _there(module: VocabularyModule) -> str:
    return f"prefect.{module.name}" if module.name else "prefect"


def _is_class(module: VocabularyModule) -> bool:
    return module.name.rpartition(".")[2][:1].isupper()


def main() -> int:
    """Write or check the page and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is not up to date")
    text = page()
    if not parser.parse_args().check:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{PAGE.relative_to(ROOT)} is not what scripts/compatibility.py makes: run it.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
