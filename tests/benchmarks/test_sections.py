"""Every section of the benchmark, in miniature: it measures, reads back, and can be shown."""

import dataclasses
import json

import pytest

from benchmarks import report, tables
from benchmarks.__main__ import main
from benchmarks.plans import MINIATURE
from benchmarks.sections import SECTIONS

# Those that start clusters, and many processes that connect to them, are slow.
SLOW = {"dask", "ray"}
MARKED = [
    pytest.param(section, id=section.key, marks=pytest.mark.faults if section.key in SLOW else ())
    for section in SECTIONS
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("section", MARKED)
def test_a_section_measures_every_row_and_finds_the_store_exact(section, tmp_path):
    rows = section.measure(MINIATURE, tmp_path)

    assert rows
    for row in rows:
        assert row.void == []
        assert row.figures, row.name
        assert all(figure.low <= figure.median <= figure.high for figure in row.figures.values())
    shown = {column.figure for column in section.columns}
    assert shown <= {figure for row in rows for figure in row.figures}


@pytest.mark.timeout(180)
def test_the_command_writes_json_and_prints_a_table_and_keeps_sections_that_it_did_not_measure(tmp_path, capsys):
    output = tmp_path / "results.json"
    other = {"key": "peers", "title": "Others", "note": "", "started": "", "seconds": 1, "commit": "x", "columns": []}
    output.write_text(json.dumps({"sections": [{**other, "rows": []}]}))

    code = main(["--plan", "miniature", "--only", "start", "--output", str(output), "--work", str(tmp_path / "work")])

    document = json.loads(output.read_text())
    assert code in (0, 1)  # 1 says that a figure is unacceptable, which a busy machine may make it
    assert [section["key"] for section in document["sections"]] == ["start", "peers"]
    assert document["engine"]["synchronous"] == "normal"
    assert document["engine"]["flush_window_ms"] > 0
    assert "| import core_engine |" in capsys.readouterr().out
    assert list((tmp_path / "work").iterdir()) == []


def test_every_budget_belongs_to_a_row_that_is_measured():
    from benchmarks.budgets import BUDGETS
    from benchmarks.sections import clusters, latency, logs, mapped, memory

    on_clusters = {f"{case}: recorded" for case in clusters.CASES}

    rows = {
        "mapped": {spec.name for spec in mapped.SPECS},
        "latency": {spec.name for spec in latency.SPECS},
        "logs": {spec.name for spec in logs.SPECS},
        "memory": set(memory.MOMENTS),
        "dask": on_clusters,
        "ray": on_clusters,
    }

    assert {key for key in BUDGETS if key[0] != "start"} <= {
        (key, name) for key, names in rows.items() for name in names
    }


def test_the_readme_has_the_place_for_the_results_and_its_text_around_them_stays(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(tables.README.read_text())
    before, after = readme.read_text().split("<!-- begin results -->")[0], "<!-- end results -->"

    tables.put_into_readme("results", "a | b", readme)

    text = readme.read_text()
    assert text.startswith(before)
    assert "<!-- begin results -->\na | b\n<!-- end results -->" in text
    assert text.split(after)[1] == tables.README.read_text().split(after)[1]


def test_a_readme_without_the_place_is_refused(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing")

    with pytest.raises(ValueError, match="begin results"):
        tables.put_into_readme("results", "a", readme)


def test_the_full_plan_is_of_the_sizes_and_rounds_that_were_promised():
    from benchmarks.plans import FULL

    assert FULL.rounds >= 5
    assert FULL.map_sizes == (1_000, 10_000, 100_000)
    assert FULL.processes == 20
    assert {field.name for field in dataclasses.fields(FULL)} == {field.name for field in dataclasses.fields(MINIATURE)}


def test_a_result_above_its_bound_is_named(tmp_path):
    from benchmarks.measuring import summarise
    from benchmarks.rows import Row
    from benchmarks.sections import mapped

    rows = [Row("sequential", 1_000, {"cpu_us": summarise([99.0, 101.0, 120.0])})]
    facts = {"engine": {"commit": "x"}}
    from datetime import UTC, datetime

    section = report.section_to_json(mapped.SECTION, rows, datetime.now(UTC), 1.0, facts)

    assert report.unacceptable({"sections": [section]}) == [
        "Mapped no-ops: sequential: cpu_us 101 (target 25, unacceptable above 100)"
    ]
    assert "UNACCEPTABLE, 4.0 x target" in tables.section(section)
