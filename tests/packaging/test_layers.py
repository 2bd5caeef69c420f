"""The arrows between the packages point one way, as docs/architecture.md draws them."""

import ast
import importlib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]

# What a runner, ours or anyone's, may rely on.
PUBLIC_MODULES = {
    "core_engine",
    *(f"core_engine.{name}" for name in ("annotations", "context", "exceptions", "flows", "futures", "remote")),
    *(f"core_engine.{name}" for name in ("results", "schemas", "serializers", "settings", "states")),
    *(f"core_engine.{name}" for name in ("task_runners", "tasks")),
}
# Modules of the standard library without input, output, clock, chance or threads.
PURE = {
    "__future__",
    "collections",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "itertools",
    "math",
    "typing",
    "uuid",
}
IMPURE_CALLS = {"now", "utcnow", "today", "uuid1", "uuid4", "open", "print"}


class Import(NamedTuple):
    """One imported name. `when` is "loading", "running" (inside a function) or "checking" (only for type checkers)."""

    file: str
    line: int
    when: str
    module: str
    name: str | None

    @property
    def unit(self) -> str:
        """The top-level package, or the package or module directly below core_engine."""
        parts = self.module.split(".")
        if parts[0] != "core_engine":
            return parts[0]
        return parts[1] if len(parts) > 1 else self.name or "core_engine"

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}{f'.{self.name}' if self.name else ''} when {self.when}"


def imports_of(folder: str) -> list[Import]:
    """Return every import in the Python files below a folder, or in one file."""
    path = ROOT / folder
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert files, f"there is no {folder}"
    return [found for file in files for found in _imports(ast.parse(file.read_text()), str(file.relative_to(ROOT)))]


def _imports(node: ast.AST, file: str, when: str = "loading") -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{file}:{child.lineno}: a relative import"
            yield from (Import(file, child.lineno, when, child.module or "", alias.name) for alias in child.names)
        elif isinstance(child, ast.Import):
            yield from (Import(file, child.lineno, when, alias.name, None) for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from _imports(ast.Module(child.body, []), file, "checking")
            yield from _imports(ast.Module(child.orelse, []), file, when)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and when == "loading":
            yield from _imports(child, file, "running")
        else:
            yield from _imports(child, file, when)


def said(imports: list[Import]) -> str:
    return "\n".join(map(str, imports))


def of_ours(imports: list[Import]) -> list[Import]:
    return [found for found in imports if found.module.split(".")[0] in ("core_engine", "runners")]


@pytest.mark.parametrize(
    ("package", "whens", "allowed"),
    [
        ("orchestration", ("loading", "running", "checking"), {"exceptions", "ids", "schemas"}),
        ("concurrency", ("loading", "running"), set()),
        ("schemas", ("loading",), {"ids"}),
        ("exceptions.py", ("loading", "running"), {"vocabulary"}),
        ("ids.py", ("loading", "running", "checking"), set()),
        ("utilities", ("loading", "running"), {"annotations", "exceptions", "vocabulary"}),
    ],
)
def test_a_package_at_the_bottom_imports_only_what_is_below_it(
    package: str, whens: tuple[str, ...], allowed: set[str]
) -> None:
    own = package.removesuffix(".py")
    imports = [found for found in of_ours(imports_of(f"core_engine/{package}")) if found.when in whens]
    assert not (bad := [found for found in imports if found.unit not in {own, *allowed}]), said(bad)


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("backend", {"client", "context", "engine", "flows", "futures", "task_runners", "tasks"}),
        ("results", {"backend", "client", "engine", "flows", "tasks"}),
        ("settings", {"backend", "client", "context", "engine", "flows", "tasks"}),
        ("page", {"client", "engine", "flows", "tasks"}),
        ("engine", {"cli", "page", "testing"}),
        ("client", {"cli", "page", "testing"}),
    ],
)
def test_a_package_does_not_import_what_stands_above_it(package: str, forbidden: set[str]) -> None:
    imports = [found for found in of_ours(imports_of(f"core_engine/{package}")) if found.when != "checking"]
    assert not (bad := [found for found in imports if found.unit in forbidden]), said(bad)


def test_orchestration_does_no_input_or_output_and_has_no_clock_and_no_threads() -> None:
    imports = [found for found in imports_of("core_engine/orchestration") if found.when != "checking"]
    assert not (bad := [found for found in imports if found.unit not in PURE and not of_ours([found])]), said(bad)
    calls = [
        f"{file.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}"
        for file in sorted((ROOT / "core_engine/orchestration").glob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in IMPURE_CALLS
    ]
    assert not calls, "\n".join(calls)


def test_runners_import_only_public_names() -> None:
    for found in of_ours(imports_of("runners")):
        if found.module.startswith("runners"):
            continue
        assert found.module in PUBLIC_MODULES, str(found)
        public = getattr(importlib.import_module(found.module), "__all__", None)
        if found.name is not None and public is not None:
            assert found.name in public, f"{found}, which is not in its __all__"


def test_nothing_imports_a_runner() -> None:
    imports = [found for found in imports_of("core_engine") if found.unit == "runners"]
    assert not imports, said(imports)


def test_packages_do_not_import_each_other_in_circles() -> None:
    graph: dict[str, set[str]] = {}
    for found in of_ours(imports_of("core_engine")):
        unit = Path(found.file).relative_to("core_engine").parts[0].removesuffix(".py")
        if found.when == "loading" and unit not in ("__init__", "testing", found.unit):
            graph.setdefault(unit, set()).add(found.unit)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
