"""Clusters of Dask and Ray: flows whose task runs are recorded, against the bare engines on the same cluster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cluster_hosts import ENVIRONMENT, Cluster, running_cluster
from benchmarks.contenders import workloads
from benchmarks.interleaving import interleave
from benchmarks.plans import Plan
from benchmarks.processes import NO_CONSOLE, Spec
from benchmarks.rows import Column, Row, Section, ratios, row_of
from benchmarks.verification import check_round

RAW = {"dask": "benchmarks.contenders.raw_clusters:RawDask", "ray": "benchmarks.contenders.raw_clusters:RawRay"}
ENGINE = "benchmarks.contenders.engine:EngineOnCluster"
SKEWED = workloads.KINDS[3:]
CASES = ("identities", "identities, singly", "one after another", *workloads.KINDS, "chain of maps")
FEW_CASES = ("identities", SKEWED[1], "chain of maps")


def measure(kind: str, plan: Plan, work: Path) -> list[Row]:
    """Measures every workload on a cluster of `kind`."""
    with running_cluster(kind, work / "cluster") as cluster:
        cases = CASES if plan.all_cluster_cases else FEW_CASES
        return [row for case in cases for row in _measure_case(cluster, plan, work, case)]


def _measure_case(cluster: Cluster, plan: Plan, work: Path, case: str) -> list[Row]:
    """Measures the bare engine and this one, and for tasks of unequal length this one without blocks."""
    size, singly = _size(plan, case), case in SKEWED
    specs = [_spec(f"{case}: bare {cluster.kind}", RAW[cluster.kind], cluster, case, records=False)]
    specs.append(_spec(f"{case}: recorded", ENGINE, cluster, case))
    if singly:
        specs.append(_spec(f"{case}: recorded, without blocks", ENGINE, cluster, f"{case}, singly"))
    measured = interleave(specs, size, plan.rounds, work, check_round)
    against_bare = ratios(list(measured.values()), measured[specs[0].name], _seconds)
    against_unpacked = ratios([measured[specs[1].name]], measured[specs[-1].name], _seconds) if singly else {}
    count, figures = _count(case, size), _figures(case, size)
    rows = []
    for name, contender in measured.items():
        row = row_of(contender, count, figures)
        if name in against_bare:
            row.figures["x_bare"] = against_bare[name]
        if name in against_unpacked:
            row.figures["x_unpacked"] = against_unpacked[name]
        rows.append(row)
    return rows


def _spec(name: str, target: str, cluster: Cluster, case: str, records: bool = True) -> Spec:
    arguments = {"case": case, "kind": cluster.kind, "address": cluster.address, "host": cluster.host}
    return Spec(name, target, arguments, {**NO_CONSOLE, **ENVIRONMENT}, records)


def _size(plan: Plan, case: str) -> int:
    sizes = {
        "identities": plan.cluster_items,
        "identities, singly": plan.cluster_single,
        "one after another": plan.cluster_single // 5,
        "chain of maps": plan.cluster_chain,
    }
    return sizes.get(case, plan.cluster_milliseconds)


def _seconds(round: dict[str, Any]) -> float:
    return float(round["times_ns"][0]) / 1e9


def _count(case: str, size: int) -> int:
    return len(workloads.durations(case, size)) if case in workloads.KINDS else size


def _figures(case: str, size: int) -> dict[str, Callable[[dict[str, Any]], float]]:
    figures: dict[str, Callable[[dict[str, Any]], float]] = {"seconds": _seconds}
    if case == "one after another" or case.startswith("identities"):
        figures["per_second"] = lambda round: size / _seconds(round)
    elif case in workloads.KINDS:
        ideal = workloads.ideal_seconds(workloads.durations(case, size))
        figures["x_ideal"] = lambda round: _seconds(round) / ideal
    else:
        made = 2 * size * workloads.MEGABYTE
        figures["share_received"] = lambda round: 100 * round["received_bytes"] / made
        figures["cluster_peak_mb"] = lambda round: round["cluster_peak_bytes"] / 1e6
    return figures


NOTE = (
    "Two workers with one thread each, in one cluster that all contenders use in turn. The clock runs from the map "
    "until every result is there; connecting, and the start of Ray's workers, of which each process has its own, are "
    "not in it, for none. *Recorded*: every task run is in the store with "
    "its states when its result is seen, and is read back after each round. *x bare*: time as a multiple of the bare "
    "engine's. *x unpacked*: of the flow whose items travel singly. *x ideal*: of the best schedule. *One after "
    "another*: each task is submitted when the result of the one before is there. The chain maps three functions over "
    "values of 1 MB; *received*: what came to the flow's process over TCP, as a share of the values' bytes; *peak*: of "
    "all the cluster's processes."
)

COLUMNS = (
    Column("seconds", "seconds", 3, spread=True),
    Column("tasks/s", "per_second"),
    Column("x bare", "x_bare", 2, spread=True),
    Column("x unpacked", "x_unpacked", 3),
    Column("x ideal", "x_ideal", 3),
    Column("received %", "share_received", 2),
    Column("peak MB", "cluster_peak_mb"),
)

DASK = Section("dask", "On a cluster of Dask", NOTE, COLUMNS, partial(measure, "dask"))
RAY = Section("ray", "On a cluster of Ray", NOTE, COLUMNS, partial(measure, "ray"))
