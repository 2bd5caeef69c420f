"""Flows that are measured on clusters. Each notes how long it took from the map until every result was there."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any

from benchmarks.contenders import workloads
from benchmarks.contenders.cases import Case, Expected, completed, times_ns
from benchmarks.watching import received_bytes
from core_engine import flow, task
from core_engine.tasks import MapOptions, Task

identity = task(workloads.identity)
nap = task(workloads.nap)
make_value = task(workloads.make_value)
change_value = task(workloads.change_value)
first_of_value = task(workloads.first_of_value)

SINGLY = MapOptions(batch_size=1)

# How many bytes came to the flow's process over TCP during the last chain.
received = [0]


def _identities(mapped: Task[..., Any], name: str) -> Any:
    @flow(name=name)
    def identities(size: int) -> int:
        start = perf_counter_ns()
        total = sum(future.result() for future in mapped.map(range(size)))
        times_ns.append(perf_counter_ns() - start)
        return total

    return identities


def _one_by_one(name: str) -> Any:
    @flow(name=name)
    def one_by_one(size: int) -> int:
        start = perf_counter_ns()
        total = sum(identity.submit(number).result() for number in range(size))
        times_ns.append(perf_counter_ns() - start)
        return total

    return one_by_one


def _naps(mapped: Task[..., Any], kind: str, name: str) -> Any:
    @flow(name=name)
    def naps(size: int) -> int:
        seconds = workloads.durations(kind, size)
        start = perf_counter_ns()
        assert [future.result() for future in mapped.map(seconds)] == seconds
        times_ns.append(perf_counter_ns() - start)
        return len(seconds)

    return naps


@flow
def chain(size: int) -> int:
    before, start = received_bytes(), perf_counter_ns()
    # Nobody holds the futures of the first two maps: their values may go as soon as they are used.
    last = first_of_value.map(change_value.map(make_value.map(range(size))))
    total = sum(future.result() for future in last)
    times_ns.append(perf_counter_ns() - start)
    received[0] = received_bytes() - before
    return total


def _identity_case(name: str, mapped: Task[..., Any]) -> dict[str, Case]:
    return {name: Case(_identities(mapped, name), lambda size: completed(size, size * (size - 1) // 2))}


def _nap_cases(kind: str) -> dict[str, Case]:
    def expected(size: int) -> Expected:
        count = len(workloads.durations(kind, size))
        return completed(count, count)

    named = {kind: nap, f"{kind}, singly": nap.with_options(map_options=SINGLY)}
    return {name: Case(_naps(mapped, kind, name), expected) for name, mapped in named.items()}


CASES: dict[str, Case] = {
    **_identity_case("identities", identity),
    **_identity_case("identities, singly", identity.with_options(map_options=SINGLY)),
    # A run that is no child of a map says so at its end, in a line of its own.
    "one after another": Case(
        _one_by_one("one after another"), lambda size: completed(size, size * (size - 1) // 2, lines=size)
    ),
    **{name: case for kind in workloads.KINDS for name, case in _nap_cases(kind).items()},
    "chain of maps": Case(chain, lambda size: completed(3 * size, workloads.chain_result(size))),
}
