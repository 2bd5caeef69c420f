"""The rules are pure: they import nothing that could read a clock, a file, a thread or chance."""

import ast
import sys
from pathlib import Path

import pytest

import core_engine.orchestration

PACKAGE = Path(core_engine.orchestration.__file__).parent
ALLOWED_OWN = {"core_engine.schemas", "core_engine.ids", "core_engine.exceptions", "core_engine.orchestration"}
ALLOWED_STANDARD = {"__future__", "collections", "dataclasses", "datetime", "enum", "uuid"}


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_a_module_of_the_rules_imports_only_records_and_values(path: Path) -> None:
    for name in imported_modules(path):
        if name.startswith("core_engine"):
            assert ".".join(name.split(".")[:2]) in ALLOWED_OWN, name
        else:
            assert name.split(".")[0] in ALLOWED_STANDARD & sys.stdlib_module_names | {"__future__"}, name


def test_the_rules_never_ask_for_the_time_themselves() -> None:
    for path in PACKAGE.glob("*.py"):
        calls = [
            node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Attribute)
        ]
        assert not {"now", "utcnow", "today"} & {node.attr for node in calls if not _is_fact(node)}, path.name


def _is_fact(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "facts"
