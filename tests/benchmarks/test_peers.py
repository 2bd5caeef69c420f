"""The comparison with other engines, with this one alone: the others are not installed for tests."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks import peers
from benchmarks.processes import ROOT


@pytest.mark.timeout(180)
def test_this_engine_is_measured_as_the_others_are(tmp_path):
    rows = {row.name: row for row in peers.measure((peers.THIS,), 5, 1, 60.0, tmp_path)}

    from core_engine import __version__

    threads = rows[f"core_engine ({__version__}): mapped, threads"]
    assert threads.void == []
    assert threads.figures["durable_us"].median >= threads.figures["returned_us"].median > 0
    assert threads.figures["x_core_engine"].median == 1.0
    assert rows["core_engine: trivial flow, fresh process"].figures["seconds"].median > 0


@pytest.mark.timeout(180)
def test_this_engine_is_measured_on_clusters_as_the_others_are(tmp_path):
    this = replace(peers.ON_CLUSTERS[0], runners=("dask",))

    (row,) = peers.measure_on_clusters((this,), 5, 1, 60.0, tmp_path)

    assert row.void == []
    assert row.figures["flow_seconds"].median > row.figures["mapped_seconds"].median > 0
    assert row.figures["x_core_engine"].median == 1.0


@pytest.mark.timeout(180)
def test_no_round_starts_once_the_time_is_over(tmp_path, capsys):
    rows = peers.measure((peers.THIS,), 5, 3, 0.0, tmp_path)

    assert "0 of 3 rounds were measured" in capsys.readouterr().err
    assert [len(row.figures) for row in rows if "mapped" in row.name] == [0, 0]


def test_each_of_the_others_has_an_environment_and_a_home_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://somewhere")

    for peer in (*peers.PEERS, *peers.ON_CLUSTERS[1:]):
        environment = peer.environment(tmp_path / peer.name)
        assert peer.python.startswith(str(ROOT / "benchmarks" / ".peers" / peer.name))
        assert environment["PREFECT_HOME"] == str(tmp_path / peer.name)
        assert "PREFECT_API_URL" not in environment
    assert peers.THIS.python == sys.executable


def test_cpu_time_of_children_counts_those_that_live():
    before = peers.children_cpu_seconds(os.getpid())  # other tests may have left a helper of multiprocessing
    busy = "import sys; sum(range(3_000_000)); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()

        assert peers.children_cpu_seconds(os.getpid()) > before

        child.communicate()
