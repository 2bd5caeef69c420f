"""Which test holds which numbered behaviour: the marker ``behaviour`` and the report made of it.

A test says ``@pytest.mark.behaviour("FLOW-DEF-3", "D7")``. An id that ``docs/behaviours.txt`` does not list fails the
test. With ``--behaviour-report=PATH`` the outcome of every test and the ids it names are written as JSON, also under
pytest-xdist; ``scripts/behaviours.py`` makes a table of such files.
"""

import json
from pathlib import Path
from typing import Any

import pytest

_KNOWN_IDS_FILE = Path(__file__).parents[2] / "docs" / "behaviours.txt"
_PROPERTY = "behaviours"


def known_behaviours() -> frozenset[str]:
    """Return the ids that a test may name."""
    lines = _KNOWN_IDS_FILE.read_text(encoding="utf-8").splitlines()
    return frozenset(line.split()[0] for line in lines if line.strip() and not line.startswith("#"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--behaviour-report",
        metavar="PATH",
        help="write every test's outcome and the behaviours it names to PATH, as JSON",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_MarkerCheck(known_behaviours()), "behaviour-marker-check")
    path = config.getoption("--behaviour-report")
    is_xdist_worker = hasattr(config, "workerinput")
    if path and not is_xdist_worker:
        config.pluginmanager.register(_Report(config.rootpath / path), "behaviour-report")


class _MarkerCheck:
    """Carries a test's ids on its reports, the way by which xdist brings them to the main process."""

    def __init__(self, known: frozenset[str]) -> None:
        self._known = known

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        ids = sorted({str(name) for marker in item.iter_markers("behaviour") for name in marker.args})
        if ids:
            item.user_properties.append((_PROPERTY, ids))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        unknown = [name for name in _behaviours_of(item) if name not in self._known]
        if unknown:
            pytest.fail(
                f"The marker names {', '.join(unknown)}, which docs/behaviours.txt does not list", pytrace=False
            )


class _Report:
    """Collects the outcome of every test in the main process and writes them at the end of the session."""

    # A later phase replaces an earlier one only by something worse: a test that passed and then leaked has failed.
    _RANK = {"passed": 0, "skipped": 1, "failed": 2}

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tests: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = self._tests.setdefault(
            report.nodeid, {"test": report.nodeid, "behaviours": _behaviours_of(report), "outcome": "passed"}
        )
        if self._RANK[report.outcome] > self._RANK[test["outcome"]]:
            test["outcome"] = report.outcome

    def pytest_sessionfinish(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        tests = [self._tests[nodeid] for nodeid in sorted(self._tests)]
        self._path.write_text(json.dumps({"tests": tests}, indent=1) + "\n", encoding="utf-8")


def _behaviours_of(source: pytest.Item | pytest.TestReport) -> list[str]:
    return next((value for name, value in source.user_properties if name == _PROPERTY), [])  # type: ignore[misc]
